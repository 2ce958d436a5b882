//! What `matformer train` can do beyond a plain run: start from a model, learn by heart, learn from
//! the widest, say beforehand what it costs.

use serde_json::Value;

use crate::support::{Output, Place, keys};

/// A run file that says nothing of the model.
const NEXT: &str = r#"
[data]
paths = ["text"]
held_out = 0.2

[train]
steps = 4
tokens_per_step = 256
learning_rate = 1e-3
warmup = 0
eval_every = 4
eval_tokens = 512
checkpoint_every = 4
"#;

fn place() -> Place {
    let place = Place::trained();
    place.write("next.toml", NEXT);
    place
}

fn train(place: &Place, out: &str, more: &[&str]) -> Output {
    place.matformer(&[&["train", "next.toml", "--out", out], more].concat())
}

fn last_line(output: &Output) -> &str {
    output.stderr.lines().last().unwrap_or_default()
}

#[test]
fn a_run_starts_from_a_model_folder() {
    let place = place();
    train(&place, "next", &["--init", "run"]).ok();
    let parent = &place.read_json("run/matformer.json")["weights_sha256"];
    let manifest = place.read_json("next/matformer.json");
    assert_eq!(&manifest["provenance"]["parent"], parent);
    assert_eq!(manifest["provenance"]["steps"], 4, "its own steps");
    let config = |run: &str| place.read_json(format!("{run}/config.json"));
    assert_eq!(config("next"), config("run"), "the folder's shape");
    let kept = place.read("next/run.toml");
    assert!(kept.contains("init = \"../run\"\n") && kept.contains("d_model = 32\n"), "{kept}");
    assert!(kept.contains("tokenizer = \"../run/tokenizer.json\"\n"), "{kept}");
    let loss = |run: &str, step: usize| -> f64 {
        let lines = place.read_lines(format!("{run}/metrics.jsonl"));
        let losses = lines.iter().filter_map(|line| line["loss"].as_object());
        let losses = losses.map(|loss| loss.values().next().unwrap().as_f64().unwrap());
        losses.collect::<Vec<_>>()[step]
    };
    assert!(loss("next", 0) < loss("run", 0) - 0.5, "it begins with what the folder knows");
    // The same as a key, and gone on with when the folder is away.
    let sets = ["--set", "train.init=run", "--set", "train.steps=8", "--set", "train.keep=9"];
    train(&place, "again", &sets).ok();
    for name in ["again/matformer.json", "again/checkpoints/step-000008"] {
        place.remove(name);
    }
    place.write("elsewhere/tokenizer.json", place.read("run/tokenizer.json"));
    place.remove("run");
    let kept = place.read("again/run.toml");
    place.write("again/run.toml", kept.replace("run/tokenizer.json", "elsewhere/tokenizer.json"));
    place.matformer(&["train", "again", "--resume"]).ok();
    assert_eq!(&place.read_json("again/matformer.json")["provenance"]["parent"], parent);
}

#[test]
fn granularities_and_context_may_be_others() {
    let place = place();
    let sets = ["--set", "model.lm.granularities=[128, 256]", "--set", "model.lm.context=64"];
    train(&place, "next", &[&["--init", "run"], &sets[..]].concat()).ok();
    let manifest = place.read_json("next/matformer.json");
    let widths: Vec<&Value> =
        manifest["granularities"].as_array().unwrap().iter().map(|g| &g["width"]).collect();
    assert_eq!(widths, [128, 256]);
    assert_eq!(place.read_json("next/config.json")["max_position_embeddings"], 64);
    // A run that is resumed as it was begun.
    place.remove("next/matformer.json");
    let arguments = [&["--init", "run", "--resume"], &sets[..]].concat();
    train(&place, "next", &arguments).ok();
}

#[test]
fn a_model_of_another_shape_is_no_start() {
    let place = place();
    let refused = |more: &[&str]| {
        place.refused(&[&["train", "next.toml", "--out", "out", "--init", "run"], more].concat())
    };
    snapshot!(refused(&["--set", "model.lm.d_ff=512"]), @"
    error: `model.lm.d_ff` is 512; expected 256, as in `run`
    hint: leave it out of the run file: a run takes its shape from the folder that it starts from
    ");
    snapshot!(refused(&["--set", "model.preset=demo"]), @"
    error: `model.lm.d_model` is 128; expected 32, as in `run`
    hint: leave it out of the run file: a run takes its shape from the folder that it starts from
    ");
    let tokenizer = place.read("run/tokenizer.json");
    place.write("other.json", tokenizer.replacen("\"version\"", " \"version\"", 1));
    snapshot!(refused(&["--set", "data.tokenizer=other.json"]), @"
    error: `data.tokenizer`: other.json is not the tokenizer of `run`, whose weights know no other
    hint: leave `data.tokenizer` out: a run takes it from the folder that it starts from
    ");
    let from = |dir: &str| place.refused(&["train", "next.toml", "--out", "out", "--init", dir]);
    snapshot!(from("text"), @"
    error: text/matformer.json: no such file
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
    ");
    place.write("broken/matformer.json", "{}");
    let said = from("broken");
    assert!(said.starts_with("error: ") && said.contains("broken/matformer.json"), "{said}");
    let arguments = ["train", "run", "--resume", "--init", "run"];
    snapshot!(place.refused(&arguments), @"
    error: run: a folder; expected a run file
    hint: to go on with a run, give its folder and --resume alone
    ");
}

#[test]
fn weights_that_are_cut_off_are_no_start() {
    let place = place();
    let weights = place.tree().remove(std::path::Path::new("run/model.safetensors")).unwrap();
    place.write("run/model.safetensors", &weights[..weights.len() / 2]);
    let output = train(&place, "out", &["--init", "run"]);
    assert_eq!(output.code, Some(2), "{output}");
    assert!(last_line(&output).contains("run/model.safetensors"), "{output}");
    assert!(!place.path("out").exists());
}

#[test]
fn a_self_test_learns_a_batch_by_heart() {
    let place = Place::trained();
    let sets = ["train.overfit=1", "train.steps=150", "train.eval_every=150"];
    let sets = sets.into_iter().chain(["train.checkpoint_every=150", "train.draw=joint"]);
    let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
    let arguments = [&["train", "run.toml", "--out", "heart", "--json"], &sets[..]].concat();
    let output = place.matformer(&arguments).ok();
    let said = last_line(&output);
    assert!(said.starts_with("overfit on 1 batch: ok: S 5.") && said.contains(" → 0."), "{output}");
    let found = output.json();
    assert_eq!(found["overfit"]["ok"], true);
    assert_eq!(found["overfit"]["losses"][3]["granularity"], "XL");

    snapshot!(place.refused(&["train", "run.toml", "--out", "much", "--set", "train.overfit=5000"]), @r"
    data d84c5a3a18443aac: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13 (prepared before)
    error: `train.overfit` is 5000; expected at most 52: the training data has no more batches
    ");
    let arguments = ["train", "run.toml", "--out", "short", "--set", "train.overfit=1"];
    let output = place.matformer(&arguments).ok();
    let lines: Vec<&str> = output.stderr.lines().rev().take(2).collect();
    assert!(lines[1].starts_with("overfit on 1 batch: not learnt: S 5."), "{output}");
    assert!(lines[0].starts_with("hint: likely causes: too few steps (`train.steps` is 12)"));
}

#[test]
fn distillation_is_in_the_metrics() {
    let place = Place::trained();
    let sets = ["--set", "train.distill={from = \"XL\"}", "--set", "train.draw=sandwich"];
    place.matformer(&[&["train", "run.toml", "--out", "taught"], &sets[..]].concat()).ok();
    let kept = place.read("taught/run.toml");
    assert!(kept.contains("[train.distill]\nfrom = \"XL\"\nweight = 0.5\n"), "{kept}");
    for line in place.read_lines("taught/metrics.jsonl") {
        if let Some(loss) = line.get("loss") {
            let taught: Vec<&str> = keys(loss).into_iter().filter(|label| *label != "XL").collect();
            assert_eq!(keys(&line["distill"]), taught);
            assert!(line["distill"]["S"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    snapshot!(
        place.refused(&[
            "train", "run.toml", "--out", "out", "--set", "train.distill.from=XXL"
        ]),
        @"error: `train.distill.from` is XXL; expected one of S, M, L, XL"
    );
    let refused = |set: &str| place.refused(&["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(
        refused("train.distill.students=[\"S\", \"XXL\"]"),
        @"error: `train.distill.students` is XXL; expected some of S, M, L, XL"
    );
    snapshot!(
        refused("train.freeze=[\"embedding\"]"),
        @"error: `train.freeze` is `embedding`; expected one of embed, layers, norm, or a path below one, such as `layers.0.ffn`"
    );
}

#[test]
fn spikes_in_a_row_end_the_run() {
    let place = Place::trained();
    // Nothing may rise: the first loss that does ends the run.
    let sets = ["train.spike={nats = 1e-9, deviations = 0, in_a_row = 1}", "train.steps=200"];
    let sets = sets.into_iter().chain(["train.learning_rate=1e-6"]);
    let sets = sets.chain(["train.draw=baseline:S", "train.checkpoint_every=20"]);
    let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
    let output = place.matformer(&[&["train", "run.toml", "--out", "wild"], &sets[..]].concat());
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output}");
    let lines: Vec<&str> = output.stderr.lines().rev().take(3).collect();
    assert!(lines[2].contains("  left out: loss of S is "), "{output}");
    assert!(lines[1].starts_with("error: 1 step skipped, at step "), "{output}");
    assert!(lines[1].contains("last good checkpoint: wild/checkpoints/step-0000"), "{output}");
    assert!(lines[0].starts_with("hint: train into another folder (--out) with a lower `train.l"));
    let last = place.read_lines("wild/metrics.jsonl").pop().unwrap();
    assert_eq!(keys(&last), ["step", "skipped", "value", "limit"]);
    assert_eq!(last["skipped"], "loss of S");
    assert!(!place.path("wild/matformer.json").exists());
}

#[test]
fn a_dry_run_says_what_a_run_costs_and_writes_nothing() {
    let place = Place::trained();
    let before = place.tree();
    let output = place.matformer(&["train", "run.toml", "--out", "new", "--dry-run"]).ok();
    insta::with_settings!({ filters => vec![
        (r"\b[0-9a-f]{16}\b", "[hash]"),
        (r"about \d\S*:? \d\.\d+ s a step", "about [time] a step"),
        (r"\d+ timed", "[n] timed"),
        (r"\d+\.\d\d (GB|TB) are available", "[memory] are available"),
        (r"\S+: \d+\.\d{3} s a step", "[time] a step"),
    ] }, { snapshot!(output, @r"
    exit code 0
    --- standard output
         width  params  non-embedding
     S   32     22.0k   12.4k
     M   64     28.2k   18.6k
     L   128    40.5k   30.9k
     XL  256    65.1k   55.5k
    tokens   3.1k in 12 steps
    data     not prepared yet: how many tokens there are is not known, nor the vocabulary that the text gives; these numbers are for one of 300
    FLOPs    565.05M with draw sampled
    time     about [time] a step, by [n] timed, without evaluations
    memory   about 28.77 MB: program 25.00 MB, weights 260.22 kB, gradients 260.22 kB, moments 520.45 kB, activations 2.42 MB, logits 307.20 kB; [memory] are available
    nothing was written
    ") });
    assert_eq!(place.tree(), before);

    let output = place.matformer(&["train", "run.toml", "--out", "new", "--dry-run", "--json"]);
    let found = output.ok().json();
    assert_eq!(
        keys(&found),
        [
            "granularities",
            "steps",
            "tokens",
            "prepared",
            "epochs",
            "flops",
            "seconds",
            "timed_steps",
            "seconds_per_step",
            "memory"
        ]
    );
    assert_eq!(found["tokens"], 12 * 256);
    let params = &place.matformer(&["info", "run", "--json"]).ok().json()["granularities"];
    for (found, info) in
        found["granularities"].as_array().unwrap().iter().zip(params.as_array().unwrap())
    {
        assert_eq!(found["params"].as_f64(), info["params"]["total"].as_f64());
    }
    assert!(found["seconds"].as_f64().unwrap() > 0.0);
    assert!(found["memory"]["available"].as_u64().unwrap() > 0);
    assert_eq!(place.tree(), before);

    // Shorter rows: attention sees fewer keys, and a passes' activations are of as many tokens.
    let dry = |sets: &[&str]| -> Value {
        let sets = sets.iter().flat_map(|set| ["--set", *set]).collect::<Vec<_>>();
        let arguments = ["train", "run.toml", "--out", "new", "--dry-run", "--json"];
        place.matformer(&[&arguments[..], &sets].concat()).ok().json()
    };
    let number = |found: &Value, key: &str| found.pointer(key).unwrap().as_f64().unwrap();
    let short = dry(&["train.seq_len=8"]);
    // 2 layers, 4·d_model floating point operations per key; 8 and 32 tokens see 4.5 and 16.5.
    let fewer = 3.0 * 2.0 * 4.0 * 32.0 * (16.5 - 4.5) * 12.0 * 256.0;
    assert_eq!(number(&found, "/flops") - number(&short, "/flops"), fewer);
    assert_eq!(number(&short, "/tokens"), 12.0 * 256.0);
    let activations = |found| number(found, "/memory/activations");
    assert_eq!(activations(&short), activations(&found), "4 times the rows");
    let few = dry(&["train.seq_len=8", "train.batch_rows=8"]);
    assert_eq!(activations(&few), activations(&found) / 4.0);

    // A moving average is one more copy of the weights.
    let average = dry(&["train.ema=0.9"]);
    assert_eq!(number(&found, "/memory/average"), 0.0);
    assert_eq!(number(&average, "/memory/average"), number(&found, "/memory/weights"));
    assert!(number(&average, "/memory/peak") > number(&found, "/memory/peak"));
    let sets = ["--dry-run", "--set", "train.ema=0.9"];
    let said = train_run(&place, &sets).stdout;
    assert!(said.contains(", moments 520.45 kB, moving average 260.22 kB, "), "{said}");

    // A text that is not prepared yet stays so.
    place.write("more/one.txt", "The owl counts two coats at home.\n".repeat(200));
    place.write("more/two.txt", "The fox hides a bell by the mill.\n".repeat(200));
    place.write("more/three.txt", "The crow paints dry leaves.\n".repeat(200));
    let before = place.tree();
    let sets = ["--set", "data.paths=[\"more\"]", "--set", "data.held_out=0.5"];
    let said = train_run(&place, &[&["--dry-run"], &sets[..]].concat());
    assert!(
        said.stdout.contains(
            "\ntokens   3.1k in 12 steps\ndata     not prepared yet: how many tokens there are is not \
             known, nor the vocabulary that the text gives; these numbers are for one of 300\n"
        ),
        "{said}"
    );
    assert!(!said.stderr.contains("tokenizer"), "{said}");
    let json = train_run(&place, &[&["--dry-run", "--json"], &sets[..]].concat()).json();
    assert_eq!((&json["prepared"], &json["epochs"]), (&false.into(), &Value::Null));
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
    // Nor is anything downloaded, or fetched.
    for source in ["hf:nobody/nothing", "fetch:shakespeare"] {
        let sets = ["--set", &format!("data.paths=[\"{source}\"]")];
        let said = train_run(&place, &[&["--dry-run"], &sets[..]].concat());
        assert!(said.stdout.contains("not prepared yet") && said.stderr.is_empty(), "{said}");
    }
    // A tokenizer that is here has a vocabulary; a model to start from as well.
    let given = ["--set", "data.tokenizer=run/tokenizer.json", "--set", "data.vocab_size=4000"];
    let said = train_run(&place, &[&["--dry-run"], &sets[..], &given].concat());
    assert!(said.stdout.contains("these numbers are for one of 300\n"), "{said}");
    let init = ["--init", "run"];
    let said = train_run(&place, &[&["--dry-run"], &sets[..], &init].concat());
    assert!(said.stdout.contains("these numbers are for one of 300\n"), "{said}");
    assert_eq!(place.tree(), before);
    // What a run would refuse, it refuses.
    assert!(
        place.refused(&["train", "run.toml", "--out", "run", "--dry-run"]).contains("a run is")
    );
}

fn train_run(place: &Place, more: &[&str]) -> Output {
    place.matformer(&[&["train", "run.toml", "--out", "new"], more].concat()).ok()
}

#[test]
fn what_is_rarely_meant_is_said_before_training() {
    let place = Place::trained();
    let said = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        let dry = train_run(&place, &[&["--dry-run"], &sets[..]].concat()).stderr;
        let arguments = [&["train", "run.toml", "--out", "noted"], &sets[..]].concat();
        let run = place.matformer(&arguments).ok().stderr;
        place.remove("noted");
        assert_eq!(dry.lines().next(), run.lines().next());
        run.lines().next().unwrap().to_owned()
    };
    snapshot!(said(&["train.warmup=100"]), @"note: `train.warmup` is 100 and `train.steps` is 12: the learning rate rises until the last step, to 1.20e-3 of 1.00e-2, and never comes down");
    snapshot!(said(&["train.warmup=7", "train.schedule=wsd"]), @"note: `train.warmup` is 7 and `train.steps` is 12: the warm-up takes most of the run");
    snapshot!(said(&["train.schedule=wsd", "train.decay=0"]), @"note: `train.decay` is 0, less than one of 12 steps: `wsd` never lowers the learning rate");
    snapshot!(said(&["train.distill.weight=0.5", "train.draw=baseline:XL"]), @"note: `train.distill` teaches nothing: the draw `baseline:XL` trains its teacher, XL, alone");
    assert!(!said(&["train.draw=joint"]).starts_with("note: `train"));
}

#[test]
fn a_run_that_no_step_has_changed_is_a_failure() {
    let place = Place::trained();
    let sets = ["train.distill.weight=1e30", "train.draw=joint", "train.steps=4"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    let output = place.matformer(&[&["train", "run.toml", "--out", "out"], &sets[..]].concat());
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output}");
    let lines: Vec<&str> = output.stderr.lines().rev().take(2).collect();
    assert!(lines[1].starts_with("error: all 4 steps were skipped, the last because "), "{output}");
    assert!(lines[0].contains("a lower `train.distill.weight`"), "{output}");
    assert!(!place.path("out/matformer.json").exists());
}

#[test]
fn a_step_of_no_whole_rows_names_their_length() {
    let place = Place::trained();
    let refused = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
        place.refused(&[&["train", "run.toml", "--out", "out"], &sets[..]].concat())
    };
    snapshot!(refused(&["train.tokens_per_step=100"]), @"error: `train.tokens_per_step` is 100; expected a multiple of 32, the targets of one row: `train.seq_len`, or the model's context where that is absent");
    snapshot!(refused(&["train.seq_len=24"]), @"error: `train.tokens_per_step` is 256; expected a multiple of 24, the targets of one row: `train.seq_len`, or the model's context where that is absent");
    snapshot!(refused(&["train.batch_rows=3"]), @"error: `train.tokens_per_step` is 256; expected a multiple of 96, the targets of one pass: `train.batch_rows` is 3 of 32 targets each");
}

#[test]
fn rows_that_are_shorter_than_the_context_train_and_resume() {
    let place = Place::trained();
    let sets = ["--set", "train.seq_len=8"];
    train_run(&place, &sets);
    let lines = place.read_lines("new/metrics.jsonl");
    assert_eq!(lines[0]["tokens"], 256, "as many tokens to a step");
    let other = &place.read_lines("run/metrics.jsonl")[0]["loss"];
    assert_ne!(&lines[0]["loss"], other, "of other rows");
    assert_eq!(place.read_json("new/config.json")["max_position_embeddings"], 32);
    let kept = place.read("new/run.toml");
    assert!(kept.contains("seq_len = 8\n"), "{kept}");
    let state = place.read_json("new/checkpoints/step-000012/train/state.json");
    assert_eq!(state.pointer("/run/train/seq_len").unwrap(), 8);
    let state = place.read_json("run/checkpoints/step-000012/train/state.json");
    assert_eq!(state.pointer("/run/train/seq_len").unwrap(), 32, "the default is written out");

    place.write("new/run.toml", kept.replace("seq_len = 8", "seq_len = 16"));
    let refused = place.refused(&["train", "new", "--resume"]);
    snapshot!(refused.lines().next().unwrap(), @"error: new/run.toml: `train.seq_len` is 16; the run was trained with 8");
    let longer = kept.replace("steps = 12", "steps = 16");
    place.write("new/run.toml", longer);
    place.matformer(&["train", "new", "--resume"]).ok();
    assert_eq!(place.read_json("new/matformer.json")["provenance"]["steps"], 16);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_made() {
    let place = Place::trained();
    let refused = |set: &str| place.refused(&["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(refused("model.lm.d_model=100000000"), @"error: `model.lm`: `d_model` is 100000000; expected at most 16777216");
    snapshot!(refused("model.lm.n_layers=1000000000000"), @"error: `model.lm`: `n_layers` is 1000000000000; expected at most 16777216");
    snapshot!(refused("model.lm.n_layers=100000"), @"error: `model.lm`: `n_layers` is 100000; expected at most 10000");
    snapshot!(refused("model.lm.vocab_size=10000000000"), @"error: `model.lm`: `vocab_size` is 10000000000; expected at most 16777216");
    snapshot!(refused("model.lm.d_ff=9000000000000000000"), @"error: `model.lm`: `d_ff` is 9000000000000000000; expected at most 16777216");
    snapshot!(refused("train.tokens_per_step=9000000000000000000"), @"error: `train.steps` is 12; expected at most 18446744073709551615 tokens in all");
    insta::with_settings!({ filters => vec![
        (r"\S+ [kMGTPE]?B are", "[memory] are"),
        (r"\d+ rows of 32 targets fit", "[n] rows of 32 targets fit"),
        (r"\d+ passes", "[n] passes"),
    ] }, { snapshot!(refused("train.tokens_per_step=1000000000000"), @"
    error: training needs about 9.47 PB of memory; [memory] are available
    hint: lower `train.batch_rows`, which is 31250000000: [n] rows of 32 targets fit; a step then has [n] passes
    ") });
    let said = refused("data.vocab_size=10000000000");
    assert!(said.contains("training needs about ") && said.contains("a smaller model"), "{said}");
    let huge = ["--set", "model.lm.d_model=1048576", "--set", "model.lm.d_ff=1048576"];
    let arguments = [&["train", "run.toml", "--out", "out"], &huge[..]].concat();
    let said = place.refused(&arguments);
    assert!(said.contains("hint: a smaller model needs less"), "{said}");
    let said = place.refused(&[&arguments[..], &["--dry-run"]].concat());
    assert!(said.contains("hint: a smaller model needs less"), "{said}");
}

#[test]
fn metrics_go_to_tensorboard_too() {
    let place = Place::new();
    let train = ["train", "run.toml", "--out", "run", "--set", "train.tensorboard=true"];
    place.matformer(&train).ok();
    let files: Vec<String> = place
        .list("run")
        .lines()
        .filter(|name| name.starts_with("events.out.tfevents."))
        .map(str::to_owned)
        .collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let bytes = std::fs::read(place.path("run").join(file)).unwrap();
    // Records of a length, a checksum, that many bytes, and a checksum.
    let (mut at, mut records) = (0, 0);
    while at < bytes.len() {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        at += 16 + usize::try_from(len).unwrap();
        records += 1;
    }
    // The version of the format, 12 steps and 3 evaluations.
    assert_eq!((at, records), (bytes.len(), 16));
    let text = String::from_utf8_lossy(&bytes);
    for tag in ["brain.Event:2", "held_out/XL", "learning_rate", "tokens_per_second", "loss/"] {
        assert!(text.contains(tag), "{tag}");
    }
    // It may be turned off underway, and changes nothing of the run.
    let kept = place.read("run/run.toml");
    place.write(
        "run/run.toml",
        kept.replace("tensorboard = true\n", "").replace("steps = 12", "steps = 13"),
    );
    place.matformer(&["train", "run", "--resume"]).ok();
}
