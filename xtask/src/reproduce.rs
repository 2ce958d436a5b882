//! `cargo xtask reproduce`: measured pages of `docs/results`, from nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::build;

const CONFIG: &str = "configs/vit/fashion-mnist-short.toml";
const SEEDS: [u64; 2] = [0, 1];
const MATVIT: &str = "docs/results/matvit";

/// Elastic vision transformers of two seeds, each size trained alone, and the whole curve:
/// `docs/results/matvit.json`, and the tables in `docs/results/matvit.md`. What is complete in
/// `runs/matvit-SEED` is not made again.
pub fn matvit() -> Result<()> {
    let shell = build::shell()?;
    let matformer = build::matformer(&shell)?;
    let runs =
        SEEDS.iter().map(|seed| run(&shell, &matformer, *seed)).collect::<Result<Vec<_>>>()?;
    let document = json!({
        "command": "cargo xtask reproduce matvit",
        "config": CONFIG,
        "machine": machine(),
        "date": cmd!(shell, "date -u +%F").quiet().read()?,
        "runs": runs,
    });
    let text = serde_json::to_string_pretty(&document)?;
    shell.write_file(format!("{MATVIT}.json"), format!("{text}\n"))?;
    let page = format!("{MATVIT}.md");
    let old = shell.read_file(&page)?;
    shell.write_file(&page, with_tables(&old, &tables(&runs)?)?)?;
    println!("{MATVIT}.json, {page}");
    Ok(())
}

/// One seed: trained, measured, and beside its baselines.
fn run(shell: &Shell, matformer: &Path, seed: u64) -> Result<Value> {
    let run = PathBuf::from(format!("runs/matvit-{seed}"));
    match shell.path_exists(run.join("run.toml")) {
        true => cmd!(shell, "{matformer} train {run} --resume").quiet().run()?,
        false => {
            let seed = format!("train.seed={seed}");
            cmd!(shell, "{matformer} train {CONFIG} --set {seed} --out {run}").quiet().run()?;
        }
    }
    let read = |text: String| -> Result<Value> { Ok(serde_json::from_str(&text)?) };
    let baselines = read(cmd!(shell, "{matformer} baselines {run} --json").quiet().read()?)?;
    let report = read(cmd!(shell, "{matformer} report {run} --json").quiet().read()?)?;
    Ok(json!({
        "seed": seed,
        "measured": report["measured"],
        "alone": report["alone"],
        "costs": baselines["costs"],
    }))
}

fn results(report: &Value) -> Result<&Vec<Value>> {
    report["measured"]["results"]["results"].as_array().context("report --json: no results")
}

/// Cores and what they are.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let avx512 = field("flags").is_some_and(|flags| flags.contains("avx512f"));
    format!(
        "{cores} cores, {}{}",
        field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        if avx512 { ", AVX-512" } else { "" }
    )
}

/// The page with what stands between its two marks replaced.
fn with_tables(page: &str, tables: &str) -> Result<String> {
    const MARKS: [&str; 2] = ["<!-- tables -->", "<!-- end of tables -->"];
    let (before, rest) =
        page.split_once(MARKS[0]).context("the page has no mark for its tables")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the page has no mark behind its tables")?;
    Ok(format!("{before}{}\n\n{tables}\n{}{after}", MARKS[0], MARKS[1]))
}

fn tables(runs: &[Value]) -> Result<String> {
    let parts = [curve(runs)?, alone(runs)?, costs(runs)?];
    Ok(parts.join("\n"))
}

/// A Markdown table.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(&head), line(&rule))
}

/// Head of a table with columns for every seed.
fn per_seed(first: &[&str], each: &[&str]) -> Vec<String> {
    let of_seed = |seed: u64| each.iter().map(move |name| format!("{name}, seed {seed}"));
    let first = first.iter().map(|name| (*name).to_owned());
    first.chain(SEEDS.into_iter().flat_map(of_seed)).collect()
}

/// `88.12 ± 0.32` of a share and its standard error; a sign where it is a difference.
fn percent(estimate: &Value, signed: bool) -> String {
    let number = |value: &Value| value.as_f64().map(|value| 100.0 * value);
    match (number(&estimate["value"]), number(&estimate["stderr"])) {
        (Some(value), Some(stderr)) if signed => format!("{value:+.2} ± {stderr:.2}"),
        (Some(value), Some(stderr)) => format!("{value:.2} ± {stderr:.2}"),
        (Some(value), None) => format!("{value:.2}"),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn curve(runs: &[Value]) -> Result<String> {
    let head = per_seed(&["submodel", "parameters"], &["top-1 %", "above XL"]);
    let first = results(&runs[0])?;
    let mut rows = Vec::new();
    for (i, result) in first.iter().enumerate() {
        let mut row = vec![text(&result["submodel"]), text(&result["params"]["total"])];
        for run in runs {
            let result = &results(run)?[i];
            row.push(percent(&result["top1"], false));
            row.push(percent(&result["paired"]["top1"], true));
        }
        rows.push(row);
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    Ok(table(&head, rows))
}

fn alone(runs: &[Value]) -> Result<String> {
    let head = per_seed(&["trained alone"], &["top-1 %", "elastic above it"]);
    let list = |run: &Value| run["alone"].as_array().cloned().unwrap_or_default();
    let rows = list(&runs[0])
        .iter()
        .enumerate()
        .map(|(i, baseline)| {
            let mut row = vec![text(&baseline["result"]["submodel"])];
            for run in runs {
                let baseline = list(run).get(i).cloned().unwrap_or_default();
                row.push(percent(&baseline["result"]["top1"], false));
                row.push(percent(&baseline["elastic_above"], true));
            }
            row
        })
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    Ok(table(&head, rows))
}

fn costs(runs: &[Value]) -> Result<String> {
    let head = per_seed(&["", "steps", "TFLOP"], &["minutes of the steps", "peak MB"]);
    let list = |run: &Value| run["costs"].as_array().cloned().unwrap_or_default();
    let number = |value: &Value, scale: f64, places: usize| {
        value.as_f64().map_or(String::new(), |value| format!("{:.places$}", value / scale))
    };
    let rows = list(&runs[0])
        .iter()
        .enumerate()
        .map(|(i, cost)| {
            let flops = number(&cost["flops"], 1e12, 1);
            let mut row = vec![text(&cost["what"]), text(&cost["steps"]), flops];
            for run in runs {
                let cost = list(run).get(i).cloned().unwrap_or_default();
                row.push(number(&cost["seconds"], 60.0, 1));
                row.push(number(&cost["peak_bytes"], 1e6, 0));
            }
            row
        })
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    Ok(table(&head, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_the_place_of_the_old_ones() {
        let page = "a\n<!-- tables -->\nold\n<!-- end of tables -->\nb\n";
        let new = with_tables(page, "| x |\n").unwrap();
        assert_eq!(new, "a\n<!-- tables -->\n\n| x |\n\n<!-- end of tables -->\nb\n");
        assert_eq!(with_tables(&new, "| x |\n").unwrap(), new);
        assert!(with_tables("a", "").is_err());
    }

    #[test]
    fn shares_are_written_as_percents() {
        let of = |value: Value| percent(&value, false);
        assert_eq!(of(json!({ "value": 0.8812, "stderr": 0.00321 })), "88.12 ± 0.32");
        assert_eq!(percent(&json!({ "value": -0.01, "stderr": 0.002 }), true), "-1.00 ± 0.20");
        assert_eq!((of(Value::Null), of(json!({ "value": 1.0 }))), ("".into(), "100.00".into()));
    }
}
