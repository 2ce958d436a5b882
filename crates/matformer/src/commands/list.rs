//! `matformer list`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::units::count,
    run::{
        self, chain,
        runs::{Found, Recorded, find},
    },
};

use super::{print_json, table};
use crate::{args::ListArgs, failure::OrBadInput, output::out};

pub fn run(args: &ListArgs, as_json: bool) -> Result<ExitCode> {
    let found = find(&args.dir, args.depth).bad_input()?;
    if as_json {
        return print_json(&found.iter().map(Found::to_json).collect::<run::Result<Vec<_>>>()?);
    }
    if found.is_empty() {
        out!("{}: no run and no model, {} folders deep", args.dir.display(), args.depth)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = table::plain();
    table.set_header(["", "kind", "params", "sizes", "steps", "held-out", "date (UTC)"]);
    for Found { path, recorded } in &found {
        match recorded {
            Ok(recorded) => {
                table.add_row(row(&name(path, &args.dir), recorded));
            }
            Err(_) => {
                table.add_row([&name(path, &args.dir), "damaged"]);
            }
        }
    }
    out!("{table}")?;
    for Found { path, recorded } in &found {
        let problems = match recorded {
            Ok(recorded) => recorded.problems.clone(),
            Err(error) => vec![chain(error)],
        };
        for problem in problems {
            out!("{}: {problem}", name(path, &args.dir))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The path below the folder that was looked in.
fn name(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
    below.unwrap_or(path).display().to_string()
}

fn row(name: &str, run: &Recorded) -> [String; 7] {
    let names: Vec<&str> = run.sizes.iter().map(|size| size.name.as_str()).collect();
    [
        name.to_owned(),
        format!("{} {}", run.kind, run.role.name()),
        run.largest().map_or("-".to_owned(), |size| count(size.params as f64)),
        names.join(" "),
        run.progress(),
        last(run).unwrap_or("-".to_owned()),
        run.date.clone().unwrap_or("-".to_owned()),
    ]
}

/// How good the largest size is by the last number that is recorded of it.
fn last(run: &Recorded) -> Option<String> {
    let name = &run.largest()?.name;
    match run.measurement(name, "top1") {
        Some(top1) => Some(format!("{name} {:.1} %", 100.0 * top1.value)),
        None => Some(format!("{name} {:.3}", run.loss(name)?.nats)),
    }
}
