//! Input that cannot be worked with: exit code 2, a message that says what to do, nothing on
//! standard output, nothing written.

use crate::support::Place;

/// Runs the binary, checks that it refused, and returns what it said.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let before = place.tree();
    let output = place.matformer(arguments);
    assert_eq!(output.code, Some(2), "{output}");
    assert_eq!(output.stdout, "", "{output}");
    assert!(place.tree() == before, "something was written: {output}");
    output.stderr
}

fn train(file: &str, sets: &[&str]) -> String {
    let place = Place::trained();
    place.write("bad.toml", file);
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", "bad.toml", "--out", "out"].into_iter().chain(sets).collect();
    refused(&place, &arguments)
}

const FILE: &str = "[data]\npaths = [\"text\"]\n";

#[test]
fn unknown_key() {
    snapshot!(train("[train]\nstepz = 3\n", &[]), @"");
    snapshot!(train(FILE, &["train.stepz=3"]), @"");
}

#[test]
fn wrong_type() {
    snapshot!(train("[model.lm]\nd_ff = \"wide\"\n", &[]), @"");
    snapshot!(train(FILE, &["train.steps=many"]), @"");
}

#[test]
fn not_toml() {
    snapshot!(train("[train\n", &[]), @"");
}

#[test]
fn set_without_a_value() {
    snapshot!(train(FILE, &["train.steps"]), @"");
    snapshot!(train(FILE, &["train.steps.more=1"]), @"");
}

#[test]
fn values_that_do_not_serve() {
    snapshot!(train(FILE, &["train.steps=0"]), @"");
    snapshot!(train(FILE, &["train.draw=often"]), @"");
    snapshot!(train(FILE, &["train.tokens_per_step=100"]), @"");
    snapshot!(train(FILE, &["model.lm.n_heads=3"]), @"");
    snapshot!(train(FILE, &["model.lm.granularities=[64, 1024]"]), @"");
    snapshot!(train(FILE, &["data.held_out=1"]), @"");
}

#[test]
fn unknown_preset() {
    snapshot!(train("[model]\npreset = \"huge\"\n[data]\npaths = [\"text\"]\n", &[]), @"");
    snapshot!(refused(&Place::new(), &["info", "--preset", "huge"]), @"");
}

#[test]
fn unknown_device() {
    let place = Place::trained();
    snapshot!(refused(&place, &["info", "run", "--device", "tpu"]), @"");
    let output =
        place.command(&["info", "run"]).env("MATFORMER_DEVICE", "flex:1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
#[cfg(not(feature = "cuda"))]
fn device_that_is_not_in_the_build() {
    let said = refused(&Place::trained(), &["score", "run", "--device", "cuda", "--text", "a"]);
    let (error, hint) = said.trim_end().split_once('\n').unwrap();
    assert!(error.starts_with("error: device `cuda:0` is not available: "), "{said}");
    assert!(hint.starts_with("hint: build with `--features"), "{said}");
}

#[test]
fn text_that_is_not_there() {
    let place = Place::trained();
    place.write("other/notes.pdf", "");
    let with = |set: &str| refused(&place, &["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(with("data.paths=[\"nothing\"]"), @"");
    snapshot!(with("data.paths=[\"other\"]"), @"");
    snapshot!(with("data.paths=[\"text/story-00.txt\"]"), @"");
    snapshot!(with("data.paths=[\"other/notes.pdf\"]"), @"");
    snapshot!(train("", &[]), @"");
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
    measured_snapshot!(output, @"");
}

#[test]
fn malformed_submodel() {
    let place = Place::trained();
    snapshot!(refused(&place, &["score", "run", "--text", "a", "--submodel", "64x"]), @"");
    snapshot!(refused(&place, &["eval", "run", "--submodels", "S,,M"]), @"");
}

#[test]
fn submodel_that_does_not_fit() {
    let place = Place::trained();
    let with = |submodel| refused(&place, &["score", "run", "--text", "a", "--submodel", submodel]);
    snapshot!(with("64x3"), @"");
    snapshot!(with("33"), @"");
    snapshot!(with("512"), @"");
    snapshot!(with("XXL"), @"");
    snapshot!(with("8ms"), @"");
    snapshot!(refused(&place, &["eval", "run", "--submodels", "S", "--paired-to", "64x5"]), @"");
}

#[test]
fn budget_below_the_smallest() {
    let place = Place::trained();
    snapshot!(refused(&place, &["score", "run", "--text", "a", "--submodel", "10%"]), @"");
    // What the hint says is enough.
    place.matformer(&["score", "run", "--text", "a", "--submodel", "22.5%"]).ok();
}

#[test]
fn missing_model() {
    let place = Place::trained();
    snapshot!(refused(&place, &["eval", "gone"]), @"");
    snapshot!(refused(&place, &["info", "text"]), @"");
    snapshot!(refused(&place, &["train", "text", "--resume"]), @"");
    snapshot!(refused(&place, &["train", "run"]), @"");
    snapshot!(refused(&place, &["train", "gone.toml"]), @"");
}

#[test]
fn a_run_that_has_not_ended() {
    let place = Place::trained();
    place.remove("run/matformer.json");
    let said = refused(&place, &["score", "run", "--text", "a"]);
    snapshot!(said, @"");
    // What the hint names works.
    let named = said.trim_end().rsplit(' ').next().unwrap();
    place.matformer(&["score", named, "--text", "a"]).ok();
}

#[test]
fn data_that_nothing_names() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    snapshot!(refused(&place, &["eval", "slim"]), @"");
    snapshot!(refused(&place, &["report", "slim"]), @"");
}

#[test]
fn slices_that_cannot_be() {
    let place = Place::trained();
    let slice =
        |submodel, out| refused(&place, &["slice", "run", "--submodel", submodel, "--out", out]);
    snapshot!(slice("32x1+256x1", "slim"), @"");
    snapshot!(slice("S", "run"), @"");
}

#[test]
fn out_that_is_a_file() {
    let place = Place::trained();
    let said = refused(&place, &["train", "run.toml", "--out", "text/story-00.txt"]);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: cannot create `text/story-00.txt`: "), "{said}");
}

#[test]
fn options_that_do_not_serve() {
    let place = Place::trained();
    let with =
        |more: &[&str]| refused(&place, &[&["generate", "run", "--prompt", "a"], more].concat());
    snapshot!(with(&["--top-p", "0"]), @"");
    snapshot!(with(&["--temperature=-1"]), @"");
    snapshot!(with(&["--max-tokens", "few"]), @"");
    let long = "The hare counts dry leaves at home. ".repeat(4);
    snapshot!(refused(&place, &["generate", "run", "--prompt", &long]), @"");
}
