//! `matformer list` and `matformer compare`: what is recorded, without measuring.

use serde_json::Value;

use crate::{
    support::{Output, Place, keys},
    vision,
};

/// The output with dates and speeds, which differ, as words.
fn steady(output: &Output) -> String {
    let text = output.to_string();
    let mut steady = String::new();
    for line in text.lines() {
        let is_measured =
            ["speed", "training time"].iter().any(|name| line.trim().starts_with(name));
        steady +=
            if is_measured { line.trim().split("  ").next().unwrap() } else { line.trim_end() };
        steady.push('\n');
    }
    steady
}

macro_rules! steady_snapshot {
    ($output:expr, @$expected:literal) => {
        insta::with_settings!({ filters => vec![
            (r"\d{4}-\d\d-\d\d \d\d:\d\d", "[date]"),
            (r"\b[0-9a-f]{16}\b", "[hash]"),
            (r"\b\d\.\d{3,4}( ± \d\.\d{4})?", "[loss]"),
            (r"\d{1,3}\.\d %", "[percent]"),
            (r"(\S)  +", "$1  "),
        ] }, {
            insta::assert_snapshot!(steady(&$output), @$expected)
        })
    };
}

/// A [`Place`] with a complete run, an interrupted one, a slice and a damaged folder.
fn several() -> Place {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "M", "--out", "models/slim"]).ok();
    let copy = |from: &str, to: &str| {
        for (path, bytes) in place.tree() {
            if let Ok(inside) = path.strip_prefix(from) {
                place.write(std::path::Path::new(to).join(inside), bytes);
            }
        }
    };
    // As a run that was killed after step 8.
    copy("run", "runs/killed");
    place.remove("runs/killed/checkpoints/step-000012");
    place.remove("runs/killed/matformer.json");
    copy("run", "runs/damaged");
    place.write("runs/damaged/matformer.json", "{");
    copy("run", "runs/torn");
    place.write("runs/torn/metrics.jsonl", "oops\n{}\n");
    place
}

#[test]
fn runs_and_models_are_rows() {
    let place = several();
    steady_snapshot!(place.matformer(&["list"]).ok(), @"
    exit code 0
    --- standard output
                   kind  params  sizes  steps  held-out  date (UTC)
     models/slim  text slice  28.2k  S M  12  -  [date]
     run  text run  65.1k  S M L XL  12, finished  XL [loss]  [date]
     runs/damaged  damaged
     runs/killed  text run  65.1k  S M L XL  8/12  XL [loss]  [date]
     runs/torn  text run  65.1k  S M L XL  12, finished  -  [date]
    runs/damaged: cannot understand `./runs/damaged/matformer.json` as a model's manifest: EOF while parsing an object at line 1 column 1
    runs/torn: ./runs/torn/metrics.jsonl: line 1: expected value at line 1 column 1; expected a line of metrics
    ");
    let json = place.matformer(&["list", "runs", "--json"]).ok().json();
    let rows = json.as_array().unwrap();
    let paths: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["runs/damaged", "runs/killed", "runs/torn"]);
    assert_eq!(keys(&rows[0]), keys(&rows[1]), "a damaged folder has the same keys");
    assert!(rows[0]["steps"].is_null() && rows[1]["error"].is_null());
    assert!(rows[0]["error"].as_str().unwrap().contains("matformer.json"));
    assert_eq!((&rows[1]["steps"], &rows[1]["total_steps"]), (&8.into(), &12.into()));
    assert_eq!(rows[1]["finished"], false);
    assert_eq!(rows[1]["sizes"][3]["name"], "XL");
    assert!(rows[1]["held_out"]["loss"]["XL"].as_f64().is_some());
    assert_eq!(rows[2]["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn a_folder_without_runs_or_of_one_run_is_listed_too() {
    let place = Place::trained();
    let output = place.matformer(&["list", "text"]).ok();
    assert_eq!(output.stdout, "text: no run and no model, 5 folders deep\n");
    assert_eq!(place.matformer(&["list", "text", "--json"]).ok().json(), Value::Array(Vec::new()));
    let output = place.matformer(&["list", "run"]).ok();
    assert!(output.stdout.lines().nth(1).unwrap().starts_with(" run"), "{output}");
    let said = place.refused(&["list", "nowhere"]);
    assert!(said.starts_with("error: cannot list `nowhere`"), "{said}");
}

#[test]
fn runs_stand_side_by_side() {
    let place = Place::trained();
    let sets = ["--set", "train.seed=1", "--set", "train.steps=8", "--set", "train.ema=0.9"];
    place.matformer(&[&["train", "run.toml", "--out", "other"][..], &sets].concat()).ok();
    place.matformer(&["eval", "run"]).ok();
    steady_snapshot!(place.matformer(&["compare", "run", "other"]).ok(), @"
    exit code 0
    --- standard output
                                           run  other
     kind  text run  text run
     steps  12, finished  8, finished
     seen  3.1k tokens  2.0k tokens
    speed
    training time
     data  [hash]  [hash]
     date (UTC)  [date]  [date]
     settings that differ
       train.ema  0.0  0.9
       train.seed  0  1
       train.steps  12  8
     parameters
       S  22.0k (width 32)  22.0k (width 32)
       M  28.2k (width 64)  28.2k (width 64)
       L  40.5k (width 128)  40.5k (width 128)
       XL  65.1k (width 256)  65.1k (width 256)
     training loss, last 50 steps of each
       S  [loss]  [loss]
       M  [loss]  [loss]
       L  [loss]  [loss]
       XL  [loss]  [loss]
     held-out loss in training
       S  [loss] (step 12)  [loss] (step 8)
       M  [loss] (step 12)  [loss] (step 8)
       L  [loss] (step 12)  [loss] (step 8)
       XL  [loss] (step 12)  [loss] (step 8)
     measured held-out loss
       S  [loss]  -
       M  [loss]  -
       L  [loss]  -
       XL  [loss]  -
     measured bits per byte
       S  [loss]  -
       M  [loss]  -
       L  [loss]  -
       XL  [loss]  -
    ");
    let json = place.matformer(&["compare", "run", "other", "--json"]).ok().json();
    assert_eq!(keys(&json), ["runs", "differences", "comparable", "notes"]);
    assert_eq!(json["comparable"], true);
    assert_eq!(json["differences"]["train.steps"], serde_json::json!(["12", "8"]));
    assert_eq!(json["runs"][1]["path"], "other");
}

#[test]
fn other_data_is_said_not_to_compare() {
    let place = Place::trained();
    let sets = ["--set", "data.vocab_size=280", "--set", "train.steps=4"];
    place.matformer(&[&["train", "run.toml", "--out", "other"][..], &sets].concat()).ok();
    let output = place.matformer(&["compare", "run", "other"]).ok();
    let note = "note: different data, so losses and accuracies cannot be compared: run ";
    assert!(output.stdout.contains(note), "{output}");
    let (images, _) = vision::trained();
    let run = images.path("run").display().to_string();
    let output = place.matformer(&["compare", "run", &run]).ok();
    assert!(output.stdout.contains("note: different kinds of models"), "{output}");
    assert!(output.stdout.contains("measured top-1 %"), "{output}");
    let said = place.refused(&["compare", "run", "text"]);
    let expected = "error: text: neither a run nor a model; expected a folder that `train`, `slice` or \
                    `import` wrote\n";
    assert_eq!(said, expected);
}

#[test]
fn truncated_files_are_noticed() {
    let place = Place::trained();
    let weights = place.path("run/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let problem = |place: &Place| {
        let json = place.matformer(&["list", "run", "--json"]).ok().json();
        json[0]["problems"].to_string()
    };
    assert_eq!(problem(&place), "[]");
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert!(problem(&place).contains("model.safetensors"), "{}", problem(&place));
    std::fs::write(&weights, &bytes).unwrap();
    let log = place.read("run/metrics.jsonl");
    let lines: Vec<&str> = log.lines().take(5).collect();
    place.write("run/metrics.jsonl", lines.join("\n") + "\n");
    let said = problem(&place);
    assert!(said.contains("metrics.jsonl: ends at step"), "{said}");
}
