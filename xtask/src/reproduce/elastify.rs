//! SmolLM2-135M made elastic: each size before and after, beside the original fine-tuned alone, and what each
//! choice is worth.

use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use xshell::cmd;

use super::{
    Binary,
    page::{self, list, some_table, table, text},
    stamp,
};

const CONFIG: &str = "configs/lm/elastify.toml";
/// Text of another kind: Rust sources.
const OTHER: &str = "configs/lm/demo.toml";
const ORIGINAL: &str = "runs/smollm2";
const ELASTIC: &str = "runs/elastify";
/// Length of training rows and of held-out windows.
const CONTEXT: &str = "256";
/// Held-out tokens of a measurement, and of one of a short run.
const TOKENS: &str = "32768";
const FEW: &str = "16384";
const SAME_TEXT: [&str; 6] = ["--data", CONFIG, "--context", CONTEXT, "--tokens", TOKENS];
const OTHER_TEXT: [&str; 6] = ["--data", OTHER, "--context", CONTEXT, "--tokens", TOKENS];
/// Rows that each score is measured on.
const ROWS: &str = "64";

/// Scores by which neurons are ordered. The first one is what `elastify` takes where none is named; the
/// short runs start from it.
const SCORES: [&str; 5] = ["rms", "activation", "contribution", "rms-contribution", "weights"];

/// What the short runs have in common.
const SHORT: [&str; 3] = ["train.steps=60", "train.warmup=12", "train.checkpoint_every=1000"];

/// Short runs from the ordered model, by what differs from the default; each takes about as long as the
/// default on two cores.
const VARIANTS: [(&str, &[&str]); 12] = [
    ("default", &[]),
    ("neurons ordered by `activation`", &["train.init=runs/elastify-by-activation/ordered"]),
    ("XL alone, no distillation", &["train.distill.weight=0", "train.draw=baseline:XL"]),
    ("no distillation", &["train.distill.weight=0", "train.steps=66"]),
    ("every size learns from the original", &[ALL, "train.steps=45"]),
    (
        "every size learns from XL of the same step",
        &["train.distill={from=\"XL\",weight=1.0}", "train.steps=52"],
    ),
    ("the embedding is trained, too", &["train.freeze=[]"]),
    ("2,048 tokens a step", &["train.tokens_per_step=2048", "train.steps=15", "train.warmup=3"]),
    ("draw `sampled-xl-heavy`", &["train.draw=sampled-xl-heavy", "train.steps=51"]),
    ("draw `sandwich`", &["train.draw=sandwich", "train.steps=20", "train.warmup=4"]),
    ("rate 1e-4", &["train.learning_rate=1e-4"]),
    ("rate 4e-4", &["train.learning_rate=4e-4"]),
];

/// Every size learns from the teacher.
const ALL: &str = "train.distill.students=[\"S\",\"M\",\"L\",\"XL\"]";

/// A part of the page, with its own stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// `elastify` with its defaults, measured on both kinds of text: about an hour
    Elastify,
    /// The original fine-tuned at full width: about 40 minutes
    Alone,
    /// The same sizes trained from nothing: about 40 minutes
    Scratch,
    /// Each size after ordering by each score: about 15 minutes
    Scores,
    /// Short runs, each with one choice made differently: about 45 minutes
    Variants,
}

/// The `parts` of the page, made or found in `runs/`, all where none is named; the others stay as `page` has
/// them. `write` takes the whole after each part: all of it takes hours.
pub(super) fn document(
    binary: &Binary,
    parts: &[Part],
    page: Value,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<()> {
    let Binary { shell, path } = binary;
    if !shell.path_exists(format!("{ORIGINAL}/matformer.json")) {
        cmd!(shell, "{path} import fetch:smollm2 --out {ORIGINAL}").quiet().run()?;
    }
    let mut found = page;
    found["config"] = CONFIG.into();
    for part in Part::value_variants() {
        if !parts.is_empty() && !parts.contains(part) {
            continue;
        }
        match part {
            Part::Elastify => {
                found["elastify"] = elastified(binary, ELASTIC, &["--tokens", TOKENS])?;
                found["other"] = on_other_text(binary)?;
            }
            Part::Alone => found["alone"] = alone(binary)?,
            Part::Scratch => found["scratch"] = scratch(binary)?,
            Part::Scores => found["scores"] = scores(binary)?.into(),
            Part::Variants => found["variants"] = variants(binary)?.into(),
        }
        write(&found)?;
    }
    Ok(())
}

/// The elastic model, ordered and trained, on text of another kind.
fn on_other_text(binary: &Binary) -> Result<Value> {
    let ordered = [&OTHER_TEXT[..], &["--submodels", "S,M,L,XL"]].concat();
    Ok(json!([
        { "stage": "ordered", "measured": eval(binary, &format!("{ELASTIC}/ordered"), "other", &ordered)? },
        { "stage": "trained", "measured": eval(binary, ELASTIC, "other", &OTHER_TEXT)? },
    ]))
}

/// The original, trained at full width with what else the elastic model was trained with.
fn alone(binary: &Binary) -> Result<Value> {
    let out = format!("{ELASTIC}-alone");
    let arguments = ["--init", ORIGINAL, "--set", "train.draw=baseline:XL"];
    let arguments = [&arguments[..], &["--set", "train.distill.weight=0"]].concat();
    Ok(json!({
        "trained_stamp": binary.train(&defaults(binary)?, &out, &arguments)?,
        "same": eval(binary, &out, "same", &SAME_TEXT)?,
        "other": eval(binary, &out, "other", &OTHER_TEXT)?,
    }))
}

/// The same sizes, trained from nothing.
fn scratch(binary: &Binary) -> Result<Value> {
    let out = format!("{ELASTIC}-scratch");
    let config = from_nothing(binary, &defaults(binary)?)?;
    Ok(json!({
        "trained_stamp": binary.train(&config, &out, &[])?,
        "same": eval(binary, &out, "same", &SAME_TEXT)?,
    }))
}

/// The run file of what `elastify` trains by default: of the model that the short runs start from, which is
/// only ordered.
fn defaults(binary: &Binary) -> Result<String> {
    ordered_by(binary, SCORES[0])?;
    Ok(format!("{}/run.toml", by(SCORES[0])))
}

/// What `elastify` printed of the original into `out`, with the seconds that it took: made, gone on with or
/// found there.
fn elastified(binary: &Binary, out: &str, arguments: &[&str]) -> Result<Value> {
    if let Some(kept) = binary.read(out, "reproduced.json") {
        eprintln!("{out}: made before, reused");
        return Ok(kept);
    }
    let call = ["elastify", ORIGINAL, "--data", CONFIG, "--out", out];
    let resume = binary.shell.path_exists(format!("{out}/run.toml")).then_some("--resume");
    let started = Instant::now();
    let mut found = binary.json(&[&call[..], arguments, resume.as_slice()].concat())?;
    // Of a run that was interrupted nobody knows how long it took in all.
    let seconds = resume.is_none().then(|| started.elapsed().as_secs_f64());
    found["seconds"] = seconds.into();
    found["stamp"] = stamp::now(&binary.shell)?;
    binary.shell.write_file(format!("{out}/reproduced.json"), found.to_string())?;
    Ok(found)
}

/// The run file of the same sizes trained from nothing: without a start and a teacher, every tensor trained,
/// at a rate that suits it.
fn from_nothing(binary: &Binary, config: &str) -> Result<String> {
    let text = binary.shell.read_file(config)?;
    let (kept, _) = text.split_once("[train.distill]").context("the run has a teacher")?;
    let line = |line: &str| match line {
        line if ["init = ", "freeze = "].iter().any(|key| line.starts_with(key)) => String::new(),
        line if line.starts_with("learning_rate = ") => "learning_rate = 1e-3\n".to_owned(),
        line => format!("{line}\n"),
    };
    // Beside the other: its paths are relative.
    let path = format!("{}/from-nothing.toml", by(SCORES[0]));
    binary.shell.write_file(&path, kept.lines().map(line).collect::<String>())?;
    Ok(path)
}

fn eval(binary: &Binary, run: &str, name: &str, more: &[&str]) -> Result<Value> {
    let arguments = [&["eval", run], more].concat();
    binary.kept(&[run], &format!("reproduced-{name}.json"), &arguments, || Ok(()))
}

/// The run in which neurons are ordered by a score.
fn by(score: &str) -> String {
    format!("{ELASTIC}-by-{score}")
}

/// Each size after ordering by each score, on fewer rows and tokens.
fn scores(binary: &Binary) -> Result<Vec<Value>> {
    let of = |score: &&str| Ok(json!({ "score": score, "found": ordered_by(binary, score)? }));
    SCORES.iter().map(of).collect()
}

/// The original, ordered by a score and measured.
fn ordered_by(binary: &Binary, score: &str) -> Result<Value> {
    let few = ["--order", score, "--calibration-rows", ROWS, "--tokens", FEW, "--order-only"];
    elastified(binary, &by(score), &few)
}

/// Each size after a short run of each variant, with the seconds that its training took.
fn variants(binary: &Binary) -> Result<Vec<Value>> {
    let config = defaults(binary)?;
    ordered_by(binary, SCORES[1])?;
    let few = ["--data", CONFIG, "--context", CONTEXT, "--tokens", FEW];
    let few_others = ["--data", OTHER, "--context", CONTEXT, "--tokens", FEW, "--submodels", "XL"];
    let of = |(i, (name, sets)): (usize, &(&str, &[&str]))| {
        let out = format!("{ELASTIC}-variant-{i}");
        let arguments: Vec<&str> =
            SHORT.iter().chain(*sets).flat_map(|set| ["--set", *set]).collect();
        let trained = binary.train(&config, &out, &arguments)?;
        let mut measured = eval(binary, &out, "same", &few)?;
        measured["speed"] = speed(binary, &out)?;
        let other = eval(binary, &out, "other", &few_others)?;
        Ok(json!({
            "variant": name,
            "sets": sets,
            "trained_stamp": trained,
            "measured": measured,
            "other": other,
        }))
    };
    VARIANTS.iter().enumerate().map(of).collect()
}

/// Tokens of a run's training, and the seconds of its steps.
fn speed(binary: &Binary, run: &str) -> Result<Value> {
    let metrics = binary.shell.read_file(format!("{run}/metrics.jsonl"))?;
    let lines = metrics.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut tokens, mut seconds) = (0.0, 0.0);
    for line in lines {
        let (Some(all), Some(rate)) = (line["tokens"].as_f64(), line["tokens_per_second"].as_f64())
        else {
            continue;
        };
        seconds += (all - tokens) / rate;
        tokens = all;
    }
    Ok(json!({ "tokens": tokens, "seconds": seconds }))
}

/// The tables of what was measured so far.
pub fn tables(document: &Value) -> String {
    let parts = [
        (
            format!("Held-out prose, nats per token in windows of {CONTEXT}."),
            format!("{}\n{}", stages(document), stamps(document)),
        ),
        ("Rust sources, a kind of text that was not trained on.".to_owned(), others(document)),
        (
            "Neurons ordered by each score over 32,768 tokens; not trained.".to_owned(),
            by_score(document),
        ),
        (
            "Short runs from the model ordered so, by what differs from the default; minutes are those \
             of the training steps."
                .to_owned(),
            by_variant(document),
        ),
    ];
    let said = |(says, table): (String, String)| match table.is_empty() {
        true => String::new(),
        false => format!("{says}\n\n{table}\n"),
    };
    parts.map(said).concat()
}

const SIZES: [&str; 4] = ["S", "M", "L", "XL"];

/// Columns before those of the sizes.
fn head(first: &[&str]) -> Vec<String> {
    page::head(&[first, &SIZES].concat())
}

/// `3.512 ± 0.041` of a result.
fn loss(result: &Value) -> String {
    match (result["loss"].as_f64(), result["stderr"].as_f64()) {
        (Some(loss), Some(stderr)) => format!("{loss:.3} ± {stderr:.3}"),
        (Some(loss), None) => format!("{loss:.3}"),
        _ => String::new(),
    }
}

/// The losses of each size among results.
fn sizes(results: &Value) -> Vec<String> {
    let of = |size: &&str| list(results).iter().find(|r| r["submodel"] == **size);
    SIZES.iter().map(|size| of(size).map_or(String::new(), loss)).collect()
}

fn row(first: &[String], results: &Value) -> Vec<String> {
    [first, &sizes(results)].concat()
}

fn stages(document: &Value) -> String {
    let stage = |s: &Value| row(&[text(&s["stage"]), text(&s["tokens"])], &s["results"]);
    let mut rows: Vec<_> = list(&document["elastify"]["stages"]).iter().map(stage).collect();
    let trained =
        list(&document["elastify"]["stages"]).last().map_or(&Value::Null, |s| &s["tokens"]);
    let beside = [("XL of the original trained alone", "alone"), ("from nothing", "scratch")];
    rows.extend(beside.into_iter().filter(|(_, key)| document[*key].is_object()).map(
        |(name, key)| row(&[name.to_owned(), text(trained)], &document[key]["same"]["results"]),
    ));
    table(&head(&["stage", "tokens"]), rows)
}

fn stamps(document: &Value) -> String {
    let all = [
        ("elastify", &document["elastify"]["stamp"]),
        ("alone", &document["alone"]["trained_stamp"]),
        ("from nothing", &document["scratch"]["trained_stamp"]),
        ("scores", &document["scores"][0]["found"]["stamp"]),
        ("short runs", &document["variants"][0]["trained_stamp"]),
    ];
    let known = all.into_iter().filter(|(_, stamp)| stamp.is_object());
    let line = stamp::line("Measured", known.map(|(name, stamp)| (name.to_owned(), stamp)));
    match document["elastify"]["seconds"].as_f64() {
        Some(seconds) => format!("`elastify` took {:.0} minutes in all.\n\n{line}", seconds / 60.0),
        None => line,
    }
}

fn others(document: &Value) -> String {
    let stage = |s: &Value| row(&[text(&s["stage"])], &s["measured"]["results"]);
    let mut rows: Vec<_> = list(&document["other"]).iter().map(stage).collect();
    if document["alone"].is_object() {
        let alone = "XL of the original trained alone".to_owned();
        rows.push(row(&[alone], &document["alone"]["other"]["results"]));
    }
    table(&head(&["model"]), rows)
}

fn by_score(document: &Value) -> String {
    let stages = |of: &Value| list(&of["found"]["stages"]).to_vec();
    let original =
        list(&document["scores"]).first().and_then(|first| stages(first).first().cloned());
    let mut rows: Vec<_> =
        original.iter().map(|s| row(&["as they come".to_owned()], &s["results"])).collect();
    rows.extend(list(&document["scores"]).iter().filter_map(|of| {
        Some(row(&[format!("`{}`", text(&of["score"]))], &stages(of).get(1)?["results"]))
    }));
    some_table(&head(&["score"]), rows)
}

fn by_variant(document: &Value) -> String {
    let of = |v: &Value| {
        let speed = &v["measured"]["speed"];
        let number = |key: &str| speed[key].as_f64().unwrap_or_default();
        let minutes = format!("{:.1}", number("seconds") / 60.0);
        let first = [text(&v["variant"]), format!("{:.0}k", number("tokens") / 1e3), minutes];
        let other = list(&v["other"]["results"]).first().map_or(String::new(), loss);
        [row(&first, &v["measured"]["results"]), vec![other]].concat()
    };
    let head = [head(&["run", "tokens", "minutes"]), vec!["XL, Rust".to_owned()]].concat();
    some_table(&head, list(&document["variants"]).iter().map(of).collect())
}
