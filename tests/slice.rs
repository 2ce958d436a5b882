//! `matformer slice`

use serde_json::json;

use crate::support::{GRANULARITIES, Place};

#[test]
fn a_slice_scores_as_the_submodel_does() {
    let place = Place::trained();
    let score = |model: &str, submodel: &[&str]| {
        let text = "The stag hides a red stone by the mill. ".repeat(4);
        let arguments = [&["score", model, "--text", &text, "--json"], submodel].concat();
        let json = place.matformer(&arguments).ok().json();
        (json["tokens"].clone(), json["logprobs"].clone())
    };
    for (name, width) in [("S", 32), ("L", 128), ("96", 96)] {
        let out = format!("slim-{name}");
        place.matformer(&["slice", "run", "--submodel", name, "--out", &out]).ok();
        assert_eq!(score(&out, &[]), score("run", &["--submodel", name]), "{name}");
        // Narrower ones are still in it.
        let narrow = ["--submodel", "32"];
        assert_eq!(score(&out, &narrow), score("run", &narrow), "{name}");
        assert_eq!(place.read_json(format!("{out}/config.json"))["intermediate_size"], width);
    }
}

#[test]
fn its_folder_is_a_model_folder() {
    let place = Place::trained();
    let output = place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]);
    snapshot!(output, @"");
    let files: Vec<String> = place
        .tree()
        .keys()
        .filter_map(|path| Some(path.strip_prefix("slim").ok()?.display().to_string()))
        .collect();
    insta::assert_snapshot!(files.join("\n"), @"");
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
