//! Model and run folders.

use crate::support::Place;

#[test]
fn missing_model() {
    let place = Place::trained();
    snapshot!(place.refused(&["eval", "gone"]), @"
    error: gone: no such folder
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
    ");
    snapshot!(place.refused(&["info", "text"]), @"
    error: text/matformer.json: no such file
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
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
fn out_that_is_a_file() {
    let place = Place::trained();
    snapshot!(place.refused(&["train", "run.toml", "--out", "text/story-00.txt"]), @"
    error: text/story-00.txt: a file is there; expected a folder
    hint: train into another folder (--out)
    ");
}

#[test]
fn a_checkpoint_of_another_model() {
    let place = Place::trained();
    // A run of another shape, of which the last checkpoint comes here.
    let arguments = ["train", "run.toml", "--out", "wide", "--set", "train.steps=16"];
    place.matformer(&[&arguments[..], &["--set", "model.lm.d_model=64"]].concat()).ok();
    place.remove("run/matformer.json");
    let (from, to) = ("wide/checkpoints/step-000016", "run/checkpoints/step-000016");
    std::fs::rename(place.path(from), place.path(to)).unwrap();
    snapshot!(place.refused(&["train", "run", "--resume"]), @"
    error: run/run.toml: `model.lm.d_model` is 32; the run was trained with 64
    hint: set it back, or train into another folder (--out); `train.steps` may grow, and `batch_rows`, `eval_every`, `eval_tokens`, `checkpoint_every`, `keep`, `spike` and `tensorboard` may change
    ");
}
