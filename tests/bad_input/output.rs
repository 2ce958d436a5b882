//! Standard output and error that cannot be written to.

#![cfg(target_os = "linux")]

use std::fs::File;

use crate::support::{Output, Place};

/// What has not one byte of room.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

const COMMANDS: [&[&str]; 12] = [
    &["--version"],
    &["--help"],
    &["train", "--help"],
    &["train", "run.toml", "--out", "new", "--set", "train.steps=1", "--json"],
    &["eval", "run", "--submodels", "S", "--tokens", "100"],
    &["score", "run", "--text", "a bell"],
    &["score", "run", "--text", "a bell", "--json"],
    &["generate", "run", "--prompt", "a", "--max-tokens", "2"],
    &["info", "run"],
    &["info", "--preset"],
    &["slice", "run", "--submodel", "S", "--out", "slim"],
    &["report", "run", "--tokens", "100"],
];

#[test]
fn a_full_standard_output_is_an_error() {
    let place = Place::trained();
    for arguments in COMMANDS {
        let output = Output::of(place.command(arguments).stdout(full()).output().unwrap());
        assert_eq!(output.code, Some(1), "{arguments:?}: {output}");
        let last = output.stderr.lines().last().unwrap();
        let expected = "error: standard output: No space left on device (os error 28)";
        assert_eq!(last, expected, "{arguments:?}: {output}");
    }
}

#[test]
fn a_full_standard_error_is_none() {
    let place = Place::trained();
    for arguments in [
        &["train", "run.toml", "--out", "new"][..],
        &["eval", "run", "--tokens", "100", "-vv"],
        &["score", "run", "--text", "a", "--submodel", "96"],
    ] {
        let output = Output::of(place.command(arguments).stderr(full()).output().unwrap());
        assert_eq!(output.code, Some(0), "{arguments:?}: {output}");
    }
    for arguments in [&["score", "gone", "--text", "a"][..], &["score"]] {
        let output = Output::of(place.command(arguments).stderr(full()).output().unwrap());
        assert_eq!(output.code, Some(2), "{arguments:?}: {output}");
    }
}

#[test]
fn a_reader_may_go_away() {
    let place = Place::trained();
    for arguments in COMMANDS {
        let mut child = place.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = Output::of(child.wait_with_output().unwrap());
        assert_eq!(output.code, Some(0), "{arguments:?}: {output}");
        assert!(!output.stderr.contains("error") && !output.stderr.contains("panic"), "{output}");
    }
}
