//! Devices, presets and other options.

use super::train;
use crate::support::{Output, Place};

#[test]
fn unknown_preset() {
    snapshot!(train("[model]\npreset = \"huge\"\n[data]\npaths = [\"text\"]\n", &[]), @"error: bad.toml: `model.preset`: unknown preset `huge`; there are: demo, small, 78m, 78m-paper, 180m, 180m-paper, 310m, 310m-paper, 463m, 463m-paper, 850m, 850m-paper, small28, small64, ti16, s16, b16, l16");
    snapshot!(Place::new().refused(&["info", "--preset", "huge"]), @"error: unknown preset `huge`; there are: demo, small, 78m, 78m-paper, 180m, 180m-paper, 310m, 310m-paper, 463m, 463m-paper, 850m, 850m-paper, small28, small64, ti16, s16, b16, l16");
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
    assert!(
        output.stderr.starts_with("error: device `MATFORMER_DEVICE=flex:1` is not available: "),
        "{output}"
    );
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
fn options_that_do_not_serve() {
    let place = Place::trained();
    let with =
        |more: &[&str]| place.refused(&[&["generate", "run", "--prompt", "a"], more].concat());
    snapshot!(with(&["--top-p", "0"]), @"
    error: invalid value '0' for '--top-p <P>': expected above 0, at most 1

    For more information, try '--help'.
    ");
    snapshot!(with(&["--temperature=-1"]), @"
    error: invalid value '-1' for '--temperature <T>': expected a number, 0 or more

    For more information, try '--help'.
    ");
    snapshot!(with(&["--max-tokens", "few"]), @"
    error: invalid value 'few' for '--max-tokens <N>': expected a whole number, 0 or more

    For more information, try '--help'.
    ");
    snapshot!(with(&["--max-tokens", "-1"]), @"
    error: invalid value '-1' for '--max-tokens <N>': expected a whole number, 0 or more

    For more information, try '--help'.
    ");
    snapshot!(place.refused(&["eval", "run", "--tokens", "0"]), @"
    error: invalid value '0' for '--tokens <N>': expected a whole number, 1 or more

    For more information, try '--help'.
    ");
    snapshot!(place.refused(&["report", "run", "--tokens", "-5"]), @"
    error: invalid value '-5' for '--tokens <N>': expected a whole number, 1 or more

    For more information, try '--help'.
    ");
    let long = "The hare counts dry leaves at home. ".repeat(4);
    snapshot!(place.refused(&["generate", "run", "--prompt", &long]), @"
    error: --prompt: 80 tokens, expected at most 30: the context holds 32
    hint: BOS and one new token must fit as well
    ");
}
