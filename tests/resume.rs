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
      "interrupted": false,
      "skipped": 0
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
    data [hash]: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13 (prepared before)
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
    assert!(output.stderr.contains("new: no run is there, a new one begins\n"), "{output}");
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
        format!(
            "Ctrl-C: interrupted after step {step}, saved; go on with: matformer train parts --resume"
        )
    );
    assert!(!place.path("parts/matformer.json").exists(), "no model yet");

    let output = place.matformer(&["train", "parts", "--resume"]).ok();
    let from = format!("resuming at step {step} from parts/checkpoints/step-{step:06}\n");
    assert!(output.stderr.contains(&from), "{output}");
    assert_eq!(essence(&place, "parts"), essence(&place, "whole"));
}

#[test]
fn other_text_is_not_gone_on_with() {
    let place = killed_after_step_4();
    place.write("text/one more.txt", "A text that was not there when the run began.");
    let output = place.matformer(&["train", "run", "--resume"]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("the run's text is now data"), "{output}");
    assert!(output.stderr.contains("hint: bring the old text back"), "{output}");
}

/// A run folder belongs to one process; to look at it is free.
#[cfg(unix)]
#[test]
fn two_processes_do_not_train_into_one_folder() {
    use std::io::{BufRead, BufReader};

    use crate::support::Output;

    let place = Place::trained();
    let sets = ["train.steps=100000", "train.checkpoint_every=5", "train.keep=1000"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let arguments = [&["train", "run.toml", "--out", "long"], &sets[..]].concat();
    let mut child = place.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("step 50/")), "it trains");

    snapshot!(place.matformer(&["train", "long", "--resume"]), @"
    exit code 1
    --- standard error
    error: long: another process is training into it
    hint: wait until it has ended, or train into another folder (--out)
    ");
    let checkpoint = "long/checkpoints/step-000005";
    place.matformer(&["eval", checkpoint, "--data", "long", "--tokens", "200"]).ok();

    // The lock goes with the process, however it ends.
    child.kill().unwrap();
    drop(lines);
    child.wait().unwrap();
    let mut child = place.command(&["train", "long", "--resume"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("resuming at step ")), "it goes on");
    child.kill().unwrap();
    let _ = Output::of(child.wait_with_output().unwrap());
}

#[test]
fn a_resumed_run_removes_what_a_killed_last_save_left() {
    use matformer::core::fs;

    let place = Place::trained();
    place.remove("run/matformer.json");
    place.write("run/.tmp-model.safetensors-Ab3dE6", "half of the weights");
    place.write("run/checkpoints/.tmp-step-000012-Ab3dE6/new/config.json", "{}");
    // Somebody else is writing into the folder: this process.
    let report = fs::scratch_dir(place.path("run/report")).unwrap();
    fs::write_atomic_with(place.path("run/named.json"), |out| {
        place.matformer(&["train", "run", "--resume"]).ok();
        let files = place.list("run");
        assert!(files.contains("matformer.json"), "{files}");
        assert!(!files.contains("Ab3dE6"), "{files}");
        assert!(files.contains(".tmp-named.json-"), "its writer is alive: {files}");
        std::io::Write::write_all(out, b"{}")
    })
    .unwrap();
    assert!(report.path().exists());
    drop(report);
    assert!(!place.list("run").contains(".tmp-"));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let expected = essence(&Place::trained(), "run");
    let place = Place::trained();
    for name in ["matformer.json", "checkpoints/step-000012"] {
        place.remove(&format!("run/{name}"));
    }
    let damaged = "run/checkpoints/step-000008/train/optimizer.safetensors";
    let bytes = place.tree().remove(std::path::Path::new(damaged)).unwrap();
    place.write(damaged, &bytes[..bytes.len() - 1]);
    let output = place.matformer(&["train", "run", "--resume"]).ok();
    let lines: Vec<&str> = output.stderr.lines().skip(2).take(2).collect();
    snapshot!(lines.join("\n"), @"
    checkpoint of step 8 is damaged, put aside: run/checkpoints/step-000008/train/optimizer.safetensors: incomplete metadata, file not fully covered; expected the moments of every parameter in `state.json`, as finite F32
    resuming at step 4 from run/checkpoints/step-000004
    ");
    assert_eq!(essence(&place, "run"), expected);
    assert!(place.path("run/checkpoints/damaged-step-000008").is_dir());

    // None is left: nothing is begun anew, and nothing thrown away.
    let place = killed_after_step_4();
    place.remove("run/checkpoints/step-000004/model.safetensors");
    let output = place.matformer(&["train", "run", "--resume"]);
    assert_eq!(output.code, Some(1), "{output}");
    let lines: Vec<&str> = output.stderr.lines().skip(2).collect();
    snapshot!(lines.join("\n"), @"
    error: run/checkpoints: the only checkpoint is damaged: cannot open `run/checkpoints/step-000004/model.safetensors`: No such file or directory (os error 2)
    hint: remove `run/checkpoints` to start at step 0, or train into another folder (--out)
    ");
    assert!(place.path("run/checkpoints/step-000004").is_dir());
}

#[test]
fn a_run_file_that_was_edited_may_change_what_is_still_to_come() {
    let edited = |from: &str, to: &str| {
        let place = killed_after_step_4();
        let run = place.read("run/run.toml");
        assert!(run.contains(from), "{run}");
        place.write("run/run.toml", run.replace(from, to));
        place
    };
    let refused = |from, to| edited(from, to).refused(&["train", "run", "--resume"]);
    snapshot!(refused("learning_rate = 0.01", "learning_rate = 0.02"), @"
    error: run/run.toml: `train.learning_rate` is 0.02; the run was trained with 0.01
    hint: set it back, or train into another folder (--out); `train.steps` may grow, and `batch_rows`, `eval_every`, `eval_tokens`, `checkpoint_every`, `keep`, `spike` and `tensorboard` may change
    ");
    snapshot!(refused("\nseed = 0\ntokens", "\nseed = 1\ntokens").lines().next().unwrap(), @"error: run/run.toml: `train.seed` is 1; the run was trained with 0");
    snapshot!(refused("draw = \"sampled\"", "draw = \"joint\"").lines().next().unwrap(), @r#"error: run/run.toml: `train.draw` is "joint"; the run was trained with "sampled""#);
    snapshot!(refused("d_model = 32", "d_model = 64").lines().next().unwrap(), @"error: run/run.toml: `model.lm.d_model` is 64; the run was trained with 32");
    snapshot!(refused("steps = 12", "steps = 6").lines().next().unwrap(), @"error: run/run.toml: `train.steps` is 6; the run was trained with 12");
    let place = edited("held_out = 0.2", "held_out = 0.3");
    let output = place.matformer(&["train", "run", "--resume"]);
    assert_eq!(output.code, Some(2), "{output}");
    snapshot!(output.stderr.lines().find(|line| line.starts_with("error")).unwrap(), @"error: run/run.toml: `data.held_out` is 0.3; the run was trained with 0.2");

    let place = edited("eval_every = 4", "eval_every = 3");
    let output = place.matformer(&["train", "run", "--resume"]).ok();
    assert!(output.stderr.contains("\nstep 6  held-out loss "), "{output}");

    let place = edited("steps = 12", "steps = 16");
    let output = place.matformer(&["train", "run", "--resume"]).ok();
    let lines: Vec<&str> = output.stderr.lines().skip(2).take(2).collect();
    snapshot!(lines.join("\n"), @"
    12 steps became 16: the learning rate goes on at 9.55e-3, not 9.14e-3
    resuming at step 4 from run/checkpoints/step-000004
    ");
    assert!(output.stderr.ends_with("run: trained 16 steps\n"), "{output}");
    // A run that has ended goes on as well.
    let run = place.read("run/run.toml").replace("steps = 16", "steps = 20");
    place.write("run/run.toml", run);
    let output = place.matformer(&["train", "run", "--resume"]).ok();
    assert!(output.stderr.contains("\nresuming at step 16 from "), "{output}");
    assert_eq!(place.read_json("run/matformer.json")["provenance"]["steps"], 20);
}

#[test]
fn a_folder_of_something_else_is_not_trained_into() {
    let place = Place::trained();
    place.write("mine/letters/to-a-friend.txt", "Dear friend");
    let expected = "error: mine: `letters` is there, and no `run.toml`; expected a new folder, an \
                    empty one or a run's\nhint: train into another folder (--out)\n";
    assert_eq!(place.refused(&["train", "run.toml", "--out", "mine"]), expected);
    assert_eq!(place.refused(&["train", "run.toml", "--out", "mine", "--resume"]), expected);
    // An empty one serves, and one whose process was killed before it began.
    place.write("begun/.lock", "");
    for out in ["begun", "empty"] {
        std::fs::create_dir_all(place.path(out)).unwrap();
        place.matformer(&["train", "run.toml", "--out", out, "--set", "train.steps=1"]).ok();
    }
}

/// Ctrl-C before training, and twice while it saves.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_at_once_where_there_is_nothing_to_save() {
    use std::{
        io::{BufRead, BufReader},
        process::Command,
    };

    use crate::support::Output;

    let interrupt = |child: &std::process::Child| {
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    };

    // Much text, and a vocabulary that takes its time.
    let place = Place::trained();
    let mut state = 7_u64;
    let mut words = String::new();
    for _ in 0..600_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        words += &format!("{:x} ", state >> 36);
    }
    for name in ["a", "b", "c", "d", "e", "f"] {
        place.write(format!("much/{name}.txt"), format!("{name}{words}"));
    }
    let sets = ["data.paths=[\"much\"]", "data.vocab_size=30000"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let arguments = [&["train", "run.toml", "--out", "out"], &sets[..]].concat();
    let mut child = place.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "training the tokenizer"));
    interrupt(&child);
    let said = lines.next().unwrap();
    assert_eq!(said, "Ctrl-C: interrupted before training began: nothing was lost");
    assert_eq!(lines.next(), None);
    let output = Output::of(child.wait_with_output().unwrap());
    assert_eq!((output.code, output.stdout.as_str()), (Some(130), ""), "{output}");
    assert!(!place.path("out").exists());

    // The second one does not wait for the checkpoint that the first asked for.
    let arguments = ["train", "run.toml", "--out", "two", "--set", "train.steps=3000"];
    let arguments = [&arguments[..], &["--set", "train.checkpoint_every=50"]].concat();
    let mut child = place.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("step 100/")), "it trains");
    interrupt(&child);
    // What comes at once counts as the same.
    std::thread::sleep(std::time::Duration::from_millis(350));
    interrupt(&child);
    let said: Vec<String> = lines.collect();
    let output = Output::of(child.wait_with_output().unwrap());
    assert_eq!(output.code, Some(130), "{said:?}");
    let folders = place.list("two/checkpoints");
    assert!(folders.contains("step-000050/train/state.json"), "{folders}");
    let mut child = place.command(&["train", "two", "--resume"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("resuming at step ")), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// `nohup`, and what a shell starts with `&`.
#[cfg(unix)]
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use crate::support::Output;

    let place = Place::trained();
    let sets = ["train.steps=60", "train.tokens_per_step=1024", "train.eval_every=60"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let arguments = |out| [&["train", "run.toml", "--json", "--out", out], &sets[..]].concat();
    let send = |signal: &str, child: &std::process::Child| {
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    };

    let inner = place.command(&arguments("ignores"));
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(inner.get_program());
    outer.args(inner.get_args()).current_dir(inner.get_current_dir().unwrap());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = outer.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("step ")), "it trains");
    send("-HUP", &child);
    send("-INT", &child);
    let said: Vec<String> = lines.collect();
    let output = Output::of(child.wait_with_output().unwrap()).ok();
    assert_eq!(
        (&output.json()["steps"], &output.json()["interrupted"]),
        (&60.into(), &false.into())
    );
    assert_eq!(said.last().unwrap(), "ignores: trained 60 steps");

    // Otherwise each ends the run, and is called by its name.
    for (signal, name) in [("-TERM", "SIGTERM"), ("-HUP", "SIGHUP")] {
        let mut child = place.command(&arguments(name)).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("step ")), "it trains");
        send(signal, &child);
        let said = lines.last().unwrap();
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(130), "{output}");
        assert!(said.starts_with(&format!("{name}: interrupted after step ")), "{said}");
        let log = place.read(format!("{name}/train.log"));
        assert!(log.contains(&said), "{log}");
    }
}

#[test]
fn submodels_with_batches_of_their_own_get_the_same_rows_in_fewer_or_more_passes() {
    let place = Place::trained();
    let train = |out: &str, rows: &str| {
        let sets = ["train.draw=joint-separate", "train.steps=3", rows];
        let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
        place.matformer(&[&["train", "run.toml", "--out", out], &sets[..]].concat()).ok();
        let lines = place.read_lines(format!("{out}/metrics.jsonl"));
        let losses = lines.iter().filter_map(|line| line["loss"].as_object().cloned());
        losses
            .flat_map(|loss| loss.into_iter().map(|(_, v)| v.as_f64().unwrap()))
            .collect::<Vec<_>>()
    };
    let (whole, parts) =
        (train("whole", "train.batch_rows=8"), train("parts", "train.batch_rows=2"));
    assert_eq!((whole.len(), parts.len()), (12, 12));
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-4, "{whole:?} {parts:?}");
    }
}
