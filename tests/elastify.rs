//! `matformer elastify`: a model of one good size becomes elastic.

use std::{path::Path, process::Stdio};

use matformer::nn::weights::{self, Cut, StoredTensor, WeightFiles};
use serde_json::Value;

use crate::{
    support::{Output, Place, keys},
    vision,
};

const SETS: [&str; 8] = [
    "--set",
    "train.steps=8",
    "--set",
    "train.tokens_per_step=256",
    "--set",
    "train.checkpoint_every=2",
    "--set",
    "data.held_out=0.2",
];

/// A place whose `base/` was trained at full width only.
fn place() -> Place {
    let place = Place::new();
    let alone = ["train", "run.toml", "--out", "base", "--set", "train.draw=baseline:XL"];
    place.matformer(&[&alone[..], &["--set", "train.steps=40"]].concat()).ok();
    place
}

fn elastify(place: &Place, more: &[&str]) -> Output {
    let call =
        ["elastify", "base", "--data", "text", "--out", "elastic", "--calibration-rows", "16"];
    place.matformer(&[&call[..], &SETS, more].concat())
}

fn losses(stage: &Value) -> Vec<f64> {
    let results = stage["results"].as_array().unwrap();
    results.iter().map(|result| result["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_model_becomes_elastic_in_three_stages() {
    let place = place();
    let output = elastify(&place, &["--json"]).ok();
    let found = output.json();
    assert_eq!(keys(&found), ["model", "original", "order", "data", "stages"]);
    assert_eq!((&found["model"], &found["original"]), (&"elastic".into(), &"base".into()));
    assert_eq!(found["data"]["context"], 32, "the length of training rows");
    let stages = found["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["original", "ordered", "trained"]);
    let tokens: Vec<u64> = stages.iter().map(|stage| stage["tokens"].as_u64().unwrap()).collect();
    assert_eq!(tokens, [0, 16 * 32, 8 * 256]);
    let [original, ordered, trained] = [0, 1, 2].map(|i| losses(&stages[i]));
    assert!((original[3] - ordered[3]).abs() < 1e-4, "XL is what it was: {original:?} {ordered:?}");
    assert!(ordered[0] < original[0], "S gains by the order: {original:?} {ordered:?}");
    assert!(trained[0] < ordered[0], "and by training: {ordered:?} {trained:?}");
    let log = place.read("elastic/train.log");
    for said in [" INFO elastic/ordered: neurons ordered by rms", " INFO elastic: trained 8 steps"]
    {
        assert!(log.contains(said), "{log}");
    }
    let result = &stages[0]["results"][0];
    assert_eq!(keys(result), ["submodel", "widths", "params", "loss", "stderr"]);
    assert_eq!(result["widths"], serde_json::json!([32, 32]));

    // Its parts are model folders, each the child of the one before.
    let weights = |folder: &str| place.read_json(format!("{folder}/matformer.json"));
    let parent = |folder: &str| weights(folder)["provenance"]["parent"].clone();
    assert_eq!(parent("elastic/ordered"), weights("base")["weights_sha256"]);
    assert_eq!(parent("elastic"), weights("elastic/ordered")["weights_sha256"]);
    let kept = place.read("elastic/run.toml");
    for line in [
        "init = \"ordered\"",
        "teacher = \"ordered\"",
        "students = [\"XL\"]",
        "freeze = [\"embed\"]",
    ] {
        assert!(kept.contains(line), "{line}: {kept}");
    }
    // The original is what it was, and the elastic model is measured as the last stage was.
    let eval = place.matformer(&["eval", "elastic", "--json"]).ok().json();
    let again: Vec<f64> = losses(&eval);
    assert!(again.iter().zip(&trained).all(|(a, b)| (a - b).abs() < 1e-5), "{again:?} {trained:?}");

    // Again: nothing is left to do, and a person sees it side by side.
    let output = elastify(&place, &["--resume"]).ok();
    measured_snapshot!(output, @r"
    exit code 0
    --- standard output
    held-out: 3.7k tokens of 13 documents in windows of 32, data [hash]
     submodel  params  original  ordered  trained
     S  22.0k  [number]  [number]  [number]
     M  28.2k  [number]  [number]  [number]
     L  40.5k  [number]  [number]  [number]
     XL  65.1k  [number]  [number]  [number]
    elastic: an elastic model
    --- standard error
    note: `train.warmup` is 50 and `train.steps` is 8: the learning rate rises until the last step, to 3.20e-5 of 2.00e-4, and never comes down
    data [hash]: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13 (prepared before)
    ");
    let page = {
        place.matformer(&["report", "elastic"]).ok();
        place.read("elastic/report/index.html")
    };
    for text in ["Made elastic", "original", "ordered", "trained", "512 tokens"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn an_embedding_may_have_more_rows_than_the_tokenizer_has_ids() {
    let place = place();
    // As Qwen's: rows that nothing uses, so that there is a multiple of some number.
    let rows = place.read_json("base/config.json")["vocab_size"].as_u64().unwrap() as usize;
    let padded = rows + 13;
    widen(&place.path("base"), rows, padded);
    let import = |out| ["import", "base", "--out", out];
    std::fs::remove_file(place.path("base/matformer.json")).unwrap();
    place.matformer(&import("padded")).ok();
    let vocab_size =
        |model: &str| place.read_json(format!("{model}/config.json"))["vocab_size"].clone();
    let call =
        ["elastify", "padded", "--data", "text", "--out", "elastic", "--calibration-rows", "16"];
    place.matformer(&[&call[..], &SETS].concat()).ok();
    assert_eq!(vocab_size("elastic"), padded);
    place.matformer(&["eval", "elastic"]).ok();
    place.matformer(&["generate", "elastic", "--prompt", "The fox"]).ok();
    place.matformer(&["train", "elastic", "--resume"]).ok();
    let tune =
        ["train", "run.toml", "--init", "padded", "--out", "tuned", "--set", "train.steps=4"];
    place.matformer(&tune).ok();
    assert_eq!(vocab_size("tuned"), padded);
}

/// Adds rows of zeros to the embedding of a folder, whose output is tied to it.
fn widen(dir: &Path, rows: usize, to: usize) {
    let files = WeightFiles::open(dir).unwrap();
    let all = files.tensors().unwrap();
    let tensors = all.names().map(|name| {
        let view = all.view(name).unwrap();
        let mut cut = Cut::whole(&view);
        if view.shape[0] == rows {
            cut.shape[0] = to;
        }
        StoredTensor::new(name, cut.dtype, cut.shape.clone(), move |out| view.write(&cut, out))
    });
    let other = dir.with_extension("wide");
    std::fs::create_dir(&other).unwrap();
    weights::write_folder(&other, tensors.collect(), weights::SHARD_BYTES).unwrap();
    std::fs::rename(other.join(weights::WEIGHTS), dir.join(weights::WEIGHTS)).unwrap();
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["vocab_size"] = to.into();
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn ordering_alone_gives_a_model_and_training_goes_on_from_it() {
    let place = place();
    let found = elastify(&place, &["--order-only", "--json"]).ok().json();
    assert_eq!(found["stages"].as_array().unwrap().len(), 2);
    place.matformer(&["generate", "elastic", "--prompt", "The fox"]).ok();
    let whole = elastify(&place, &["--resume", "--json"]).ok();
    assert_eq!(whole.json()["stages"].as_array().unwrap().len(), 3);
    assert_eq!(whole.json()["stages"][0], found["stages"][0], "measured once");
    assert_eq!(place.read_json("elastic/matformer.json")["provenance"]["steps"], 8);
}

#[test]
fn an_interrupted_run_goes_on() {
    let place = place();
    let call =
        ["elastify", "base", "--data", "text", "--out", "elastic", "--calibration-rows", "16"];
    let slow = [&SETS[..], &["--set", "train.steps=4000"]].concat();
    let mut child =
        place.command(&[&call[..], &slow].concat()).stdout(Stdio::null()).spawn().unwrap();
    while !place.path("elastic/checkpoints/latest").exists()
        && !place.path("elastic/checkpoints").exists()
    {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    #[cfg(unix)]
    {
        // SAFETY: kill takes two numbers.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(130), "{output}");
        // All that was asked for, not a part of it.
        let typed = [&call[..], &slow, &["--resume"]].concat().join(" ");
        assert!(output.stderr.contains(&format!("go on with: matformer {typed}\n")), "{output}");
    }
    #[cfg(not(unix))]
    {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // With another number of steps it is another run.
    let refused = place.matformer(&[&call[..], &SETS, &["--resume"]].concat());
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("`train.steps` is 4000 there, 8 here"), "{refused}");
}

#[test]
fn images_too() {
    let (place, _) = vision::trained();
    let call = ["elastify", "run", "--data", "images", "--out", "elastic", "--json"];
    let sets = ["--set", "train.steps=4", "--set", "train.images_per_step=32"];
    let found = place.matformer(&[&call[..], &sets].concat()).ok().json();
    let stages = found["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    assert!(found["data"].get("context").is_none(), "images have no windows");
    let top1 = |stage: &Value| stage["results"][3]["top1"]["value"].as_f64().unwrap();
    assert_eq!(top1(&stages[0]), top1(&stages[1]), "XL is what it was");
    assert!(top1(&stages[2]) > 0.9, "{found}");
}

#[test]
fn what_cannot_be_made_elastic_is_refused() {
    let place = place();
    let refused = |more: &[&str]| {
        let call = ["elastify", "base", "--data", "text", "--out", "elastic"];
        place.refused(&[&call[..], more].concat())
    };
    snapshot!(refused(&["--order", "size"]), @r"
    error: invalid value 'size' for '--order <SCORE>': expected `activation`, `rms`, `contribution`, `rms-contribution`, `weights`

    For more information, try '--help'.
    ");
    snapshot!(refused(&["--calibration-tokens", "100"]), @r"
    error: --calibration-tokens 100: the model's context is 32
    hint: expected at most 32
    ");
    snapshot!(refused(&["--set", "model.lm.granularities=[256]"]), @r"
    error: base: a model of one size, 256
    hint: name its widths: --set model.lm.granularities=[128,256]
    ");
    snapshot!(refused(&["--set", "train.distill.teacher=gone"]), @r"
    error: `train.distill.teacher`: gone: no such folder
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
    ");
    snapshot!(place.refused(&["elastify", "text", "--data", "text", "--out", "elastic"]), @r"
    error: text/matformer.json: no such file
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
    ");
    place.write("base.gguf", "GGUF");
    place.write("gemma/config.json", "{\"model_type\": \"gemma3n\"}");
    for (model, hint) in [
        (
            "base.gguf",
            "hint: `matformer import base.gguf --out DIR` makes a model folder of a GGUF file",
        ),
        ("gemma", "hint: Gemma 3n is elastic as it comes: `matformer slice DIR --widths"),
    ] {
        let said = place.refused(&["elastify", model, "--data", "text", "--out", "elastic"]);
        assert!(said.contains(hint), "{said}");
    }
    for (more, expected) in [
        (&["--set", "train.init=text"][..], "--set train.init=text: the run starts from base"),
        (&["--set", "train.freeze=[\"head\"]"], "`train.freeze` is `head`; expected one of embed,"),
        (&["--data", "run.toml"], "--data run.toml: a run file or run folder, beside other data"),
    ] {
        let said = refused(more);
        assert!(said.contains(expected), "{said}");
    }
    place.matformer(&["slice", "base", "--submodel", "S", "--out", "slim"]).ok();
    let said = place.refused(&["elastify", "base", "--data", "slim", "--out", "elastic"]);
    assert!(said.contains("--data slim: a model folder; expected text or images"), "{said}");
    let dry = place.matformer(&["elastify", "base", "--data", "text", "--out", "e", "--dry-run"]);
    let dry = dry.ok();
    assert!(dry.stdout.contains(", teacher ") && !place.path("e").exists(), "{dry}");
    let order = ["elastify", "base", "--data", "text", "--out", "e", "--dry-run", "--order-only"];
    snapshot!(place.matformer(&order), @"
    exit code 0
    --- standard output
    neurons ordered by rms, over about 16.4k tokens of the training data; each size measured on up to 32.8k held-out tokens, before and after; no training
    ");
    // Of a run file, the data and how it is trained are taken.
    let of_run = ["elastify", "base", "--data", "run.toml", "--out", "e", "--dry-run"];
    assert!(place.matformer(&of_run).ok().stdout.contains("in 12 steps"));
}
