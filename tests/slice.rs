//! `matformer slice`

use serde_json::json;

use crate::support::{GRANULARITIES, Place};

#[test]
fn a_slice_scores_as_the_submodel_does() {
    let place = Place::trained();
    let score = |model: &str, submodel: &[&str]| {
        let text = "The stag hides a red stone by the mill. ".repeat(4);
        let arguments = [&["score", model, "--text", &text, "--json"], submodel].concat();
        place.matformer(&arguments).ok().json()
    };
    for (name, width) in [("S", 32), ("L", 128)] {
        let out = format!("slim-{name}");
        place.matformer(&["slice", "run", "--submodel", name, "--out", &out]).ok();
        assert_eq!(place.read_json(format!("{out}/config.json"))["intermediate_size"], width);
        // To the bit, name included.
        assert_eq!(score(&out, &[]), score("run", &["--submodel", name]));
        // Narrower ones are still in it, by name.
        assert_eq!(score(&out, &["--submodel", "S"]), score("run", &["--submodel", "S"]));
    }
}

#[test]
fn a_width_that_training_never_saw_is_noted() {
    let place = Place::trained();
    let slice = ["slice", "run", "--submodel", "96", "--out", "slim"];
    snapshot!(place.matformer(&slice), @"
    exit code 0
    --- standard output
    slim: submodel 96x2, 34.3k parameters
    --- standard error
    note: `96x2` has widths that training never saw
    ");
    let score = |model| {
        let arguments = ["score", model, "--submodel", "96", "--text", "a bell", "--json"];
        place.matformer(&arguments).ok().json()["logprobs"].clone()
    };
    assert_eq!(score("slim"), score("run"));
    // Those that training saw keep their names, and it gets one of its own.
    let granularities = &place.read_json("slim/matformer.json")["granularities"];
    let expected = [("S", 32), ("M", 64), ("w96", 96)];
    let expected = expected.map(|(name, width)| json!({ "name": name, "width": width }));
    assert_eq!(*granularities, json!(expected));
}

#[test]
fn its_folder_is_a_model_folder() {
    let place = Place::trained();
    let output = place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]);
    snapshot!(output, @"
    exit code 0
    --- standard output
    slim: submodel M, 28.2k parameters
    ");
    snapshot!(place.list("slim"), @"
    config.json
    generation_config.json
    matformer.json
    model.safetensors
    tokenizer.json
    tokenizer_config.json
    ");
    let (whole, slim) =
        (place.read_json("run/matformer.json"), place.read_json("slim/matformer.json"));
    assert_eq!(slim["provenance"]["parent"], whole["weights_sha256"]);
    assert_eq!(
        slim["granularities"],
        json!([{"name": "S", "width": 32}, {"name": "M", "width": 64}])
    );
}

#[test]
fn json_names_what_was_cut() {
    let place = Place::trained();
    let costs = place.matformer(&["info", "run", "--json"]).ok().json();
    for (i, (name, width)) in GRANULARITIES.into_iter().enumerate() {
        let out = format!("slim/{name}");
        let arguments = ["slice", "run", "--submodel", name, "--out", &out, "--json"];
        let expected = json!({
            "model": out, "submodel": name, "widths": [width, width],
            "params": costs["granularities"][i]["params"]["total"],
        });
        assert_eq!(place.matformer(&arguments).ok().json(), expected);
    }
}
