//! `matformer baselines`, of text

use crate::support::{Output, Place};

fn steps_made(place: &Place, name: &str) -> u64 {
    let manifest = place.read_json(format!("run/baselines/per-width/{name}/matformer.json"));
    manifest["provenance"]["steps"].as_u64().unwrap()
}

fn change_steps(place: &Place, from: u64, to: u64) {
    let run = place.read("run/run.toml");
    place.write(
        "run/run.toml",
        run.replace(&format!("steps = {from}\n"), &format!("steps = {to}\n")),
    );
}

#[test]
fn baselines_of_a_run_that_became_longer_are_left_out_until_they_are_trained_on() {
    let place = Place::trained();
    let first = place.matformer(&["baselines", "run"]).ok();
    assert!(first.stdout.contains("alone"), "{first}");
    assert_eq!(steps_made(&place, "S"), 3);
    // All of one tokenizer, which the elastic run trained.
    assert_eq!(first.stderr.matches("training the tokenizer").count(), 0, "{first}");

    // Asked for, not yet trained: a baseline's share of it would be compared with less.
    change_steps(&place, 12, 24);
    snapshot!(place.refused(&["baselines", "run"]), @"
    error: run: trained 12 steps; its `run.toml` asks for 24
    hint: finish it first: matformer train run --resume
    ");
    place.matformer(&["train", "run", "--resume"]).ok();
    let eval = place.matformer(&["eval", "run", "--submodels", "S"]).ok();
    let left_out = "note: run/baselines/per-width/S is left out: trained 3 steps, expected 6; \
                    matformer baselines run\n";
    assert!(eval.stderr.contains(left_out) && !eval.stdout.contains("alone"), "{eval}");
    let report = place.matformer(&["report", "run", "--json"]).ok();
    assert_eq!(report.json()["alone"].as_array().unwrap().len(), 0);

    let again = place.matformer(&["baselines", "run"]).ok();
    assert!(again.stderr.contains("\nresuming at step 3 from "), "{again}");
    for name in ["S", "M", "L", "XL"] {
        assert_eq!(steps_made(&place, name), 6);
    }
    let eval = place.matformer(&["eval", "run", "--submodels", "S"]).ok();
    assert!(!eval.stderr.contains("left out") && eval.stdout.contains("per-width"), "{eval}");
}

#[test]
fn baselines_learn_the_data_that_the_run_learnt_or_none() {
    let place = Place::trained();
    place.write("text/one more.txt", "A text that was not there when the run began.");
    let output = place.matformer(&["baselines", "run"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output}");
    let said: Vec<&str> = output.stderr.lines().rev().take(2).collect();
    let hash = place.read_json("run/matformer.json")["provenance"]["data_hash"].clone();
    let hash = &hash.as_str().unwrap()[..16];
    let start =
        format!("error: run: trained on data {hash}; what its `run.toml` names is now data ");
    assert!(said[1].starts_with(&start), "{output}");
    assert!(!place.path("run/baselines").exists(), "{}", place.list("run"));

    // Baselines of other data are not compared, and not trained on.
    let place = Place::trained();
    place.matformer(&["baselines", "run"]).ok();
    for file in ["matformer.json", "checkpoints/step-000003/matformer.json"] {
        let path = format!("run/baselines/per-width/M/{file}");
        place.write(&path, place.read(&path).replace(hash, "0123456789abcdef"));
    }
    let eval = place.matformer(&["eval", "run", "--submodels", "S,M"]).ok();
    let left_out =
        format!("per-width/M is left out: trained on data 0123456789abcdef, the run on {hash}");
    assert!(eval.stderr.contains(&left_out), "{eval}");
    assert_eq!(eval.stdout.matches("per-width").count(), 1, "{eval}");
    let refused = place.refused(&["baselines", "run"]);
    assert!(
        refused.contains("hint: remove `run/baselines/per-width/M` to train it anew"),
        "{refused}"
    );
}

#[test]
fn with_the_whole_budget_a_baseline_makes_all_steps() {
    let place = Place::trained();
    let json = place.matformer(&["baselines", "run", "--budget", "total", "--json"]).ok().json();
    assert_eq!(json["costs"][1]["steps"], 12);
    let budgets: Vec<&str> =
        json["results"].as_array().unwrap().iter().map(|r| r["budget"].as_str().unwrap()).collect();
    assert_eq!(budgets.iter().filter(|budget| **budget == "total").count(), 4, "{json}");
    // Run and baselines are measured on data that is read once, and a word on it is said once.
    let said = place.matformer(&["report", "run", "--tokens", "600"]).ok().stderr;
    assert_eq!(said.matches("reading documents\n").count(), 0, "prepared before: {said}");
    place.write("text/story-60.txt", "One more story, of a goat that counts coats.\n");
    for (command, read) in [("report", 1), ("eval", 0)] {
        let said = place.matformer(&[command, "run"]).ok().stderr;
        assert_eq!(said.matches("reading documents\n").count(), read, "{said}");
        assert_eq!(said.matches("not the training run's data").count(), 1, "{said}");
    }
}

#[test]
fn baselines_are_compared_with_the_largest_of_them() {
    let place = Place::trained();
    place.matformer(&["baselines", "run"]).ok();
    let arguments = ["eval", "run", "--submodels", "S,M,XL", "--consistency", "--json"];
    let json = place.matformer(&arguments).ok().json();
    let results = json["consistency"]["results"].as_array().unwrap();
    let names: Vec<_> =
        results.iter().map(|r| (r["submodel"].as_str(), r["alone"].as_str())).collect();
    let (elastic, alone) = (|name| (Some(name), None), |name| (Some(name), Some("per-width")));
    let expected = [elastic("S"), elastic("M"), elastic("XL"), alone("S"), alone("M"), alone("XL")];
    assert_eq!(names, expected);
    let kl = |at: usize| results[at]["held_out"]["kl"]["value"].as_f64().unwrap();
    assert!(kl(2) < 1e-6 && kl(5) < 1e-6, "each XL with itself: {results:?}");
    assert!(kl(0) > 1e-4 && kl(3) > 1e-4 && kl(0) != kl(3), "{results:?}");
}

#[test]
fn a_draw_that_prefers_some_widths_is_said() {
    let place = Place::trained();
    let draw = ["--set", "train.draw=sandwich", "--set", "train.steps=8"];
    place.matformer(&[&["train", "run.toml", "--out", "sandwich"], &draw[..]].concat()).ok();
    let said = place.matformer(&["baselines", "sandwich"]).ok().stderr;
    // Three of four widths in each of 8 steps, the narrowest and the widest always.
    let start =
        "note: the draw `sandwich` does not train all widths equally often (steps of S 8, M ";
    assert!(said.starts_with(start), "{said}");
    assert!(said.contains(", XL 8); each baseline gets their mean, 6\n"), "{said}");
}

/// A signal that reaches this process alone.
#[cfg(unix)]
#[test]
fn a_signal_is_passed_on_to_the_run_that_is_under_way() {
    use std::{
        io::{BufRead, BufReader},
        process::Command,
    };

    let place = Place::trained();
    let sets = ["train.steps=160", "train.tokens_per_step=1024", "train.checkpoint_every=1000"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    place.matformer(&[&["train", "run.toml", "--out", "long"], &sets[..]].concat()).ok();
    let terminated = |begins: &str| -> Vec<String> {
        let mut child = place.command(&["baselines", "long", "--budget", "total"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with(begins)), "the first trains");
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let said: Vec<String> = lines.collect();
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(130), "{said:?}");
        said
    };
    let said = terminated("step ");
    let saved = |line: &String| line.starts_with("SIGTERM: interrupted after step ");
    assert!(said.iter().any(saved), "{said:?}");
    let last = "SIGTERM: interrupted; go on with all with: matformer baselines long --budget total";
    assert_eq!(said.last().unwrap(), last);
    // It goes on from there.
    terminated("resuming at step ");
}
