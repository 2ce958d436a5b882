//! How much is said, and a level that is none.

use crate::support::{Output, Place};

fn with_level(place: &Place, level: &str, arguments: &[&str]) -> Output {
    Output::of(place.command(arguments).env("MATFORMER_LOG", level).output().unwrap())
}

#[test]
fn a_level_that_is_none() {
    let place = Place::trained();
    let output = with_level(&place, "zzz", &["info", "run"]);
    snapshot!(output, @"
    exit code 2
    --- standard error
    error: MATFORMER_LOG: `zzz`, expected `off`, `error`, `warn`, `info`, `debug` or `trace`
    hint: levels may be given by module: `warn,matformer_data=debug`
    ");
    let output = with_level(&place, "warn,matformer=loud", &["info", "run"]);
    snapshot!(output, @"
    exit code 2
    --- standard error
    error: MATFORMER_LOG: `matformer=loud`, expected `off`, `error`, `warn`, `info`, `debug` or `trace`
    hint: levels may be given by module: `warn,matformer_data=debug`
    ");
    assert_eq!(place.matformer(&["info", "run", "-q", "-v"]).code, Some(2));
}

#[test]
fn quiet_leaves_errors_only() {
    let place = Place::trained();
    let arguments = ["train", "run.toml", "--out", "new", "--quiet"];
    snapshot!(place.matformer(&arguments), @"exit code 0");
    let output = place.matformer(&["-q", "score", "run", "--text", "a", "--submodel", "96"]).ok();
    assert_eq!(output.stderr, "");
    assert!(output.stdout.contains("1 tokens"), "{output}");
    snapshot!(place.refused(&["info", "gone", "-q"]), @"
    error: gone: no such folder
    hint: expected a model folder: what `matformer train`, `slice` or `import` writes
    ");
    // The log file has it all the same.
    assert!(place.read("new/train.log").contains(" INFO new: trained 12 steps\n"));
}

#[test]
fn verbose_says_what_is_done() {
    let place = Place::trained();
    let plain = place.matformer(&["score", "run", "--text", "a"]).ok();
    assert_eq!(plain.stderr, "");
    let lines = |arguments: &[&str]| {
        let output = place.matformer(&[&["score", "run", "--text", "a"], arguments].concat()).ok();
        assert_eq!(output.stdout, plain.stdout);
        assert!(!output.stderr.contains('\u{1b}'), "colours where nobody can see them: {output}");
        output.stderr
    };
    let info = lines(&["-v"]);
    assert!(info.lines().all(|line| line.starts_with("info: ")), "{info}");
    assert!(info.contains("info: run: 2 layers of d_ff 256, weights "), "{info}");
    let debug = lines(&["-vv"]);
    assert!(debug.lines().any(|line| line.starts_with("debug: ")), "{debug}");
    // The environment goes first.
    let output = with_level(&place, "warn", &["score", "run", "--text", "a", "-vv"]).ok();
    assert_eq!(output.stderr, "");
    let output = with_level(&place, "info", &["score", "run", "--text", "a", "--quiet"]).ok();
    assert!(output.stderr.starts_with("info: "), "{output}");
}

#[test]
fn a_run_keeps_a_log() {
    let place = Place::trained();
    for name in ["matformer.json", "checkpoints/step-000008", "checkpoints/step-000012"] {
        place.remove(&format!("run/{name}"));
    }
    let first = place.read("run/train.log");
    place.matformer(&["train", "run", "--resume", "--quiet"]).ok();
    let whole = place.read("run/train.log");
    let second = whole.strip_prefix(&first).unwrap();
    for (log, said) in [
        (first.as_str(), "INFO step 12/12  loss S "),
        (&first, "INFO encoding documents"),
        (&first, "DEBUG device "),
        (&first, "INFO checkpoint run/checkpoints/step-000004"),
        (second, "INFO resuming at step 4 from run/checkpoints/step-000004"),
        (second, "INFO run: trained 12 steps"),
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    // 2026-01-31T12:00:00.123456Z  INFO …
    for line in whole.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 27 && time.ends_with('Z') && time.contains('T'), "{line}");
        let level = rest.split_whitespace().next().unwrap();
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&level), "{line}");
    }
}
