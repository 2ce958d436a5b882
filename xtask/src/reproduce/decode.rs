//! `cargo xtask bench decode`: how fast models generate, beside llama.cpp on the same weights; `docs/results/decode.*`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::{
    page::{Page, head, list, some_table, table, text},
    stamp,
};
use crate::{build, parity};

const PAGE: Page = Page { path: "docs/results/decode", command: "cargo xtask bench decode" };
/// Formats as we and as llama.cpp's files call them.
const FORMATS: [&str; 3] = ["f32", "bf16", "q8_0"];
/// Texts at the same time, in turn with llama.cpp.
const BATCHES: [usize; 2] = [1, 8];

/// What is measured.
#[derive(Debug, Args)]
pub struct Decode {
    /// Model folders; each replaces what the page has of it
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Python that has xllamacpp: llama.cpp is timed, too
    #[arg(long)]
    python: Option<String>,
    /// Text file whose parts are continued, or JSON Lines of prompts, for the loss of formats and for speculation;
    /// may be repeated
    #[arg(long)]
    text: Vec<PathBuf>,
    /// New tokens of each text
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Rounds, in turn with llama.cpp
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print what was found as JSON; the page stays as it is
    #[arg(long)]
    json: bool,
}

/// Measures, and writes the page.
pub fn run(args: &Decode) -> Result<()> {
    let shell = build::shell()?;
    if let Some(python) = &args.python {
        parity::check_has(&shell, python, &["xllamacpp"])?;
    }
    PAGE.check(&shell)?;
    let matformer = build::matformer(&shell)?;
    let mut document = PAGE.document(&shell)?;
    let mut all = json!({});
    for model in &args.models {
        let name = model.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        let mut found = ours(&shell, &matformer, model, args)?;
        if let Some(python) = &args.python {
            found["llama_cpp"] = beside(&shell, &matformer, model, python, args)?;
            found["xllamacpp"] = version(&shell, python)?;
        }
        found["stamp"] = stamp::now(&shell)?;
        all[&name] = flattened(&name, &found);
        document["models"][&name] = found;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    PAGE.write(&shell, document.clone(), &tables(&document))
}

fn version(shell: &Shell, python: &str) -> Result<Value> {
    let code = "import xllamacpp; print(xllamacpp.__version__)";
    Ok(Value::from(cmd!(shell, "{python} -c {code}").quiet().read()?))
}

/// Everything that the command measures of a model alone.
fn ours(shell: &Shell, matformer: &Path, model: &Path, args: &Decode) -> Result<Value> {
    let (tokens, rounds) = (args.tokens.to_string(), args.rounds.to_string());
    let text = args.text.iter().flat_map(|text| ["--text".into(), text.clone().into_os_string()]);
    let found = cmd!(
        shell,
        "{matformer} bench decode {model} --tokens {tokens} --rounds {rounds} {text...} --json"
    )
    .read()?;
    Ok(serde_json::from_str(&found)?)
}

/// The largest size in every format, in turn with llama.cpp on the same weights: medians, and medians of ratios.
fn beside(
    shell: &Shell,
    matformer: &Path,
    model: &Path,
    python: &str,
    args: &Decode,
) -> Result<Value> {
    let info = cmd!(shell, "{matformer} info {model} --json").quiet().read()?;
    let info: Value = serde_json::from_str(&info)?;
    let shape = &info["shape"];
    let vocab = shape["vocab_size"].as_u64().context("`info --json` has no vocab_size")?;
    let context = shape["context"].as_u64().context("`info --json` has no context")?;
    let prefill = (context / 2).clamp(1, 512).to_string();
    let (vocab, tokens) = (vocab.to_string(), args.tokens.to_string());
    let threads = std::thread::available_parallelism()?.to_string();
    let scratch = shell.create_temp_dir()?;
    let mut rows = Vec::new();
    for format in FORMATS {
        let gguf = scratch.path().join(format!("{format}.gguf"));
        cmd!(
            shell,
            "{matformer} slice {model} --submodel 100% --format gguf --dtype {format} --out {gguf}"
        )
        .quiet()
        .read()?;
        for batch in BATCHES {
            let b = batch.to_string();
            let mut pairs: Vec<[Value; 2]> = Vec::new();
            for _ in 0..args.rounds {
                let ours = cmd!(
                    shell,
                    "{matformer} bench decode {model} --submodel 100% --dtype {format} --batch {b}
                     --tokens {tokens} --prefill {prefill} --rounds 1 --json"
                );
                let ours: Value = serde_json::from_str(&ours.quiet().ignore_stderr().read()?)?;
                let theirs = cmd!(
                    shell,
                    "{python} xtask/python/bench_decode.py {gguf} --threads {threads} --batch {b}
                     --tokens {tokens} --prefill {prefill} --vocab {vocab}"
                );
                let theirs: Value = serde_json::from_str(&theirs.quiet().ignore_stderr().read()?)?;
                let mut row = ours["rows"][0].clone();
                row["prefill"] = ours["prefill"][0]["tokens_per_second"].clone();
                pairs.push([row, theirs]);
            }
            let mut row = json!({ "dtype": format, "batch": batch });
            let keys: &[&str] = if batch == 1 {
                &["tokens_per_second", "with_prompts", "prefill"]
            } else {
                &["with_prompts"]
            };
            for key in keys {
                row[*key] = compared(&pairs, key);
            }
            eprintln!("{row}");
            rows.push(row);
        }
    }
    Ok(Value::from(rows))
}

/// Medians of both sides, and of the ratio within a round.
fn compared(pairs: &[[Value; 2]], key: &str) -> Value {
    let number = |value: &Value| value[key].as_f64().unwrap_or(f64::NAN);
    let of = |f: &dyn Fn(&[Value; 2]) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(f).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    json!({
        "ours": of(&|pair| number(&pair[0])),
        "llama_cpp": of(&|pair| number(&pair[1])),
        "ratio": of(&|pair| number(&pair[0]) / number(&pair[1])),
    })
}

/// One list of rows, with llama.cpp's rate where it was measured.
fn flattened(name: &str, found: &Value) -> Value {
    let theirs = |row: &Value| {
        let same =
            |other: &&Value| other["dtype"] == row["dtype"] && other["batch"] == row["batch"];
        list(&found["llama_cpp"]).iter().find(same).map(|other| other["tokens_per_second"].clone())
    };
    let widest = list(&found["rows"]).last().map(|row| row["submodel"].clone());
    let rows: Vec<Value> = list(&found["rows"])
        .iter()
        .map(|row| {
            let mut row = row.clone();
            let other = theirs(&row).filter(|_| widest.as_ref() == Some(&row["submodel"]));
            row["model"] = name.into();
            row["llama_cpp"] = other.as_ref().map_or(Value::Null, |o| o["llama_cpp"].clone());
            row["ratio"] = other.as_ref().map_or(Value::Null, |o| o["ratio"].clone());
            row
        })
        .collect();
    json!({
        "machine": found["machine"], "bandwidth_gb_s": found["bandwidth_gb_s"], "rows": rows,
        "speculation": found["speculation"],
    })
}

fn tables(document: &Value) -> String {
    let models = document["models"].as_object().into_iter().flatten();
    models.map(|(name, found)| of_model(name, found)).collect()
}

fn of_model(name: &str, found: &Value) -> String {
    let bandwidth = found["bandwidth_gb_s"]
        .as_f64()
        .map_or(String::new(), |rate| format!(" All threads read memory at up to {rate:.1} GB/s."));
    let stamp = &found["stamp"];
    let mut page = format!(
        "### {name}\n\n{}, {}, commit {}.{bandwidth}\n\n",
        text(&stamp["machine"]),
        text(&stamp["date"]),
        text(&stamp["commit"])
    );
    let parts = [
        ("The largest size beside llama.cpp, in turn", llama(found)),
        ("Every size", rates(found)),
        ("Reading a prompt, and passes of several tokens over one of one", prefill(found)),
        ("A batch of all sizes", mixed(found)),
        ("What a format costs", loss(found)),
        ("Speculative decoding", speculation(found)),
    ];
    for (title, table) in parts {
        if !table.is_empty() {
            page += &format!("{title}:\n\n{table}\n");
        }
    }
    page
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn llama(found: &Value) -> String {
    let mut rows = Vec::new();
    for row in list(&found["llama_cpp"]) {
        let batch = row["batch"].as_u64().unwrap_or_default();
        for (key, what) in [
            ("tokens_per_second", "tokens/s"),
            ("with_prompts", "tokens/s with the prompts"),
            ("prefill", "prompt tokens/s"),
        ] {
            let of = &row[key];
            if of["ratio"].is_number() && (key != "with_prompts" || batch > 1) {
                rows.push(vec![
                    text(&row["dtype"]),
                    batch.to_string(),
                    what.to_owned(),
                    number(&of["ours"], 1),
                    number(&of["llama_cpp"], 1),
                    number(&of["ratio"], 2),
                ]);
            }
        }
    }
    some_table(&head(&["format", "texts", "", "ours", "llama.cpp", "ratio"]), rows)
}

fn rates(found: &Value) -> String {
    let rows = list(&found["rows"]).iter().map(|row| {
        vec![
            text(&row["submodel"]),
            text(&row["dtype"]),
            text(&row["batch"]),
            number(&row["tokens_per_second"], 1),
            number(&row["percent_of_bandwidth"], 0),
            number(&row["first_token_ms"], 1),
        ]
    });
    table(
        &head(&["size", "format", "texts", "tokens/s", "% of bandwidth", "first token, ms"]),
        rows.collect(),
    )
}

fn prefill(found: &Value) -> String {
    let rows = list(&found["prefill"]).iter().zip(list(&found["verify"])).map(|(row, verify)| {
        let v = |k: usize| number(&verify["v"][k - 1], 2);
        vec![
            text(&row["submodel"]),
            text(&row["dtype"]),
            text(&row["tokens"]),
            number(&row["tokens_per_second"], 0),
            v(2),
            v(4),
            v(8),
            v(16),
        ]
    });
    let head = head(&["size", "format", "prompt", "tokens/s", "v(2)", "v(4)", "v(8)", "v(16)"]);
    some_table(&head, rows.collect())
}

fn mixed(found: &Value) -> String {
    let rows = list(&found["mixed"]).iter().map(|row| {
        let sizes: Vec<String> = list(&row["submodels"]).iter().map(text).collect();
        vec![
            text(&row["dtype"]),
            sizes.join(" "),
            number(&row["step_ms"], 2),
            number(&row["predicted_ms"], 2),
            number(&row["ratio"], 2),
            number(&row["resize_us"], 1),
        ]
    });
    let head = head(&["format", "texts", "step, ms", "predicted, ms", "ratio", "another size, µs"]);
    some_table(&head, rows.collect())
}

fn loss(found: &Value) -> String {
    let rows = list(&found["loss"]).iter().map(|row| {
        vec![
            text(&row["text"]),
            text(&row["submodel"]),
            text(&row["dtype"]),
            text(&row["tokens"]),
            number(&row["nats"], 4),
            number(&row["difference"], 4),
        ]
    });
    some_table(&head(&["text", "size", "format", "tokens", "nats", "above f32"]), rows.collect())
}

fn speculation(found: &Value) -> String {
    let rows = list(&found["speculation"]).iter().map(|row| {
        vec![
            text(&row["text"]),
            text(&row["verifier"]),
            text(&row["draft"]),
            text(&row["dtype"]),
            text(&row["cache"]),
            row["k"].as_u64().map_or("auto".to_owned(), |k| k.to_string()),
            number(&row["acceptance"], 2),
            number(&row["c"], 2),
            number(&row["v"], 2),
            number(&row["predicted"], 2),
            number(&row["measured"], 2),
        ]
    });
    let head = head(&[
        "text",
        "verifier",
        "draft",
        "format",
        "cache",
        "k",
        "kept",
        "c",
        "v",
        "predicted",
        "measured",
    ]);
    some_table(&head, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_measured_has_its_place_on_the_page() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results/decode");
        let read = |suffix: &str| std::fs::read_to_string(format!("{path}.{suffix}")).unwrap();
        let document: Value = serde_json::from_str(&read("json")).unwrap();
        let page = read("md");
        for row in tables(&document).lines() {
            assert!(page.contains(row), "{row}");
        }
    }
}
