//! `matformer completions` and `matformer man`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use matformer::core::fs;
use serde_json::json;

use super::print_json;
use crate::{
    args::{Args, CompletionsArgs, ManArgs},
    failure::{Hinted, OrBadInput},
    output::{self, out},
};

/// `matformer completions SHELL`
pub fn run(args: &CompletionsArgs, json: bool) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "matformer", &mut script);
    let script = String::from_utf8_lossy(&script);
    if json {
        return print_json(&json!({ "shell": args.shell.to_string(), "script": script }));
    }
    output::text(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// `matformer man`
pub fn man(args: &ManArgs, json: bool) -> Result<ExitCode> {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    let Some(dir) = &args.out else {
        let (_, page) = page(&program)?;
        if json {
            return print_json(&json!({ "page": page }));
        }
        output::text(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut pages = Vec::new();
    pages_of(&program, &mut pages)?;
    let files = write(dir, &pages)?;
    if json {
        return print_json(&json!({ "files": files }));
    }
    out!("{}: {} manual pages", dir.display(), files.len())?;
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and those below it, with the names of their files.
fn pages_of(command: &Command, pages: &mut Vec<(String, String)>) -> Result<()> {
    pages.push(page(command)?);
    command.get_subcommands().try_for_each(|below| pages_of(below, pages))
}

fn page(command: &Command) -> Result<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().version(version).long_version(version));
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok((man.get_filename(), String::from_utf8_lossy(&page).into_owned()))
}

fn write(dir: &Path, pages: &[(String, String)]) -> Result<Vec<String>> {
    if dir.is_file() {
        return Err(Hinted {
            message: format!("{}: a file; expected a folder", dir.display()),
            hint: "name another --out".to_owned(),
        })
        .bad_input();
    }
    fs::create_dir_all(dir).bad_input()?;
    let mut files = Vec::new();
    for (name, page) in pages {
        let path = dir.join(name);
        fs::write_atomic(&path, page.as_bytes())?;
        files.push(path.display().to_string());
    }
    Ok(files)
}
