//! `matformer slice`

use matformer::core::fs;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
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
fn a_slice_of_bf16_weights_is_bf16() {
    let place = Place::trained();
    let path = place.path("run/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    // The upper half of an f32 is a bf16.
    let upper = |bytes: &[u8]| bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, t.shape().to_vec(), upper(t.data())))
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), bytes).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let manifest = place.read("run/matformer.json");
    let written = fs::sha256_bytes(&bytes);
    let manifest = manifest.replace(&written, &fs::sha256_file(&path).unwrap());
    place.write("run/matformer.json", manifest);
    place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]).ok();
    let slim = std::fs::read(place.path("slim/model.safetensors")).unwrap();
    let slim = SafeTensors::deserialize(&slim).unwrap();
    for (name, tensor) in slim.tensors() {
        assert_eq!(tensor.dtype(), Dtype::BF16, "{name}");
    }
    let norm = slim.tensor("model.norm.weight").unwrap();
    assert!(
        tensors.iter().any(|(name, _, bytes)| name == "model.norm.weight" && bytes == norm.data())
    );
    assert_eq!(place.read_json("slim/config.json")["dtype"], "bfloat16");
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
