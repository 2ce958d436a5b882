//! How a run ended, for people and for programs.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::units::{counted, memory},
    eval::Stages,
    run::{
        Kind,
        train::{Target, skipped},
    },
    study,
    train::Outcome,
};
use serde_json::{Value, json};

use crate::{
    commands::{Context, print_json, table},
    failure::INTERRUPTED,
    interrupt::Signal,
    logging::say,
    output::out,
};

/// Says how a run ended; `signal` is what interrupted it, where one did, and `resume` the command that
/// goes on with it.
pub fn say(outcome: &Outcome, signal: Option<Signal>, dir: &Path, resume: &str) {
    let by = signal.map_or(String::new(), |signal| format!("{}: ", signal.name));
    let left_out = match outcome.skipped {
        0 => String::new(),
        n => format!(", {n} of them left out"),
    };
    match (outcome.interrupted, outcome.steps) {
        (true, 0) => say!("{by}interrupted before the first step; begin again with: {resume}"),
        (true, step) => {
            say!("{by}interrupted after step {step}, saved; go on with: {resume}");
        }
        (false, n) => {
            say!("{}: trained {}{left_out}", dir.display(), counted(n as usize, "step"));
            if dir.join(Stages::FILE).exists() && resume.starts_with("matformer train") {
                say!("note: `matformer elastify … --resume` measures it beside the original");
            }
        }
    }
    if outcome.sent > 0 {
        say!("sent to the other ranks: {} from each", memory(outcome.sent as f64));
    }
    if let Some(overfit) = &outcome.overfit {
        say!("{overfit}");
        if let Some(causes) = &overfit.causes {
            say!("hint: {causes}");
        }
    }
}

/// The exit code of a run.
pub fn code(outcome: &Outcome) -> ExitCode {
    if outcome.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS }
}

/// The end of a run that had ended before.
pub fn complete<K: Kind>(context: &Context, target: &Target<K>) -> Result<ExitCode> {
    let mut result = result(target, target.run.train.steps, false);
    result["skipped"] = skipped(&target.dir).into();
    print(context, result)?;
    Ok(ExitCode::SUCCESS)
}

/// The end of a run.
pub fn done<K: Kind>(
    context: &Context,
    target: &Target<K>,
    outcome: &Outcome,
    measured: Option<Value>,
) -> Result<ExitCode> {
    let mut result = result(target, outcome.steps, outcome.interrupted);
    result["skipped"] = outcome.skipped.into();
    if outcome.sent > 0 {
        result["sent_bytes"] = outcome.sent.into();
    }
    if let Some(overfit) = &outcome.overfit {
        result["overfit"] = serde_json::to_value(overfit)?;
    }
    if let (Some(measured), Some(fields)) = (measured, result.as_object_mut()) {
        fields.insert("measured".to_owned(), measured);
    }
    print(context, result)?;
    Ok(code(outcome))
}

/// Measures every granularity that was trained on all held-out data, beside what that gives without a
/// model.
pub fn measure<K: Kind>(context: &Context, dir: &Path, prepared: &K::Prepared) -> Result<Value> {
    let (results, floor) = study::at_end::<K>(dir, prepared, &context.session)?;
    if !context.json {
        table::print(&results, &[])?;
        out!("{}", K::say_floor(&floor, &results))?;
    }
    Ok(json!({ "results": results, "floor": floor }))
}

fn result<K: Kind>(target: &Target<K>, steps: u64, interrupted: bool) -> Value {
    json!({ "run": target.dir.display().to_string(), "steps": steps, "interrupted": interrupted })
}

fn print(context: &Context, result: Value) -> Result<()> {
    if context.json {
        print_json(&result)?;
    }
    Ok(())
}
