//! `cargo xtask parity formats`: imported and sliced language models in transformers and llama.cpp.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xshell::cmd;

use crate::{
    build,
    reproduce::{
        page::{Page, list, table, text},
        stamp,
    },
};

const PAGE: Page =
    Page { path: "docs/results/export", command: "cargo xtask parity formats --python PYTHON" };
/// What is scored: English, and Rust for a run that was trained on it.
const TEXT: &str = "docs/guide.md";
const CODE: &str = "crates/matformer-core/src/spec.rs";

/// Imports SmolLM2, compares it and slices of it, or of a model made elastic of it, and of a run with
/// transformers and llama.cpp; writes the page.
pub fn run(python: &str, elastic: Option<&str>, run: &str) -> Result<()> {
    let shell = build::shell()?;
    super::check_has(&shell, python, &["torch", "transformers", "gguf"])?;
    PAGE.check(&shell)?;
    let matformer = build::matformer(&shell)?;
    let fetched = cmd!(shell, "{matformer} fetch smollm2 --json").quiet().read()?;
    let fetched: Value = serde_json::from_str(&fetched)?;
    let gguf = fetched["models"][0].as_str().context("`fetch smollm2 --json` names no model")?;
    let mut arguments = vec!["--gguf", gguf, "--text", TEXT];
    if let Some(elastic) = elastic {
        arguments.extend(["--elastic", elastic]);
    }
    if shell.path_exists(format!("{run}/matformer.json")) {
        arguments.extend(["--run", run, "--code", CODE]);
    } else {
        eprintln!("{run}: no trained run, it is left out; `cargo xtask demo` makes runs/demo");
    }
    let scratch = shell.create_temp_dir()?;
    let (work, found) = (scratch.path(), scratch.path().join("found.json"));
    let compared = cmd!(
        shell,
        "{python} xtask/python/parity_formats.py --binary {matformer} {arguments...} --work {work} --out {found}"
    )
    .quiet()
    .run();
    if !found.exists() {
        compared?;
        bail!("{}: not written", found.display());
    }
    let mut document: Value = serde_json::from_str(&shell.read_file(&found)?)?;
    document["stamp"] = stamp::now(&shell)?;
    let tables = tables(&document);
    PAGE.write(&shell, document, &tables)?;
    // What does not agree is on the page, and an error.
    Ok(compared?)
}

/// Everything that is below the page's text.
fn tables(document: &Value) -> String {
    let versions = document["versions"].as_object();
    let versions: Vec<_> = versions
        .into_iter()
        .flatten()
        .map(|(name, found)| format!("{name} {}", text(found)))
        .collect();
    let missing = list(&document["missing"]);
    let mut page = format!("With {}.\n", versions.join(", "));
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(text).collect();
        page += &format!("\n{} was not installed: its part is missing.\n", missing.join(", "));
    }
    page += &format!(
        "\n### Import\n\nSmolLM2-135M-Instruct from GGUF, {} on disk, as a folder {}.\n\n{}",
        megabytes(&document["import"]["bytes"]["file"]),
        megabytes(&document["import"]["bytes"]["folder"]),
        table(&head(&COMPARED), vec![compared(&document["import"], vec!["XL".to_owned()])])
    );
    let slices = list(&document["slices"]);
    for model in models(slices) {
        let rows = slices.iter().filter(|slice| slice["model"] == model);
        let rows = rows.map(|slice| compared(slice, facts(slice))).collect();
        let columns = [&["submodel", "written as", "read by", "size"][..], &COMPARED[1..]].concat();
        page += &format!("\n### Slices of {model}\n\n{}", table(&head(&columns), rows));
    }
    if let Some(speed) = document["speed"].as_array() {
        page +=
            &format!("\n### Speed in llama.cpp at q8_0\n\n{}", table(&head(&SPEED), speeds(speed)));
    }
    let stamp = stamp::line("Measured", [(String::new(), &document["stamp"])]);
    format!("{page}\n{stamp}")
}

const COMPARED: [&str; 7] = [
    "submodel",
    "tokens",
    "largest difference",
    "mean difference",
    "difference of the means",
    "same greedy tokens",
    "",
];
const SPEED: [&str; 6] = [
    "submodel",
    "size",
    "tokens/s (range)",
    "faster than XL by",
    "smaller than XL by",
    "of the gain in bytes",
];

fn head(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

/// The models in the order in which they come.
fn models(slices: &[Value]) -> Vec<&str> {
    let mut models: Vec<&str> = slices.iter().filter_map(|slice| slice["model"].as_str()).collect();
    models.dedup();
    models
}

/// What a slice is, in cells.
fn facts(slice: &Value) -> Vec<String> {
    let padded = if slice["padded"] == true { ", padded" } else { "" };
    let reader = match (slice["format"].as_str(), slice["remote_code"].as_bool()) {
        (Some("hf"), Some(true)) => "transformers, remote code",
        (Some("hf"), _) => "transformers",
        _ => "llama.cpp",
    };
    vec![
        text(&slice["submodel"]),
        format!("{} {}{padded}", text(&slice["format"]), text(&slice["dtype"])),
        reader.to_owned(),
        megabytes(&slice["bytes"]),
    ]
}

/// A row of a comparison behind its first cells.
fn compared(result: &Value, mut cells: Vec<String>) -> Vec<String> {
    let columns = COMPARED.len() - 2;
    if let Some(error) = result["error"].as_str() {
        cells.push(error.replace('|', "\\|"));
        cells.extend(vec![String::new(); columns - 1]);
    } else {
        let small = |key: &str| format!("{:.1e}", result[key].as_f64().unwrap_or(f64::NAN));
        cells.extend([
            text(&result["tokens"]),
            small("max"),
            small("mean"),
            small("of_means"),
            format!("{} of {}", result["greedy_same"], result["greedy"]),
        ]);
    }
    cells.push(if result["ok"] == true { "ok" } else { "**no**" }.to_owned());
    cells
}

fn speeds(speed: &[Value]) -> Vec<Vec<String>> {
    let row = |size: &Value| {
        let number = |key: &str| size[key].as_f64().unwrap_or(f64::NAN);
        let gain = (number("speedup") - 1.0) / (number("bytes_saved") - 1.0);
        vec![
            text(&size["submodel"]),
            megabytes(&size["bytes"]),
            format!(
                "{:.1} ({:.1} to {:.1})",
                number("tokens_per_second"),
                number("slowest"),
                number("fastest")
            ),
            format!("{:.2}", number("speedup")),
            format!("{:.2}", number("bytes_saved")),
            if gain.is_finite() { format!("{:.0} %", 100.0 * gain) } else { String::new() },
        ]
    };
    speed.iter().map(row).collect()
}

fn megabytes(bytes: &Value) -> String {
    bytes.as_f64().map_or_else(String::new, |bytes| format!("{:.1} MB", bytes / 1e6))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_comparison_is_a_row_of_as_many_cells_as_the_head() {
        let found = json!({
            "tokens": 200, "max": 2.8e-4, "mean": 1.6e-4, "of_means": -1e-5, "greedy": 32,
            "greedy_same": 31, "ok": false, "model": "SmolLM2", "submodel": "60%", "format": "gguf",
            "dtype": "f32", "padded": true, "bytes": 539_845_696,
        });
        let failed = json!({
            "model": "demo", "submodel": "XL", "format": "hf", "dtype": "f32", "padded": false,
            "error": "no | such slice", "ok": false,
        });
        let speed = json!([
            { "submodel": "XL", "bytes": 144e6, "tokens_per_second": 50.0, "slowest": 49.0,
              "fastest": 51.0, "speedup": 1.0, "bytes_saved": 1.0 },
            { "submodel": "60%", "bytes": 96e6, "tokens_per_second": 70.0, "slowest": 69.0,
              "fastest": 71.0, "speedup": 1.4, "bytes_saved": 1.5 },
        ]);
        let import = json!({
            "tokens": 1000, "max": 6e-5, "mean": 8e-6, "of_means": 1e-7, "greedy": 64,
            "greedy_same": 64, "ok": true, "bytes": { "file": 98e6, "folder": 538e6 },
        });
        let page = tables(&json!({
            "import": import, "slices": [found, failed], "speed": speed, "missing": ["xllamacpp"],
            "versions": { "torch": "2" },
            "stamp": { "date": "2026-01-01", "machine": "2 cores", "commit": "abc" },
        }));
        let mut cells = 0;
        for line in page.lines() {
            let found = line.replace("\\|", "").matches('|').count();
            assert!(found == 0 || cells == 0 || found == cells, "{line}");
            cells = found;
        }
        let rows = [
            "| 60% | gguf f32, padded | llama.cpp | 539.8 MB | 200 | 2.8e-4 | 1.6e-4 | -1.0e-5 | 31 of 32 | **no** |",
            "| XL | 1000 | 6.0e-5 | 8.0e-6 | 1.0e-7 | 64 of 64 | ok |",
            "| 60% | 96.0 MB | 70.0 (69.0 to 71.0) | 1.40 | 1.50 | 80 % |",
            "xllamacpp was not installed: its part is missing.",
            "Measured 2026-01-01 on 2 cores, commit abc.",
        ];
        for row in rows {
            assert!(page.contains(row), "{row} in\n{page}");
        }
        assert!(page.contains("no \\| such slice"));
    }
}
