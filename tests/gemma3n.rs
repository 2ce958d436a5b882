//! `matformer slice` of Gemma 3n. What it writes is compared with PyTorch's in `matformer-formats`.

use crate::support::Place;

const FIXTURES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../matformer-formats/tests/fixtures/gemma3n");

/// A place with a Gemma 3n model of ten layers of width 32, of which 4 and 5 are reserved.
fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("gemma")).unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(format!("{FIXTURES}{from}"), place.path("gemma").join(to)).unwrap()
    };
    copy(".safetensors", "model.safetensors");
    copy("_config.json", "config.json");
    place.write(
        "slices.csv",
        "name,# Layers,FFN Hidden Dims,Layers Skipped\n\
         small,8,\"[8 * 2, 16, 16, 16, 1_6, 16, 16, 16]\",\"[7, 8]\"\n\
         large,10,\"[32, 32, 32, 32, 32, 32, 32, 32, 32, 32]\",\n",
    );
    place
}

#[test]
fn a_slice_by_widths_and_one_by_a_row_are_the_same() {
    let place = place();
    let widths = ["slice", "gemma", "--widths", "16", "--skip-layers", "7,8", "--out", "one"];
    snapshot!(place.matformer(&widths), @"
    exit code 0
    --- standard output
    one: Gemma 3n of 8 of 10 layers, 18.9k parameters, 17.2k of them effective
    ");
    let row = ["slice", "gemma", "--config", "slices.csv", "--row", "small", "--out", "two"];
    let json = place.matformer(&[&row[..], &["--json"]].concat()).ok().json();
    assert_eq!(json["layers"], serde_json::json!([0, 1, 2, 3, 4, 5, 6, 9]));
    for file in ["config.json", "model.safetensors", "README.md"] {
        let read = |dir: &str| std::fs::read(place.path(dir).join(file)).unwrap();
        assert_eq!(read("one"), read("two"), "{file}");
    }
    // It can be sliced again, and is no model of ours.
    place.matformer(&["slice", "one", "--widths", "8", "--out", "three"]).ok();
    let scored = place.matformer(&["score", "one", "--text", "a"]);
    assert!(scored.stderr.contains("matformer.json"), "{scored}");
}

#[test]
fn what_does_not_fit_is_told_and_nothing_is_written() {
    let place = place();
    let slice = |arguments: &[&str]| {
        let output = place.matformer(&[&["slice", "gemma", "--out", "x"], arguments].concat());
        assert!(!place.path("x").exists());
        output
    };
    snapshot!(slice(&["--submodel", "S"]), @"
    exit code 2
    --- standard error
    error: gemma: a Gemma 3n model has no named submodels
    hint: give the width of each layer with --widths, or a row of a table with --config and --row
    ");
    snapshot!(slice(&["--widths", "16x9"]), @"
    exit code 2
    --- standard error
    error: `widths` is 9 widths; expected 10, one for each layer that is kept
    ");
    snapshot!(slice(&["--widths", "16", "--skip-layers", "5"]), @"
    exit code 2
    --- standard error
    error: `skipped layers` is 5; expected to keep layers 4 (the last `full_attention`) and 5 (the last `sliding_attention`), whose keys and values layers 6 to 9 reuse
    ");
    snapshot!(slice(&["--config", "slices.csv", "--row", "tiny"]), @"
    exit code 2
    --- standard error
    error: slices.csv: 0 rows are named `tiny`; expected one of `small`, `large`
    ");
    let other = |folder: &str| {
        let slice = ["slice", folder, "--out", "x", "--widths", "8"];
        place.matformer(&slice).stderr
    };
    assert!(other("nowhere").contains("cannot read `nowhere/config.json`"), "{}", other("nowhere"));
    place.write("config.json", r#"{ "model_type": "llama" }"#);
    assert!(
        other(".").contains("`model_type`: \"llama\"; expected `gemma3n` or"),
        "{}",
        other(".")
    );
    place.write("matformer.json", "{}");
    assert!(other(".").contains(".: not a Gemma 3n model, which --widths"), "{}", other("."));
    for wrong in [
        &["--widths", "8", "--row", "small"][..],
        &["--widths", "8", "--config", "slices.csv", "--row", "small"],
        &["--config", "slices.csv"],
        &["--skip-layers", "3"],
        &["--widths", "8", "--skip-layers", "x"],
        &["--widths", "8", "--format", "timm"],
    ] {
        assert!(slice(wrong).stderr.starts_with("error: "), "{wrong:?}");
    }
}
