//! `matformer train`

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{GRANULARITIES, Place, trained};

#[test]
fn it_shows_how_far_it_is() {
    measured_snapshot!(trained().0, @"
    exit code 0
    --- standard error
    reading documents
    training the tokenizer
    encoding documents
    data [hash]: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13
    step 1/12  loss M [number]  lr 5.00e-3  norm [number]  [rate] tokens/s  [time] left
    step 2/12  loss S [number]  lr 1.00e-2  norm [number]  [rate] tokens/s  [time] left
    step 3/12  loss XL [number]  lr 1.00e-2  norm [number]  [rate] tokens/s  [time] left
    step 4/12  loss M [number]  lr 9.78e-3  norm [number]  [rate] tokens/s  [time] left
    step 4  held-out loss S [number]  M [number]  L [number]  XL [number]
    step 5/12  loss S [number]  lr 9.14e-3  norm [number]  [rate] tokens/s  [time] left
    step 6/12  loss S [number]  lr 8.15e-3  norm [number]  [rate] tokens/s  [time] left
    step 7/12  loss S [number]  lr 6.89e-3  norm [number]  [rate] tokens/s  [time] left
    step 8/12  loss S [number]  lr 5.50e-3  norm [number]  [rate] tokens/s  [time] left
    step 8  held-out loss S [number]  M [number]  L [number]  XL [number]
    step 9/12  loss M [number]  lr 4.11e-3  norm [number]  [rate] tokens/s  [time] left
    step 10/12  loss S [number]  lr 2.85e-3  norm [number]  [rate] tokens/s  [time] left
    step 11/12  loss L [number]  lr 1.86e-3  norm [number]  [rate] tokens/s  [time] left
    step 12/12  loss S [number]  lr 1.22e-3  norm [number]  [rate] tokens/s  [time] left
    step 12  held-out loss S [number]  M [number]  L [number]  XL [number]
    run: trained 12 steps
    ");
}

#[test]
fn the_run_folder_has_all_that_commands_need() {
    let place = Place::trained();
    snapshot!(place.list("run"), @"
    .lock
    checkpoints/step-000004/config.json
    checkpoints/step-000004/generation_config.json
    checkpoints/step-000004/matformer.json
    checkpoints/step-000004/model.safetensors
    checkpoints/step-000004/tokenizer.json
    checkpoints/step-000004/tokenizer_config.json
    checkpoints/step-000004/train/optimizer.safetensors
    checkpoints/step-000004/train/state.json
    checkpoints/step-000008/config.json
    checkpoints/step-000008/generation_config.json
    checkpoints/step-000008/matformer.json
    checkpoints/step-000008/model.safetensors
    checkpoints/step-000008/tokenizer.json
    checkpoints/step-000008/tokenizer_config.json
    checkpoints/step-000008/train/optimizer.safetensors
    checkpoints/step-000008/train/state.json
    checkpoints/step-000012/config.json
    checkpoints/step-000012/generation_config.json
    checkpoints/step-000012/matformer.json
    checkpoints/step-000012/model.safetensors
    checkpoints/step-000012/tokenizer.json
    checkpoints/step-000012/tokenizer_config.json
    checkpoints/step-000012/train/optimizer.safetensors
    checkpoints/step-000012/train/state.json
    config.json
    generation_config.json
    matformer.json
    metrics.jsonl
    model.safetensors
    resources.json
    run.toml
    tokenizer.json
    tokenizer_config.json
    train.log
    ");
    let manifest = place.read_json("run/matformer.json");
    let granularities = GRANULARITIES.map(|(name, width)| json!({ "name": name, "width": width }));
    assert_eq!(manifest["granularities"], json!(granularities));
    assert_eq!(manifest["provenance"]["steps"], 12);
    assert_eq!(manifest["provenance"]["tokens"], 12 * 256);
    let config = place.read_json("run/config.json");
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    assert_eq!(config["intermediate_size"], 256);
    // The last checkpoint is the model.
    let last = place.read_json("run/checkpoints/step-000012/matformer.json");
    assert_eq!(last, manifest);
}

#[test]
fn every_step_and_evaluation_is_in_the_metrics() {
    let lines = Place::trained().read_lines("run/metrics.jsonl");
    let (held_out, steps): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line.get("held_out").is_some());
    let numbers: Vec<u64> = steps.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    let names = GRANULARITIES.map(|(name, _)| name.to_owned());
    for line in steps {
        assert_eq!(line["tokens"], 256 * line["step"].as_u64().unwrap());
        let loss = line["loss"].as_object().unwrap();
        assert!(!loss.is_empty() && loss.keys().all(|name| names.contains(name)), "{line}");
        for key in ["learning_rate", "grad_norm", "tokens_per_second"] {
            assert!(line[key].as_f64().unwrap() > 0.0, "{key}: {line}");
        }
    }
    let numbers: Vec<u64> = held_out.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 8, 12]);
    for (name, _) in GRANULARITIES {
        let loss = |line: &Value| line["held_out"][name].as_f64().unwrap();
        assert!(loss(held_out[2]) < loss(held_out[0]), "{name} learns");
    }
}

#[test]
fn a_run_is_not_overwritten() {
    let place = Place::trained();
    snapshot!(place.refused(&["train", "run.toml", "--out", "run"]), @"
    error: run: a run is there already
    hint: go on with it (matformer train run --resume), or train into another folder (--out)
    ");
}

#[test]
fn nor_is_a_model_of_no_run() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    snapshot!(place.refused(&["train", "run.toml", "--out", "slim"]), @"
    error: slim: a model of no run is there
    hint: train into another folder (--out)
    ");
}

#[test]
fn the_folder_has_the_name_of_the_run_file() {
    let place = Place::trained();
    let run =
        place.read("run.toml").replace("[model.lm]", "[model]\npreset = \"demo\"\n[model.lm]");
    place.write("mine.toml", run);
    let set = ["--set", "train.steps=1", "--set", "train.draw=joint"];
    let output = place.matformer(&[&["train", "mine.toml"], &set[..]].concat()).ok();
    assert!(output.stderr.ends_with("runs/mine: trained 1 step\n"), "{output}");
    let kept = place.read("runs/mine/run.toml");
    assert!(kept.contains("steps = 1\n") && kept.contains("draw = \"joint\"\n"), "{kept}");
    // The joint step trains all granularities.
    let line = &place.read_lines("runs/mine/metrics.jsonl")[0];
    let found: BTreeSet<&str> =
        line["loss"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, GRANULARITIES.map(|(name, _)| name).into());
}

#[test]
fn json_is_one_document() {
    let place = Place::trained();
    let arguments = ["train", "run.toml", "--out", "short", "--set", "train.steps=2", "--json"];
    let output = place.matformer(&arguments).ok();
    let expected = json!({ "run": "short", "steps": 2, "interrupted": false, "skipped": 0 });
    assert_eq!(output.json(), expected);
    assert!(output.stderr.contains("step 2/2  loss "), "{output}");
}

#[test]
fn jsonl_is_read_row_by_row() {
    let place = Place::new();
    let rows: Vec<String> = place
        .tree()
        .into_iter()
        .filter(|(path, _)| path.starts_with("text"))
        .map(|(_, text)| json!({ "body": String::from_utf8(text).unwrap() }).to_string())
        .collect();
    place.write("rows.jsonl", rows.join("\n"));
    let sets = ["data.paths=[\"rows.jsonl\"]", "data.field=body", "train.steps=1"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", "run.toml", "--out", "rows"].into_iter().chain(sets).collect();
    let output = place.matformer(&arguments).ok();
    let documents = |split: &str| {
        let (_, after) = output.stderr.split_once(split).unwrap();
        after.split(|c: char| !c.is_ascii_digit()).find_map(|n| n.parse::<usize>().ok()).unwrap()
    };
    assert_eq!(documents("training tokens of ") + documents("held-out tokens of "), 60, "{output}");
}
