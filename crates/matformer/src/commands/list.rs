//! `matformer list`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::units::count,
    run::{
        chain,
        runs::{Found, Recorded, Role, find},
    },
};
use serde_json::Value;

use super::{print_json, table};
use crate::{args::ListArgs, failure::OrBadInput, output::out};

pub fn run(args: &ListArgs, as_json: bool) -> Result<ExitCode> {
    let found = find(&args.dir, args.depth).bad_input()?;
    if as_json {
        return print_json(&found.iter().map(to_json).collect::<Result<Vec<_>>>()?);
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

/// What is recorded, or why that cannot be read: the same keys for each folder.
fn to_json(found: &Found) -> Result<Value> {
    let (mut value, error) = match &found.recorded {
        Ok(recorded) => (serde_json::to_value(recorded)?, Value::Null),
        Err(error) => (Value::Object(Recorded::unknown()), chain(error).into()),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.shift_insert(0, "path".to_owned(), found.path.display().to_string().into());
        fields.insert("error".to_owned(), error);
    }
    Ok(value)
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
        format!("{} {}", run.kind, role(run.role)),
        run.largest().map_or("-".to_owned(), |size| count(size.params as f64)),
        names.join(" "),
        steps(run),
        last(run).unwrap_or("-".to_owned()),
        run.date.clone().unwrap_or("-".to_owned()),
    ]
}

/// What a folder is, in a word.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Run => "run",
        Role::Slice => "slice",
        Role::Import => "import",
        Role::Model => "model",
    }
}

/// How far a run is.
pub fn steps(run: &Recorded) -> String {
    match run.total_steps {
        Some(_) if run.finished => format!("{}, finished", run.steps),
        Some(total) => format!("{}/{total}", run.steps),
        None if run.steps == 0 => "-".to_owned(),
        None => run.steps.to_string(),
    }
}

/// How good the largest size is by the last number that is recorded of it.
fn last(run: &Recorded) -> Option<String> {
    let name = &run.largest()?.name;
    let measured = |metric| run.measurement(name, metric).map(|found| found.value);
    if let Some(top1) = measured("top1") {
        return Some(format!("{name} {:.1} %", 100.0 * top1));
    }
    let training = || run.held_out.as_ref()?.loss.get(name).copied();
    Some(format!("{name} {:.3}", measured("loss").or_else(training)?))
}
