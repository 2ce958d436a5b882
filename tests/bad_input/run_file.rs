//! Run files and `--set`.

use super::{FILE, train};
use crate::support::Place;

#[test]
fn unknown_key() {
    snapshot!(train("[train]\nstepz = 3\n", &[]), @"
    error: bad.toml, line 2: unknown key `train.stepz`
    hint: did you mean `steps`?
    ");
    snapshot!(train(FILE, &["train.stepz=3"]), @"
    error: --set: unknown key `train.stepz`
    hint: did you mean `steps`?
    ");
    snapshot!(train("[data]\nd_model = 3\n", &[]), @"
    error: bad.toml, line 2: unknown key `data.d_model`
    hint: `d_model` is a key of the table `model.lm`
    ");
    snapshot!(train(FILE, &["train.unheard_of=3"]), @"
    error: --set: unknown key `train.unheard_of`
    hint: `matformer keys` lists the keys of run files
    ");
}

#[test]
fn wrong_type() {
    snapshot!(train("[model.lm]\nd_ff = \"wide\"\n", &[]), @r#"error: bad.toml, line 2: `model.lm.d_ff` is "wide"; expected a whole number, 0 or more"#);
    snapshot!(train(FILE, &["train.steps=many"]), @r#"error: --set: `train.steps` is "many"; expected a whole number, 0 or more"#);
}

#[test]
fn negative_numbers() {
    snapshot!(train("[train]\nsteps = -3\n", &[]), @"error: bad.toml, line 2: `train.steps` is -3; expected a whole number, 0 or more");
    snapshot!(train(FILE, &["train.steps=-3"]), @"error: --set: `train.steps` is -3; expected a whole number, 0 or more");
    snapshot!(train(FILE, &["train.learning_rate=-0.1"]), @"error: `train.learning_rate` is -0.1; expected above 0, at most 1");
}

#[test]
fn widths_that_do_not_serve() {
    snapshot!(train(FILE, &["model.lm.granularities=[128, 64]"]), @"error: `model.lm`: granularities: `g1=128,g2=64`, expected strictly ascending widths");
    snapshot!(train(FILE, &["model.lm.granularities=[64, 64]"]), @"error: `model.lm`: granularities: `g1=64,g2=64`, expected strictly ascending widths");
    snapshot!(train(FILE, &["model.lm.granularities=[]"]), @"error: `model.lm`: granularities: ``, expected at least one width, all above 0");
    snapshot!(train(FILE, &["model.lm.granularities=[64, 1024]"]), @"error: `model.lm`: widest granularity: `1024`, expected at most d_ff 512");
    snapshot!(train(FILE, &["model.lm.granularities=[48, 512]"]), @"
    error: `model.lm.granularities`: width 48, expected multiples of `model.lm.width_multiple` 32
    hint: widths are d_ff/8, /4, /2 and /1 if none are given
    ");
    snapshot!(train(FILE, &["model.lm.d_ff=128"]), @"
    error: `model.lm.granularities`: width 16, expected multiples of `model.lm.width_multiple` 32
    hint: widths are d_ff/8, /4, /2 and /1 if none are given
    ");
    snapshot!(train(FILE, &["model.lm.d_ff=500"]), @"error: `model.lm`: granularities: `d_ff 500`, expected a d_ff that 8 divides, for the widths d_ff/8, /4, /2, /1");
}

#[test]
fn heads_that_do_not_divide() {
    snapshot!(train(FILE, &["model.lm.n_heads=3"]), @"error: `model.lm`: `n_heads` is 3; expected a divisor of `d_model` 128");
    snapshot!(train(FILE, &["model.lm.n_kv_heads=3"]), @"error: `model.lm`: `n_kv_heads` is 3; expected a divisor of `n_heads` 4");
    snapshot!(train(FILE, &["model.lm.head_dim=7"]), @"error: `model.lm`: `head_dim` is 7; expected an even number: rotary embedding turns pairs");
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
fn text_in_place_of_a_run_file() {
    let place = Place::trained();
    place.write("my.jsonl", "{\"text\": \"a long row\"}\n");
    snapshot!(place.refused(&["train", "my.jsonl"]), @r#"
    error: my.jsonl: not a run file; expected TOML
    hint: list it in the table `[data]` of a run file, as `paths = ["my.jsonl"]`; `matformer train --data` needs no run file
    "#);
    snapshot!(place.refused(&["eval", "run", "--data", "my.jsonl"]), @r#"
    error: my.jsonl: not a run file; expected TOML
    hint: list it in the table `[data]` of a run file, as `paths = ["my.jsonl"]`; `matformer train --data` needs no run file
    "#);
}

#[test]
fn folders_and_files_in_the_way() {
    let place = Place::trained();
    place.write("file", "");
    snapshot!(place.refused(&["train", "run.toml", "--out", "file"]), @"
    error: file: a file is there; expected a folder
    hint: train into another folder (--out)
    ");
    snapshot!(place.refused(&["train", "run", "--resume", "--set", "train.steps=20"]), @"
    error: run: a folder; expected a run file
    hint: change `run/run.toml`, then resume with --resume alone
    ");
    snapshot!(place.refused(&["train", "run"]), @"
    error: run: a folder; expected a run file
    hint: to go on with a run, give its folder and --resume alone
    ");
}

#[test]
fn set_without_a_value() {
    snapshot!(train(FILE, &["train.steps"]), @"error: --set train.steps: expected key=value, such as train.steps=100");
    snapshot!(train(FILE, &["train.steps.more=1"]), @"error: --set: `train.steps` is a table; expected a whole number, 0 or more");
}

#[test]
fn values_that_do_not_serve() {
    snapshot!(train(FILE, &["train.steps=0"]), @"error: `train.steps` is 0; expected at least 1");
    snapshot!(train(FILE, &["train.draw=often"]), @"error: --set: draw: `often`, expected `sampled`, `sampled:0.1/0.2/0.3/0.4`, `sampled-xl-heavy`, `joint`, `joint-separate`, `sandwich`, `sandwich:2`, `per-layer` or `baseline:S` in `train.draw`");
    snapshot!(train(FILE, &["train.tokens_per_step=100"]), @"error: `train.tokens_per_step` is 100; expected a multiple of 256, the targets of one row: `train.seq_len`, or the model's context where that is absent");
    snapshot!(train(FILE, &["train.seq_len=257"]), @"error: `train.seq_len` is 257; expected from 2 to 256, the model's context");
    snapshot!(train(FILE, &["train.seq_len=1"]), @"error: `train.seq_len` is 1; expected from 2 to 256, the model's context");
    snapshot!(train(FILE, &["data.held_out=1"]), @"error: `data.held_out` is 1, expected: a fraction between 0 and 1, both excluded");
}

#[test]
fn exchanges_that_do_not_serve() {
    snapshot!(train(FILE, &["train.exchange=often"]), @r#"error: --set: invalid value: string "often", expected `every-step`, or a table with `every`, `outer_learning_rate`, `outer_momentum` in `train.exchange`"#);
    snapshot!(train(FILE, &["train.exchange={every = 0}"]), @"error: `train.exchange.every` is 0; expected at least 1");
    snapshot!(train(FILE, &["train.exchange={every = 10, outer_learning_rate = 0}"]), @"error: `train.exchange.outer_learning_rate` is 0; expected above 0, at most 2");
    snapshot!(train(FILE, &["train.exchange={every = 10, outer_momentum = 1}"]), @"error: `train.exchange.outer_momentum` is 1; expected from 0 to below 1");
    snapshot!(train(FILE, &["train.exchange={every = 10, momentum = 0.9}"]), @"error: --set: unknown field `momentum`, expected one of `every`, `outer_learning_rate`, `outer_momentum` in `train.exchange`");
}
