//! `--help`: the reference that everybody has.

use crate::support::Place;

fn help(arguments: &[&str]) -> String {
    Place::new().matformer(arguments).ok().stdout
}

#[test]
fn program() {
    snapshot!(help(&["--help"]), @"");
}

#[test]
fn version() {
    assert_eq!(help(&["--version"]), concat!("matformer ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn train() {
    snapshot!(help(&["train", "--help"]), @"");
}

#[test]
fn eval() {
    snapshot!(help(&["eval", "--help"]), @"");
}

#[test]
fn score() {
    snapshot!(help(&["score", "--help"]), @"");
}

#[test]
fn generate() {
    snapshot!(help(&["generate", "--help"]), @"");
}

#[test]
fn info() {
    snapshot!(help(&["info", "--help"]), @"");
}

#[test]
fn slice() {
    snapshot!(help(&["slice", "--help"]), @"");
}

#[test]
fn report() {
    snapshot!(help(&["report", "--help"]), @"");
}

#[test]
fn no_command() {
    let output = Place::new().matformer(&[]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.starts_with("Train one elastic transformer"), "{output}");
}
