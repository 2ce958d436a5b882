//! Elastic vision transformers of two seeds, each size trained alone, and the whole curve.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Binary, SEEDS,
    page::{list, per_seed, percent, points, table, text},
};

pub const CONFIG: &str = "configs/vit/fashion-mnist-short.toml";

/// The run of a seed, in which the other pages go on.
pub fn folder(seed: u64) -> String {
    format!("runs/matvit-{seed}")
}

/// One seed: trained, measured, and beside its baselines.
pub fn run(binary: &Binary, seed: u64) -> Result<Value> {
    let run = folder(seed);
    binary.train(CONFIG, &run, &["--set", &format!("train.seed={seed}")])?;
    let baselines = binary.json(&["baselines", &run])?;
    let report = binary.json(&["report", &run])?;
    Ok(json!({
        "seed": seed,
        "measured": report["measured"],
        "alone": report["alone"],
        "costs": baselines["costs"],
    }))
}

pub fn document(runs: &[Value]) -> Value {
    json!({ "config": CONFIG, "runs": runs })
}

pub fn tables(runs: &[Value]) -> Result<String> {
    Ok([curve(runs)?, alone(runs), costs(runs)].join("\n"))
}

fn results(report: &Value) -> Result<&Vec<Value>> {
    report["measured"]["results"]["results"].as_array().context("report --json: no results")
}

fn curve(runs: &[Value]) -> Result<String> {
    let mut rows = Vec::new();
    for (i, result) in results(&runs[0])?.iter().enumerate() {
        let mut row = vec![text(&result["submodel"]), text(&result["params"]["total"])];
        for run in runs {
            let result = &results(run)?[i];
            row.push(percent(&result["top1"]));
            row.push(points(&result["paired"]["top1"]));
        }
        rows.push(row);
    }
    Ok(table(&per_seed(&SEEDS, &["submodel", "parameters"], &["top-1 %", "above XL"]), rows))
}

fn alone(runs: &[Value]) -> String {
    let row = |(i, baseline): (usize, &Value)| {
        let mut row = vec![text(&baseline["result"]["submodel"])];
        for run in runs {
            let baseline = &run["alone"][i];
            row.push(percent(&baseline["result"]["top1"]));
            row.push(points(&baseline["elastic_above"]));
        }
        row
    };
    let rows = list(&runs[0]["alone"]).iter().enumerate().map(row).collect();
    table(&per_seed(&SEEDS, &["trained alone"], &["top-1 %", "elastic above it"]), rows)
}

fn costs(runs: &[Value]) -> String {
    let number = |value: &Value, scale: f64, places: usize| {
        value.as_f64().map_or(String::new(), |value| format!("{:.places$}", value / scale))
    };
    let row = |(i, cost): (usize, &Value)| {
        let flops = number(&cost["flops"], 1e12, 1);
        let mut row = vec![text(&cost["what"]), text(&cost["steps"]), flops];
        for run in runs {
            let cost = &run["costs"][i];
            row.push(number(&cost["seconds"], 60.0, 1));
            row.push(number(&cost["peak_bytes"], 1e6, 0));
        }
        row
    };
    let rows = list(&runs[0]["costs"]).iter().enumerate().map(row).collect();
    table(&per_seed(&SEEDS, &["", "steps", "TFLOP"], &["minutes of the steps", "peak MB"]), rows)
}
