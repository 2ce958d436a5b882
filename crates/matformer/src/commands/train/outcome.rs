//! How a run ended, for people and for programs.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::train::Outcome;
use serde_json::{Value, json};

use super::target::Target;
use crate::{
    commands::{Context, print_json},
    failure::INTERRUPTED,
    logging::say,
};

pub fn say(outcome: &Outcome, dir: &Path) {
    let left_out = match outcome.skipped {
        0 => String::new(),
        n => format!(", {n} of them left out"),
    };
    match (outcome.interrupted, outcome.steps) {
        (true, 0) => say!(
            "interrupted before the first step; begin again with: matformer train {} --resume",
            dir.display()
        ),
        (true, step) => say!(
            "interrupted after step {step}, saved; go on with: matformer train {} --resume",
            dir.display()
        ),
        (false, n) => say!("{}: trained {}{left_out}", dir.display(), steps(n)),
    }
    if let Some(overfit) = &outcome.overfit {
        say!("{overfit}");
        if let Some(causes) = &overfit.causes {
            say!("hint: {causes}");
        }
    }
}

/// The end of a run that had ended before.
pub fn complete(context: &Context, target: &Target) -> Result<ExitCode> {
    print(context, result(target, target.run.train.steps, false))?;
    Ok(ExitCode::SUCCESS)
}

/// The end of a run.
pub fn done(context: &Context, target: &Target, outcome: &Outcome) -> Result<ExitCode> {
    let mut result = result(target, outcome.steps, outcome.interrupted);
    result["skipped"] = outcome.skipped.into();
    if let Some(overfit) = &outcome.overfit {
        result["overfit"] = serde_json::to_value(overfit)?;
    }
    print(context, result)?;
    Ok(match outcome.interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}

fn result(target: &Target, steps: u64, interrupted: bool) -> Value {
    json!({ "run": target.dir.display().to_string(), "steps": steps, "interrupted": interrupted })
}

fn print(context: &Context, result: Value) -> Result<()> {
    if context.json {
        print_json(&result)?;
    }
    Ok(())
}

/// `1 step`, `2 steps`.
pub fn steps(n: u64) -> String {
    match n {
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    }
}
