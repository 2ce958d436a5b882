//! `cargo xtask crates`: the text of the demo, Rust sources of crates that this workspace builds on, at the versions
//! of its Cargo.lock. Each is in the build on Linux, macOS and Windows.

use std::{
    cmp::Reverse,
    collections::HashSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::build;

/// Where they go: a folder of each split, and in it a folder of each crate.
const FOLDER: &str = "runs/.crates";
/// What is there.
const CONTENTS: &str = "contents.json";

/// Crates to train on.
const TRAIN: [&str; 58] = [
    "aho-corasick",
    "anyhow",
    "askama",
    "askama_derive",
    "askama_parser",
    "burn-autodiff",
    "burn-backend",
    "burn-core",
    "burn-dataset",
    "burn-flex",
    "burn-ir",
    "burn-nn",
    "burn-optim",
    "burn-std",
    "burn-tensor",
    "burn-train",
    "bytes",
    "clap",
    "clap_builder",
    "clap_derive",
    "crossbeam-channel",
    "crossbeam-epoch",
    "crossbeam-utils",
    "crossterm",
    "cubecl-common",
    "derive_more",
    "derive_more-impl",
    "futures-util",
    "hashbrown",
    "indexmap",
    "log",
    "memchr",
    "nom",
    "num-traits",
    "parking_lot",
    "plotters",
    "proc-macro2",
    "quote",
    "ratatui",
    "ratatui-core",
    "ratatui-widgets",
    "rayon",
    "rayon-core",
    "regex",
    "regex-automata",
    "regex-syntax",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "syn",
    "time",
    "tokenizers",
    "toml",
    "toml_edit",
    "toml_parser",
    "tracing-subscriber",
    "winnow",
];
/// Crates to measure on, of other projects.
const HELD_OUT: [&str; 7] =
    ["bitflags", "comfy-table", "getrandom", "rmp", "semver", "tempfile", "walkdir"];

/// Copies the sources, unless they are there. A held-out file that a training crate has as well is left out.
pub fn write() -> Result<()> {
    let shell = build::shell()?;
    let packages = packages(&shell)?;
    let find = |names: &[&str]| names.iter().map(|name| newest(&packages, name)).collect();
    let (train, held_out): (Result<Vec<_>>, Result<Vec<_>>) = (find(&TRAIN), find(&HELD_OUT));
    let splits = [("train", train?), ("held_out", held_out?)];
    let listed = splits.each_ref().map(|(split, found)| {
        json!({ *split: found.iter().map(|package| package["id"].clone()).collect::<Vec<_>>() })
    });
    let contents = format!("{}\n", serde_json::to_string_pretty(&listed)?);
    let written = Path::new(FOLDER).join(CONTENTS);
    if shell.read_file(&written).is_ok_and(|there| there == contents) {
        return Ok(());
    }
    shell.remove_path(FOLDER)?;
    let mut seen = HashSet::new();
    let mut files = 0;
    for (split, found) in splits {
        let mut own = HashSet::new();
        for package in found {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
            let (from, name) = (manifest.parent(), package["name"].as_str());
            let (from, name) = (from.context("cargo metadata: path")?, name.unwrap_or_default());
            let to = Path::new(FOLDER).join(split).join(name);
            for file in sources(from)? {
                let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
                if !seen.contains(&text) {
                    shell.write_file(to.join(file.strip_prefix(from)?), &text)?;
                    files += 1;
                    own.insert(text);
                }
            }
        }
        seen = own;
    }
    // Last: a folder that has it is complete.
    shell.write_file(&written, contents)?;
    eprintln!("{FOLDER}: {files} files of {} crates", TRAIN.len() + HELD_OUT.len());
    Ok(())
}

/// What cargo knows of the dependencies, on this platform: it does not ask for the crates of others.
fn packages(shell: &Shell) -> Result<Vec<Value>> {
    let version = cmd!(shell, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?;
    let metadata =
        cmd!(shell, "cargo metadata --format-version 1 --locked --filter-platform {host}");
    let metadata: Value = serde_json::from_str(&metadata.quiet().read()?)?;
    Ok(metadata["packages"].as_array().context("cargo metadata: packages")?.clone())
}

/// A dependency by its name; of several versions, the newest.
fn newest<'a>(packages: &'a [Value], name: &str) -> Result<&'a Value> {
    let version = |package: &&Value| {
        let version = package["version"].as_str().unwrap_or_default();
        let numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        Reverse(numbers.collect::<Vec<u64>>())
    };
    let mut found: Vec<&Value> = packages
        .iter()
        .filter(|package| package["name"] == name && !package["source"].is_null())
        .collect();
    found.sort_by_key(version);
    found.first().copied().with_context(|| format!("`{name}` is no dependency by Cargo.lock"))
}

/// The Rust files below a folder; what is hidden is left out.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        } else if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_a_dependency_is_taken() {
        let package = |version: &str| json!({ "name": "a", "version": version, "source": "x" });
        let packages = ["0.9.3", "0.10.1", "0.2.0"].map(package);
        assert_eq!(newest(&packages, "a").unwrap()["version"], "0.10.1");
        let own = [json!({ "name": "b", "version": "1.0.0", "source": null })];
        assert!(newest(&own, "b").unwrap_err().to_string().contains("`b`"));
    }

    #[test]
    fn no_crate_is_in_both_splits_and_all_are_dependencies() {
        assert!(HELD_OUT.iter().all(|name| !TRAIN.contains(name)));
        let packages = packages(&build::shell().unwrap()).unwrap();
        for name in TRAIN.iter().chain(&HELD_OUT) {
            newest(&packages, name).unwrap();
        }
    }
}
