//! Tells the program which commit it is built from, where that is known.

use std::{path::Path, process::Command};

/// The sources of this crate and those below it.
const SOURCES: &str = "..";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]) else { return };
    println!("cargo::rerun-if-changed={head}");
    // Where no source changes, a commit does not build the program again: the sources of the commit that it
    // names are still those that it is built from.
    let crates = std::fs::read_dir(SOURCES).into_iter().flatten().flatten();
    let sources: Vec<String> = crates
        .map(|dir| dir.path().join("src"))
        .filter(|dir| dir.is_dir())
        .map(|dir| dir.display().to_string())
        .collect();
    sources.iter().for_each(|dir| println!("cargo::rerun-if-changed={dir}"));
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return };
    let status = ["status", "--porcelain", "--"].into_iter();
    let status: Vec<&str> = status.chain(sources.iter().map(String::as_str)).collect();
    let is_modified = git(&status).is_some_and(|files| !files.is_empty());
    let modified = if is_modified { " (modified)" } else { "" };
    println!("cargo::rustc-env=MATFORMER_COMMIT={commit}{modified}");
}

/// What git says in this folder, if this is a checkout, and not an archive that was unpacked in another one.
fn git(arguments: &[&str]) -> Option<String> {
    if !Path::new("../../.git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
