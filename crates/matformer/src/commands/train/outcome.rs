//! How a run ended, for people and for programs.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::fs,
    eval::{EvalResults, Stages},
    machine::peak_memory,
    train::{MetricsLine, MetricsLog, Outcome},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::target::Target;
use crate::{
    commands::{Context, measured, print_json, table},
    failure::INTERRUPTED,
    folder::ModelFolder,
    interrupt::Signal,
    kind::Kind,
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
            say!("{}: trained {}{left_out}", dir.display(), steps(n));
            if dir.join(Stages::FILE).exists() && resume.starts_with("matformer train") {
                say!("note: `matformer elastify … --resume` measures it beside the original");
            }
        }
    }
    if let Some(overfit) = &outcome.overfit {
        say!("{overfit}");
        if let Some(causes) = &overfit.causes {
            say!("hint: {causes}");
        }
    }
}

/// Its file in a run folder: the most memory that a process of the run held.
const RESOURCES: &str = "resources.json";

/// What [`RESOURCES`] holds.
#[derive(Serialize, Deserialize)]
struct Resources {
    peak_bytes: u64,
}

/// The most memory that training into `dir` held, where it is known.
pub fn peak_bytes(dir: &Path) -> Option<u64> {
    let kept: Resources = serde_json::from_slice(&fs::read(dir.join(RESOURCES)).ok()?).ok()?;
    Some(kept.peak_bytes)
}

/// Keeps this process's peak, unless an earlier one's was higher.
pub fn keep_peak(dir: &Path) {
    let peak = peak_memory().max(peak_bytes(dir));
    if let Some(peak_bytes) = peak {
        let text = json!({ "peak_bytes": peak_bytes }).to_string();
        // Nothing depends on it.
        let _ = fs::write_atomic(dir.join(RESOURCES), text.as_bytes());
    }
}

/// The end of a run that had ended before.
pub fn complete<K: Kind>(context: &Context, target: &Target<K>) -> Result<ExitCode> {
    let mut result = result(target, target.run.train.steps, false);
    result["skipped"] = skipped(&target.dir).into();
    print(context, result)?;
    Ok(ExitCode::SUCCESS)
}

/// How many steps of a run were left out, by its log.
fn skipped(dir: &Path) -> usize {
    let lines = MetricsLog::read(dir).unwrap_or_default();
    lines.iter().filter(|line| matches!(line, MetricsLine::Skipped(_))).count()
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
    if let Some(overfit) = &outcome.overfit {
        result["overfit"] = serde_json::to_value(overfit)?;
    }
    if let (Some(measured), Some(fields)) = (measured, result.as_object_mut()) {
        fields.insert("measured".to_owned(), measured);
    }
    print(context, result)?;
    Ok(match outcome.interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}

/// Measures every granularity that was trained on all held-out data, beside what that gives without a
/// model.
pub fn measure<K: Kind>(context: &Context, dir: &Path, prepared: &K::Prepared) -> Result<Value> {
    let folder = ModelFolder::<K>::load(dir, &context.device)?;
    let submodels = folder.trained();
    let evaluation = measured::measure(&folder, prepared, &submodels, None)?;
    let results = EvalResults::new(
        &dir.display().to_string(),
        &K::facts(prepared).hash.to_string(),
        &evaluation,
        folder.space(),
        &folder.costs,
        submodels.last(),
    )?;
    let floor = K::floor(prepared, None, &context.device)?;
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

/// `1 step`, `2 steps`.
pub fn steps(n: u64) -> String {
    match n {
        1 => "1 step".to_owned(),
        n => format!("{n} steps"),
    }
}
