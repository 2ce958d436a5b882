//! Input that cannot be worked with: exit code 2, a message that says what to do, nothing on
//! standard output, nothing written.

use crate::support::{Output, Place};

fn train(file: &str, sets: &[&str]) -> String {
    let place = Place::trained();
    place.write("bad.toml", file);
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", "bad.toml", "--out", "out"].into_iter().chain(sets).collect();
    place.refused(&arguments)
}

const FILE: &str = "[data]\npaths = [\"text\"]\n";

#[test]
fn unknown_key() {
    snapshot!(train("[train]\nstepz = 3\n", &[]), @"
    error: bad.toml: TOML parse error at line 2, column 1
      |
    2 | stepz = 3
      | ^^^^^
    unknown field `stepz`, expected one of `steps`, `seed`, `tokens_per_step`, `batch_rows`, `draw`, `outer`, `learning_rate`, `schedule`, `warmup`, `min_lr`, `decay`, `weight_decay`, `betas`, `eps`, `clip`, `eval_every`, `eval_tokens`, `checkpoint_every`, `keep`
    ");
    snapshot!(train(FILE, &["train.stepz=3"]), @"error: --set: unknown field `stepz`, expected one of `steps`, `seed`, `tokens_per_step`, `batch_rows`, `draw`, `outer`, `learning_rate`, `schedule`, `warmup`, `min_lr`, `decay`, `weight_decay`, `betas`, `eps`, `clip`, `eval_every`, `eval_tokens`, `checkpoint_every`, `keep` in `train`");
}

#[test]
fn wrong_type() {
    snapshot!(train("[model.lm]\nd_ff = \"wide\"\n", &[]), @r#"
    error: bad.toml: TOML parse error at line 2, column 8
      |
    2 | d_ff = "wide"
      |        ^^^^^^
    invalid type: string "wide", expected usize
    "#);
    snapshot!(train(FILE, &["train.steps=many"]), @r#"error: --set: invalid type: string "many", expected u64 in `train.steps`"#);
}

#[test]
fn not_toml() {
    snapshot!(train("[train\n", &[]), @"
    error: bad.toml: TOML parse error at line 1, column 7
      |
    1 | [train
      |       ^
    unclosed table, expected `]`
    ");
}

#[test]
fn set_without_a_value() {
    snapshot!(train(FILE, &["train.steps"]), @"error: --set train.steps: expected key=value, such as train.steps=100");
    snapshot!(train(FILE, &["train.steps.more=1"]), @"error: --set: invalid type: map, expected u64 in `train.steps`");
}

#[test]
fn values_that_do_not_serve() {
    snapshot!(train(FILE, &["train.steps=0"]), @"error: `train.steps` is 0; expected at least 1");
    snapshot!(train(FILE, &["train.draw=often"]), @"error: --set: draw: `often`, expected `sampled`, `sampled:0.1/0.2/0.3/0.4`, `sampled-xl-heavy`, `joint`, `joint-separate`, `sandwich`, `sandwich:2`, `per-layer` or `baseline:S` in `train.draw`");
    snapshot!(train(FILE, &["train.tokens_per_step=100"]), @"error: `train.tokens_per_step` is 100; expected a multiple of 256, the targets of one batch");
    snapshot!(train(FILE, &["model.lm.n_heads=3"]), @"error: `model.lm`: `n_heads` is 3; expected a divisor of `d_model` 128");
    snapshot!(train(FILE, &["model.lm.granularities=[64, 1024]"]), @"error: `model.lm`: widest granularity: `1024`, expected at most d_ff 512");
    snapshot!(train(FILE, &["data.held_out=1"]), @"error: `data.held_out` is 1, expected: a fraction between 0 and 1, both excluded");
}

#[test]
fn unknown_preset() {
    snapshot!(train("[model]\npreset = \"huge\"\n[data]\npaths = [\"text\"]\n", &[]), @"error: bad.toml: `model.preset`: unknown preset `huge`; there are: demo, small, 78m, 78m-paper, 180m, 180m-paper, 310m, 310m-paper, 463m, 463m-paper, 850m, 850m-paper");
    snapshot!(Place::new().refused(&["info", "--preset", "huge"]), @"error: unknown preset `huge`; there are: demo, small, 78m, 78m-paper, 180m, 180m-paper, 310m, 310m-paper, 463m, 463m-paper, 850m, 850m-paper");
}

#[test]
fn unknown_device() {
    let place = Place::trained();
    let said = place.refused(&["info", "run", "--device", "tpu"]);
    // What else there is depends on the build.
    snapshot!(said.split("; available").next().unwrap(), @"error: invalid value 'tpu' for '--device <DEVICE>': device `tpu` is not available: not a device name; expected `auto`, `flex`, `wgpu[:N]` or `cuda[:N]`");
    let output =
        place.command(&["info", "run"]).env("MATFORMER_DEVICE", "flex:1").output().unwrap();
    let output = Output::of(output);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("error: device `flex:1` is not available: "), "{output}");
    place.matformer(&["info", "run", "--device", "auto"]).ok();
}

#[test]
#[cfg(not(feature = "cuda"))]
fn device_that_is_not_in_the_build() {
    let said = Place::trained().refused(&["score", "run", "--device", "cuda", "--text", "a"]);
    let (error, hint) = said.trim_end().split_once('\n').unwrap();
    assert!(error.starts_with("error: device `cuda:0` is not available: "), "{said}");
    assert!(hint.starts_with("hint: build with `--features"), "{said}");
}

#[test]
fn text_that_is_not_there() {
    let place = Place::trained();
    place.write("other/notes.pdf", "");
    let with = |set: &str| place.refused(&["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(with("data.paths=[\"nothing\"]"), @"
    reading documents
    error: cannot read `nothing`: No such file or directory (os error 2)
    ");
    snapshot!(with("data.paths=[\"other\"]"), @"
    reading documents
    error: no document is left for `train` out of 0
    hint: data is split by document: give more files than one, or a `.jsonl` file with one document per row, or change `data.held_out`
    ");
    snapshot!(with("data.paths=[\"text/story-00.txt\"]"), @"
    reading documents
    error: no document is left for `held_out` out of 1
    hint: data is split by document: give more files than one, or a `.jsonl` file with one document per row, or change `data.held_out`
    ");
    snapshot!(with("data.paths=[\"other/notes.pdf\"]"), @"
    reading documents
    error: `other/notes.pdf` is of no known text format
    hint: known suffixes are `jsonl` and: txt, md, rst, tex, org, rs, py, c, h, cc, cpp, hpp, cu, cuh, go, java, kt, scala, js, jsx, ts, tsx, rb, php, swift, cs, hs, ml, jl, lua, pl, r, zig, sh, sql, wgsl, toml, yaml, yml, json, html, css, xml
    ");
    snapshot!(train("", &[]), @"error: `data.paths` is empty, expected: text files or folders, or a corpus list in `data.corpus`");
}

#[test]
fn too_little_text() {
    let place = Place::trained();
    place.write("short.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n{\"text\": \"e f\"}\n");
    // Judged by tokens: the text is prepared first, and stays so.
    let arguments = ["train", "run.toml", "--out", "out", "--set", "data.held_out=0.5"];
    let output =
        place.matformer(&[&arguments[..], &["--set", "data.paths=[\"short.jsonl\"]"]].concat());
    assert!(!place.path("out").exists());
    measured_snapshot!(output, @"
    exit code 2
    --- standard error
    reading documents
    training the tokenizer
    encoding documents
    data [hash]: 4 training tokens of 2 documents, 3 held-out tokens of 1
    error: 6 tokens are fewer than one window needs: 33
    hint: give more text, or a shorter context
    ");
}

#[test]
fn malformed_submodel() {
    let place = Place::trained();
    snapshot!(place.refused(&["score", "run", "--text", "a", "--submodel", "64x"]), @"
    error: invalid value '64x' for '--submodel <SUBMODEL>': submodel: `64x`, expected a name `S`, a width `128`, runs `64x1+128x4` or a budget `60%`, `60%flops`, `1.2B`, `1.5Gflops`, `8ms`

    For more information, try '--help'.
    ");
    snapshot!(place.refused(&["eval", "run", "--submodels", "S,,M"]), @"error: submodel: ``, expected a name `S`, a width `128`, runs `64x1+128x4` or a budget `60%`, `60%flops`, `1.2B`, `1.5Gflops`, `8ms`");
}

#[test]
fn submodel_that_does_not_fit() {
    let place = Place::trained();
    let with = |submodel| place.refused(&["score", "run", "--text", "a", "--submodel", submodel]);
    snapshot!(with("64x3"), @"error: layers of submodel `64x3`: 3, expected 2");
    snapshot!(with("33"), @"error: width in submodel `33x2`: `33`, expected a granularity or a multiple of 32 from 32 to 256");
    snapshot!(with("512"), @"error: width in submodel `512x2`: `512`, expected a granularity or a multiple of 32 from 32 to 256");
    snapshot!(with("XXL"), @"
    error: unknown submodel: `XXL`, expected one of `S`, `M`, `L`, `XL`
    hint: a width `128`, runs of layers `64x1+128x4` or a budget `60%` also work
    ");
    snapshot!(with("8ms"), @"
    error: no costs in `ms`, expected one of `params`, `non_embedding`, `ffn`, `flops`, `kv_bytes`
    hint: milliseconds must be measured on the device first; `60%` and `60%flops` need no measurement
    ");
    snapshot!(place.refused(&["eval", "run", "--submodels", "S", "--paired-to", "64x5"]), @"error: layers of submodel `64x5`: 5, expected 2");
}

#[test]
fn budget_below_the_smallest() {
    let place = Place::trained();
    snapshot!(place.refused(&["score", "run", "--text", "a", "--submodel", "10%"]), @"
    error: budget: 5.55k non-embedding parameters (10.0 % of the largest submodel), the smallest submodel `S` costs 12.4k non-embedding parameters (22.4 %)
    hint: `22.5%` is enough
    ");
    // What the hint says is enough.
    place.matformer(&["score", "run", "--text", "a", "--submodel", "22.5%"]).ok();
}

#[test]
fn missing_model() {
    let place = Place::trained();
    snapshot!(place.refused(&["eval", "gone"]), @"
    error: gone/matformer.json: no such file
    hint: expected a model folder: what `matformer train` or `matformer slice` writes
    ");
    snapshot!(place.refused(&["info", "text"]), @"
    error: text/matformer.json: no such file
    hint: expected a model folder: what `matformer train` or `matformer slice` writes
    ");
    snapshot!(place.refused(&["train", "text", "--resume"]), @"
    error: text/run.toml: no such file
    hint: expected the folder of a run that `matformer train` began
    ");
    snapshot!(place.refused(&["train", "run"]), @"
    error: run: a folder; expected a run file
    hint: to go on with a run, give its folder and --resume alone
    ");
    snapshot!(place.refused(&["train", "gone.toml"]), @"error: cannot read `gone.toml`: No such file or directory (os error 2)");
}

#[test]
fn a_run_that_has_not_ended() {
    let place = Place::trained();
    place.remove("run/matformer.json");
    let said = place.refused(&["score", "run", "--text", "a"]);
    snapshot!(said, @"
    error: run/matformer.json: no such file
    hint: this run has not ended: finish it with `matformer train run --resume`, or name its last checkpoint, run/checkpoints/step-000012
    ");
    // What the hint names works.
    let named = said.trim_end().rsplit(' ').next().unwrap();
    place.matformer(&["score", named, "--text", "a"]).ok();
}

#[test]
fn data_that_nothing_names() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    snapshot!(place.refused(&["eval", "slim"]), @"
    error: slim/run.toml: no such file
    hint: name the data with --data RUN: a run file, or the folder of the run that this model comes from
    ");
    snapshot!(place.refused(&["report", "slim"]), @"
    error: slim/run.toml: no such file
    hint: name the data with --data RUN: a run file, or the folder of the run that this model comes from
    ");
}

#[test]
fn slices_that_cannot_be() {
    let place = Place::trained();
    let slice =
        |submodel, out| place.refused(&["slice", "run", "--submodel", submodel, "--out", out]);
    snapshot!(slice("32x1+256x1", "slim"), @"
    error: submodel `32x1+256x1` has unequal widths: a Llama folder has one
    hint: slice a uniform width, such as S, M, L, XL; unequal submodels run from the model folder with --submodel
    ");
    let said = slice("S", "text/story-00.txt/slim");
    assert!(said.starts_with("error: cannot create `text/story-00.txt"), "{said}");
    snapshot!(slice("S", "run"), @"
    error: run: exists
    hint: choose another --out, or remove it
    ");
}

#[test]
fn out_that_is_a_file() {
    let place = Place::trained();
    let said = place.refused(&["train", "run.toml", "--out", "text/story-00.txt"]);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: cannot create `text/story-00.txt`: "), "{said}");
}

#[test]
fn options_that_do_not_serve() {
    let place = Place::trained();
    let with =
        |more: &[&str]| place.refused(&[&["generate", "run", "--prompt", "a"], more].concat());
    snapshot!(with(&["--top-p", "0"]), @"error: `top_p` is 0; expected above 0, at most 1");
    snapshot!(with(&["--temperature=-1"]), @"error: `temperature` is -1; expected 0 or more");
    snapshot!(with(&["--max-tokens", "few"]), @"
    error: invalid value 'few' for '--max-tokens <N>': invalid digit found in string

    For more information, try '--help'.
    ");
    let long = "The hare counts dry leaves at home. ".repeat(4);
    snapshot!(place.refused(&["generate", "run", "--prompt", &long]), @"error: prompt has 81 tokens; the context holds 32");
}
