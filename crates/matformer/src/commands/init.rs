//! `matformer init`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use matformer::{
    core::fs,
    run::{starter, typed},
    run_file::Starter,
};
use serde::Serialize;

use super::show;
use crate::{
    args::InitArgs,
    failure::{Hinted, OrBadInput},
    output::out,
};

/// `init --json`: stable.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    kind: &'static str,
    preset: &'a str,
    found: &'a str,
}

pub fn run(args: &InitArgs, json: bool) -> Result<ExitCode> {
    let kind = args.kind;
    let starter = starter(&args.data, kind, args.preset.as_deref())?;
    let file = file(args.target.as_deref(), &starter).bad_input()?;
    check_target(&file, args.force).bad_input()?;
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).bad_input()?;
    }
    fs::write_atomic(&file, starter.page(&file)?.as_bytes())?;
    let (kind, preset, found) = (starter.kind().called().data, starter.preset(), starter.found());
    show(json, &Written { file: &file, kind, preset, found }, print)
}

fn print(written: &Written<'_>) -> Result<()> {
    let Written { file, preset, found, .. } = written;
    out!("{}: {found}, preset {preset}", file.display())?;
    let train = |more: &[&str]| {
        let file = file.display().to_string();
        typed::command([&["train", &file][..], more].concat())
    };
    out!("next: {}", train(&["--dry-run"]))?;
    out!("      {}", train(&[]))
}

/// The file that is written.
fn file(target: Option<&Path>, starter: &Starter) -> Result<PathBuf, Hinted> {
    let named = || PathBuf::from(format!("{}.toml", starter.name()));
    match target {
        None => Ok(named()),
        Some(folder) if folder.is_dir() => Ok(folder.join(named())),
        Some(path) => match path.extension() {
            None => Ok(path.join(named())),
            Some(suffix) if suffix == "toml" => Ok(path.to_owned()),
            Some(_) => Err(Hinted {
                message: format!("{}: not the name of a run file", path.display()),
                hint: "expected a name that ends in .toml, or a folder".to_owned(),
            }),
        },
    }
}

/// Refuses a file that is there, unless it may be overwritten.
fn check_target(file: &Path, force: bool) -> Result<(), Hinted> {
    let refuse = |message: String, hint: &str| Err(Hinted { message, hint: hint.to_owned() });
    if file.is_dir() {
        let message = format!("{}: a folder; expected a file", file.display());
        return refuse(message, "name another file");
    }
    if file.exists() && !force {
        let message = format!("{}: exists", file.display());
        return refuse(message, "name another file, or overwrite it with --force");
    }
    Ok(())
}
