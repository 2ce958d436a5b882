//! Elastic vision transformers of two seeds, each size trained alone, and the whole curve.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Binary, SEEDS,
    page::{list, per_seed, percent, points, table, text},
    stamp,
};

pub const CONFIG: &str = "configs/vit/fashion-mnist-short.toml";

/// What is trained alone, too.
pub const SIZES: [&str; 4] = ["S", "M", "L", "XL"];

/// The run of a seed, in which the other pages go on.
pub fn folder(seed: u64) -> String {
    format!("runs/matvit-{seed}")
}

/// One seed: trained, measured, and beside its baselines.
pub fn run(binary: &Binary, seed: u64) -> Result<Value> {
    let run = folder(seed);
    let trained = binary.train(CONFIG, &run, &["--set", &format!("train.seed={seed}")])?;
    let alone: Vec<String> =
        SIZES.iter().map(|size| format!("{run}/baselines/per-width/{size}")).collect();
    let there = alone.iter().all(|baseline| binary.read(baseline, "matformer.json").is_some());
    let baselines = binary.json(&["baselines", &run])?;
    let trained_alone = binary.stamped(&run, "baselines", there)?;
    let runs: Vec<&str> = std::iter::once(&run).chain(&alone).map(String::as_str).collect();
    let before = || binary.forget_reports(&runs);
    let report = binary.kept(&runs, "reproduced-report.json", &["report", &run], before)?;
    Ok(json!({
        "seed": seed,
        "trained_stamp": trained,
        "trained_alone_stamp": trained_alone,
        "measured_stamp": report["stamp"],
        "measured": report["measured"],
        "alone": report["alone"],
        "costs": baselines["costs"],
    }))
}

pub fn document(runs: &[Value]) -> Value {
    json!({ "config": CONFIG, "runs": runs })
}

pub fn tables(runs: &[Value]) -> Result<String> {
    let all = |key: &str, what: &str| -> Vec<(String, Value)> {
        runs.iter().map(|run| (format!("{what}seed {}", run["seed"]), run[key].clone())).collect()
    };
    let line = |what: &str, stamps: Vec<(String, Value)>| {
        stamp::line(what, stamps.iter().map(|(name, stamp)| (name.clone(), stamp)))
    };
    let measured = line("Measured", all("measured_stamp", ""));
    let mut trained = all("trained_stamp", "elastic, ");
    trained.extend(all("trained_alone_stamp", "alone, "));
    let parts = [curve(runs)?, measured.clone(), alone(runs), measured, costs(runs)];
    Ok([&parts[..], &[line("Trained", trained)]].concat().join("\n"))
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
