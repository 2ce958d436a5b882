//! `matformer compare`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::{count, duration, short},
    run::{
        self,
        runs::{Comparison, Recorded, compare},
    },
};
use serde_json::json;

use super::{print_json, table};
use crate::{args::CompareArgs, failure::OrBadInput, logging::say, output::out};

pub fn run(args: &CompareArgs, as_json: bool) -> Result<ExitCode> {
    let read = |dir: &std::path::PathBuf| Recorded::read(dir).bad_input();
    let runs: Vec<Recorded> = args.runs.iter().map(read).collect::<Result<_>>()?;
    let names: Vec<String> = args.runs.iter().map(|dir| dir.display().to_string()).collect();
    for (name, run) in names.iter().zip(&runs) {
        run.problems.iter().for_each(|problem| say!("note: {name}: {problem}"));
    }
    let comparison = compare(&runs, &names);
    if as_json {
        let all = args.runs.iter().zip(&runs).map(|(dir, run)| run.to_json(dir));
        let all = all.collect::<run::Result<Vec<_>>>()?;
        let Comparison { differences, comparable, notes } = comparison;
        return print_json(&json!({
            "runs": all, "differences": differences, "comparable": comparable, "notes": notes,
        }));
    }
    out!("{}", sheet(&runs, &names, &comparison))?;
    for note in &comparison.notes {
        out!("note: {note}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A column for each run.
struct Sheet(comfy_table::Table);

impl Sheet {
    /// A row of this name, unless no run has it.
    fn row(&mut self, name: &str, cells: Vec<Option<String>>) {
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or("-".to_owned()));
            self.0.add_row(std::iter::once(name.to_owned()).chain(cells));
        }
    }

    /// Rows below a heading, unless no run has one of them.
    fn rows(
        &mut self,
        heading: &str,
        names: &[String],
        cell: impl Fn(&str) -> Vec<Option<String>>,
    ) {
        let found: Vec<_> = names.iter().map(|name| (name, cell(name))).collect();
        if found.iter().any(|(_, cells)| cells.iter().any(Option::is_some)) {
            self.0.add_row([heading]);
            for (name, cells) in found {
                self.row(&format!("  {name}"), cells);
            }
        }
    }
}

fn sheet(runs: &[Recorded], names: &[String], comparison: &Comparison) -> comfy_table::Table {
    let mut table = table::plain();
    table.set_header(std::iter::once(String::new()).chain(names.iter().cloned()));
    let mut sheet = Sheet(table);
    let each = |of: &dyn Fn(&Recorded) -> Option<String>| runs.iter().map(of).collect::<Vec<_>>();
    sheet.row("kind", each(&|run| Some(format!("{} {}", run.kind, run.role.name()))));
    sheet.row("steps", each(&|run| Some(run.progress())));
    sheet.row("seen", each(&|run| Some(format!("{} {}", count(run.tokens as f64), targets(run)))));
    sheet.row(
        "speed",
        each(&|run| Some(format!("{} {}/s", count(run.tokens_per_second?), targets(run)))),
    );
    sheet.row("training time", each(&|run| run.seconds.map(duration)));
    sheet.row("data", each(&|run| run.data.as_deref().map(|hash| short(hash).to_owned())));
    sheet.row("date (UTC)", each(&|run| run.date.clone()));
    let keys: Vec<String> = comparison.differences.keys().cloned().collect();
    sheet.rows("settings that differ", &keys, |key| comparison.differences[key].clone());
    let sizes = sizes(runs);
    sheet.rows("parameters", &sizes, |name| {
        let size = |run: &Recorded| {
            let size = run.sizes.iter().find(|size| size.name == name)?;
            Some(format!("{} (width {})", count(size.params as f64), size.width))
        };
        runs.iter().map(size).collect()
    });
    sheet.rows("training loss, last 50 steps of each", &sizes, |name| {
        each(&|run| run.train_loss.get(name).map(|loss| format!("{loss:.4}")))
    });
    sheet.rows("held-out loss in training", &sizes, |name| {
        each(&|run| {
            let held_out = run.held_out.as_ref()?;
            Some(format!("{:.4} (step {})", held_out.loss.get(name)?, held_out.step))
        })
    });
    for (metric, heading, factor, places) in [
        ("loss", "measured held-out loss", 1.0, 4),
        ("bits_per_byte", "measured bits per byte", 1.0, 4),
        ("top1", "measured top-1 %", 100.0, 2),
    ] {
        sheet.rows(heading, &sizes, |name| {
            each(&|run| {
                let found = run.measurement(name, metric)?;
                let (value, stderr) = (factor * found.value, found.stderr.map(|e| factor * e));
                let stderr = stderr.map_or(String::new(), |e| format!(" ± {e:.places$}"));
                Some(format!("{value:.places$}{stderr}"))
            })
        });
    }
    sheet.0
}

/// The sizes of all runs, in the order in which they come.
fn sizes(runs: &[Recorded]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for size in runs.iter().flat_map(|run| &run.sizes) {
        if !names.contains(&size.name) {
            names.push(size.name.clone());
        }
    }
    names
}

fn targets(run: &Recorded) -> &'static str {
    if run.kind == "images" { "images" } else { "tokens" }
}
