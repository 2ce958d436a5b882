//! `train --dry-run`: what a run would cost.

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::{count, counted, duration, memory, operations},
    run::{
        Kind,
        train::{DryRun, Target, dry_run},
    },
    run_file::RunFile,
};

use crate::{
    commands::{Context, show, table},
    output::out,
};

pub fn run<K: Kind>(target: &Target<K>, context: &Context) -> Result<ExitCode> {
    let (run, found) = dry_run(target, &context.session)?;
    show(context.json, &found, |found| print(&run, found))
}

/// Prints what a run would cost.
fn print<K: Kind>(run: &RunFile<K>, found: &DryRun) -> Result<()> {
    let mut table = table::plain();
    table.set_header(["", "width", "params", "non-embedding"]);
    for size in &found.granularities {
        let numbers =
            [size.width.to_string(), count(size.params as f64), count(size.non_embedding as f64)];
        table.add_row([vec![size.name.clone()], numbers.to_vec()].concat());
    }
    out!("{table}")?;
    let parts = [
        ("program", found.memory.parts.program),
        ("weights", found.memory.parts.weights),
        ("gradients", found.memory.parts.gradients),
        ("moments", found.memory.parts.moments),
        ("teacher", found.memory.parts.teacher),
        ("moving average", found.memory.parts.average),
        ("outer step", found.memory.parts.outer),
        ("activations", found.memory.parts.activations),
        ("logits", found.memory.parts.logits),
    ];
    let parts = parts.iter().filter(|(_, n)| *n > 0.0);
    let parts: Vec<String> = parts.map(|(name, n)| format!("{name} {}", memory(*n))).collect();
    let epochs = match found.epochs {
        Some(epochs) => format!(", {epochs:.2} epochs"),
        None => String::new(),
    };
    let available = match found.memory.available {
        Some(n) => format!("; {} are available", memory(n as f64)),
        None => String::new(),
    };
    out!(
        "{:<8} {} in {}{epochs}",
        K::TARGETS,
        count(found.tokens as f64),
        counted(found.steps as usize, "step"),
    )?;
    if !found.prepared {
        out!("data     {}", K::not_prepared(run))?;
    }
    out!("FLOPs    {} with draw {}", operations(found.flops), run.train.draw)?;
    out!(
        "time     about {}: {:.3} s a step, by {} timed, {} evaluations",
        duration(found.seconds),
        found.seconds_per_step,
        found.timed_steps,
        if found.prepared { "and" } else { "without" }
    )?;
    out!("memory   about {}: {}{available}", memory(found.memory.peak), parts.join(", "))?;
    out!("nothing was written")
}
