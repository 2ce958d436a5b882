//! `matformer train --resume`, and Ctrl-C.

use serde_json::Value;

use crate::support::Place;

/// What makes two runs equal: weights, and what was measured but for the clock.
fn essence(place: &Place, run: &str) -> (Value, Vec<Value>) {
    let mut lines = place.read_lines(format!("{run}/metrics.jsonl"));
    for line in lines.iter_mut().filter_map(Value::as_object_mut) {
        line.remove("tokens_per_second");
    }
    (place.read_json(format!("{run}/matformer.json")), lines)
}

/// As if the run had been killed after its checkpoint of step 4.
fn killed_after_step_4() -> Place {
    let place = Place::trained();
    for name in ["matformer.json", "checkpoints/step-000008", "checkpoints/step-000012"] {
        place.remove(&format!("run/{name}"));
    }
    place
}

#[test]
fn a_complete_run_is_left_alone() {
    let place = Place::trained();
    let before = place.tree();
    snapshot!(place.matformer(&["train", "run.toml", "--out", "run", "--resume"]), @"
    exit code 0
    --- standard error
    run: complete, nothing to do
    ");
    snapshot!(place.matformer(&["train", "run", "--resume", "--json"]), @r#"
    exit code 0
    --- standard output
    {
      "run": "run",
      "steps": 12,
      "interrupted": false
    }
    --- standard error
    run: complete, nothing to do
    "#);
    assert_eq!(place.tree(), before);
}

#[test]
fn another_configuration_is_refused_by_key() {
    let place = Place::trained();
    let with =
        |set| place.refused(&["train", "run.toml", "--out", "run", "--resume", "--set", set]);
    snapshot!(with("train.steps=24"), @"
    error: run/run.toml: `train.steps` is 12 there, 24 here
    hint: resume with the run folder alone (matformer train RUN --resume), or train into another folder (--out)
    ");
    snapshot!(with("model.lm.granularities=[64, 256]"), @"
    error: run/run.toml: `model.lm.granularities` is absent there, [64, 256] here
    hint: resume with the run folder alone (matformer train RUN --resume), or train into another folder (--out)
    ");
}

#[test]
fn it_goes_on_from_the_last_checkpoint() {
    let expected = essence(&Place::trained(), "run");
    let place = killed_after_step_4();
    let output = place.matformer(&["train", "run", "--resume"]).ok();
    measured_snapshot!(output, @"
    exit code 0
    --- standard error
    reading documents
    data [hash]: 13.1k training tokens of 45 documents, 4.1k held-out tokens of 15 (prepared before)
    resuming at step 4 from run/checkpoints/step-000004
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
    assert_eq!(essence(&place, "run"), expected);
}

#[test]
fn without_a_checkpoint_it_starts_at_step_0() {
    let expected = essence(&Place::trained(), "run");
    let place = killed_after_step_4();
    place.remove("run/checkpoints");
    let output = place.matformer(&["train", "run.toml", "--out", "run", "--resume"]).ok();
    assert!(
        output.stderr.contains("\nrun: no checkpoint, starting at step 0\nstep 1/12"),
        "{output}"
    );
    assert_eq!(essence(&place, "run"), expected);
}

#[test]
fn resuming_what_was_never_begun_begins_it() {
    let place = Place::trained();
    let arguments = ["train", "run.toml", "--out", "new", "--resume"];
    let output = place.matformer(&arguments).ok();
    assert!(output.stderr.contains("new: no checkpoint, starting at step 0\n"), "{output}");
    assert_eq!(essence(&place, "new"), essence(&place, "run"));
}

/// Ctrl-C in the middle.
#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_and_goes_on_to_the_same_weights() {
    use std::{
        io::{BufRead, BufReader},
        process::Command,
    };

    use crate::support::Output;

    let place = Place::trained();
    let train = |out: &'static str| {
        // Steps slow enough to be stopped between two, checkpoints far apart.
        let sets = ["train.steps=60", "train.tokens_per_step=1024", "train.eval_every=25"];
        let sets = sets.into_iter().chain(["train.checkpoint_every=50"]);
        let sets = sets.flat_map(|set| ["--set", set]);
        let arguments = ["train", "run.toml", "--out", out, "--json"].into_iter().chain(sets);
        place.command(&arguments.collect::<Vec<_>>())
    };
    let whole = Output::of(train("whole").output().unwrap()).ok();
    assert_eq!(whole.json()["interrupted"], false);

    let mut child = train("parts").spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(stderr.any(|line| line.starts_with("step ")), "it trains");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let said = stderr.last().unwrap();
    let output = Output::of(child.wait_with_output().unwrap());
    assert_eq!(output.code, Some(130), "{output}");
    let result = output.json();
    let step = result["steps"].as_u64().unwrap();
    assert!(step < 60 && result["interrupted"] == true, "{result}");
    assert_eq!(
        said,
        format!("interrupted after step {step}, saved; go on with: matformer train parts --resume")
    );
    assert!(!place.path("parts/matformer.json").exists(), "no model yet");

    let output = place.matformer(&["train", "parts", "--resume"]).ok();
    let from = format!("resuming at step {step} from parts/checkpoints/step-{step:06}\n");
    assert!(output.stderr.contains(&from), "{output}");
    assert_eq!(essence(&place, "parts"), essence(&place, "whole"));
}

#[test]
fn other_text_or_another_shape_is_not_gone_on_with() {
    let place = killed_after_step_4();
    let run = place.read("run/run.toml");
    place.write("run/run.toml", run.replace("d_model = 32", "d_model = 64"));
    let output = place.matformer(&["train", "run", "--resume"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("as the run's configuration says"), "{output}");

    let place = killed_after_step_4();
    place.write("text/one more.txt", "A text that was not there when the run began.");
    let output = place.matformer(&["train", "run", "--resume"]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("the run's text is now data"), "{output}");
    assert!(output.stderr.contains("hint: bring the old text back"), "{output}");
}
