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
    README.md
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
        let json = place.matformer(&arguments).ok().json();
        let files: Vec<_> = place.list(&out).lines().map(str::to_owned).collect();
        let size = |name: &String| std::fs::metadata(place.path(&out).join(name)).unwrap().len();
        let listed: Vec<_> =
            files.iter().map(|name| json!({ "name": name, "bytes": size(name) })).collect();
        let expected = json!({
            "model": out, "submodel": name, "widths": [width, width],
            "params": costs["granularities"][i]["params"]["total"],
            "format": "hf", "dtype": "float32", "padded": false, "measured": null,
            "bytes": files.iter().map(size).sum::<u64>(), "files": listed,
        });
        assert_eq!(json, expected);
    }
}

/// Losses of a text, token by token.
fn score(place: &Place, model: &str, submodel: &[&str]) -> serde_json::Value {
    let text = "The stag hides a red stone by the mill. ".repeat(4);
    let arguments = [&["score", model, "--text", &text, "--json"], submodel].concat();
    place.matformer(&arguments).ok().json()["logprobs"].clone()
}

/// The most that two lists of log-probabilities differ by.
fn distance(a: &serde_json::Value, b: &serde_json::Value) -> f64 {
    let numbers = |list: &serde_json::Value| -> Vec<f64> {
        list.as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    assert!(a.len() == b.len() && a.len() > 10);
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_slice_of_unequal_widths_is_read_by_every_command() {
    let place = Place::trained();
    let slice = ["slice", "run", "--submodel", "32x1+128x1", "--out", "slim"];
    let output = place.matformer(&slice).ok();
    assert!(output.stdout.starts_with("slim: submodel 32x1+128x1, "), "{output}");
    assert_eq!(score(&place, "slim", &[]), score(&place, "run", &["--submodel", "32x1+128x1"]));
    let generate = |model: &str, submodel: &[&str]| {
        let arguments = [&["generate", model, "--prompt", "The stag"], submodel].concat();
        place.matformer(&arguments).ok().stdout
    };
    assert_eq!(generate("slim", &[]), generate("run", &["--submodel", "32x1+128x1"]));
    let loss = |model: &str, submodel: &[&str]| {
        let arguments = [&["eval", model, "--data", "run", "--json"], submodel].concat();
        let results = place.matformer(&arguments).ok().json()["results"].clone();
        results.as_array().unwrap().last().unwrap()["loss"].as_f64().unwrap()
    };
    // A walk through several submodels adds in another order.
    let [slim, whole] = [loss("slim", &[]), loss("run", &["--submodels", "32x1+128x1"])];
    assert!((slim - whole).abs() < 1e-6, "{slim} {whole}");
    place.matformer(&["info", "slim"]).ok();
    // The whole of a layer where a granularity is wider.
    assert_eq!(
        score(&place, "slim", &["--submodel", "M"]),
        score(&place, "run", &["--submodel", "32x1+64x1"])
    );
    // A slice of a slice, and a run that starts from one.
    place.matformer(&["slice", "slim", "--submodel", "M", "--out", "again"]).ok();
    assert_eq!(score(&place, "again", &[]), score(&place, "slim", &["--submodel", "M"]));
    let run =
        "[data]\npaths = [\"text\"]\nheld_out = 0.2\n[train]\nsteps = 2\ntokens_per_step = 256";
    place.write("next.toml", run);
    for model in ["slim", "again"] {
        let out = format!("from-{model}");
        place.matformer(&["train", "next.toml", "--init", model, "--out", &out]).ok();
        score(&place, &out, &[]);
    }
}

#[test]
fn a_padded_slice_has_equal_widths_and_computes_the_same() {
    let place = Place::trained();
    let slice = ["slice", "run", "--submodel", "32x1+64x1", "--pad", "--out", "padded"];
    place.matformer(&slice).ok();
    let config = place.read_json("padded/config.json");
    assert_eq!(
        (&config["model_type"], &config["intermediate_size"]),
        (&json!("llama"), &json!(64))
    );
    let (ours, theirs) =
        (score(&place, "padded", &[]), score(&place, "run", &["--submodel", "32x1+64x1"]));
    let most = distance(&ours, &theirs);
    assert!(most < 1e-5, "{most}");
    assert_eq!(place.read_json("padded/matformer.json")["slice"]["widths"], json!([32, 64]));
    assert!(
        place.read("padded/README.md").contains("| padded | with zeros, to 64 in every layer |")
    );
}

#[test]
fn a_slice_of_unequal_widths_is_padded_to_its_widest_layer() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "32x1+96x1", "--out", "slim"]).ok();
    let slice = ["slice", "slim", "--submodel", "XL", "--pad", "--out"];
    let refused = place.refused(&[&slice[..], &["padded"]].concat());
    assert!(
        refused.contains("unknown submodel: `XL`, expected one of `S`, `M`, `w96`"),
        "{refused}"
    );
    let slice = ["slice", "slim", "--submodel", "w96", "--pad", "--out"];
    let output = place.matformer(&[&slice[..], &["padded"]].concat()).ok();
    let noted = |output: &crate::support::Output| output.stderr.contains("training never saw");
    assert!(noted(&output), "{output}");
    assert_eq!(place.read_json("padded/config.json")["intermediate_size"], 96);
    let most = distance(&score(&place, "padded", &[]), &score(&place, "slim", &[]));
    assert!(most < 1e-5, "{most}");
    place.matformer(&[&slice[..], &["new/padded.gguf", "--format", "gguf"]].concat()).ok();
    // As a file that comes back it still knows what it is a slice of, and what of it was trained.
    let output = place.matformer(&["import", "new/padded.gguf", "--out", "back"]).ok();
    assert!(
        output.stdout.contains("of an elastic model, of which training saw 32, 64"),
        "{output}"
    );
    let facts = |model: &str| {
        let manifest = place.read_json(format!("{model}/matformer.json"));
        (manifest["slice"].clone(), manifest["provenance"]["parent"].clone())
    };
    assert_eq!(facts("back"), facts("padded"));
    assert_eq!(facts("back").0["trained"], json!([32, 64]));
    for (width, untrained) in [("96", true), ("64", false), ("32", false)] {
        for model in ["padded", "back"] {
            let arguments = ["score", model, "--submodel", width, "--text", "a bell"];
            assert_eq!(noted(&place.matformer(&arguments).ok()), untrained, "{model} {width}");
        }
    }
    let info = place.matformer(&["info", "back"]).ok();
    assert!(info.stdout.contains("\nimported\nits full width was never trained\n"), "{info}");
}

#[test]
fn what_training_saw_goes_with_a_slice() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "32x1+96x1", "--out", "slim"]).ok();
    assert_eq!(place.read_json("slim/matformer.json")["slice"]["trained"], json!([32, 64]));
    let noted = |model: &str, submodel: &str| {
        let arguments = ["score", model, "--submodel", submodel, "--text", "a bell"];
        place.matformer(&arguments).ok().stderr.contains("training never saw")
    };
    assert!(noted("slim", "w96") && !noted("slim", "S") && !noted("slim", "M"));
    let info = place.matformer(&["info", "slim"]).ok();
    assert!(info.stdout.contains("\nsubmodel 32x1+96x1 of the weights "), "{info}");
    assert!(info.stdout.contains("\nits full width was never trained\n"), "{info}");
    // What is trained from it is trained whole, also cut out once more.
    let run =
        "[data]\npaths = [\"text\"]\nheld_out = 0.2\n[train]\nsteps = 2\ntokens_per_step = 256";
    place.write("next.toml", run);
    place.matformer(&["train", "next.toml", "--init", "slim", "--out", "next"]).ok();
    place.matformer(&["slice", "next", "--submodel", "w96", "--out", "again"]).ok();
    assert!(!noted("next", "w96") && !noted("again", "w96"));
    // Of an imported model training saw the full width alone.
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        place.write(format!("llama/{name}"), std::fs::read(place.path("run").join(name)).unwrap());
    }
    place.matformer(&["import", "llama", "--out", "base"]).ok();
    for (submodel, trained) in [("S", json!([])), ("XL", json!([256])), ("64x1+256x1", json!([]))] {
        let out = format!("of-{submodel}");
        place.matformer(&["slice", "base", "--submodel", submodel, "--out", &out]).ok();
        let found = &place.read_json(format!("{out}/matformer.json"))["slice"]["trained"];
        assert_eq!(*found, trained, "{submodel}");
    }
}

#[test]
fn what_was_measured_of_a_submodel_goes_with_its_slice() {
    let place = Place::trained();
    place.matformer(&["eval", "run", "--submodels", "S,M"]).ok();
    let json = place
        .matformer(&["slice", "run", "--submodel", "M", "--out", "slim", "--json"])
        .ok()
        .json();
    let measured = json["measured"].as_array().unwrap();
    let metrics: Vec<_> = measured.iter().map(|m| m["metric"].as_str().unwrap()).collect();
    assert_eq!(metrics, ["loss", "bits_per_byte"]);
    let kept = &place.read_json("slim/matformer.json")["slice"];
    assert_eq!((&kept["measured"], &kept["submodel"]), (&json["measured"], &json!("M")));
    let card = place.read("slim/README.md");
    let loss = measured[0]["value"].as_f64().unwrap();
    assert!(card.contains(&format!("| loss | {loss:.4} | ")), "{card}");
    assert!(card.contains("held-out part of what the parent was trained on"), "{card}");
    // One that was never measured says so.
    place.matformer(&["slice", "run", "--submodel", "L", "--out", "large"]).ok();
    assert_eq!(place.read_json("large/matformer.json")["slice"]["measured"], json!(null));
    assert!(place.read("large/README.md").contains("Nothing was measured of this submodel"));
}

#[test]
fn the_card_has_the_license_of_the_parent() {
    let place = Place::trained();
    place.write(
        "run/README.md",
        "---\nlicense: apache-2.0\nbase_model:\n- them/model\ntags:\n- x\n---\n",
    );
    place.write("run/chat_template.jinja", "{{ messages }}");
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    let card = place.read("slim/README.md");
    let (front, text) = card.strip_prefix("---\n").unwrap().split_once("---\n").unwrap();
    assert_eq!(
        front,
        "license: apache-2.0\nbase_model:\n- them/model\nlibrary_name: transformers\n\
         pipeline_tag: text-generation\ntags:\n- matformer\n- elastic\n"
    );
    for part in [
        "# slim",
        "`S` of the elastic model `run`",
        "| 32 in all 2 layers |",
        "from_pretrained(\"slim\")",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(place.read("slim/chat_template.jinja"), "{{ messages }}");
}

#[test]
fn weights_are_written_as_asked() {
    let place = Place::trained();
    let slice = ["slice", "run", "--submodel", "M", "--out", "slim", "--dtype", "bf16"];
    let json =
        place.matformer(&[&slice[..], &["--shard-size", "20kB", "--json"]].concat()).ok().json();
    assert_eq!(json["dtype"], "bfloat16");
    assert_eq!(place.read_json("slim/config.json")["dtype"], "bfloat16");
    let index = place.read_json("slim/model.safetensors.index.json");
    assert_eq!(index["weight_map"]["model.norm.weight"], "model-00003-of-00003.safetensors");
    let (ours, theirs) = (score(&place, "slim", &[]), score(&place, "run", &["--submodel", "M"]));
    let most = distance(&ours, &theirs);
    assert!(most < 0.05, "{most}");
    let gguf = ["--format", "gguf", "--shard-size", "1MB"];
    let output = place.matformer(&[&slice[..5], &["new"], &gguf].concat());
    assert!(output.stderr.contains("--shard-size: only folders of --format hf"), "{output}");
    for (arguments, said) in [
        (["--dtype", "q8_0"], "--dtype q8_0: only GGUF files have it"),
        (["--shard-size", "0"], "expected a size above 0"),
        (["--shard-size", "5 tons"], "expected a size above 0"),
    ] {
        let slice = ["slice", "run", "--submodel", "M", "--out", "new"];
        let output = place.matformer(&[&slice[..], &arguments].concat());
        assert!(output.stderr.contains(said), "{output}");
        assert!(!place.path("new").exists());
    }
}
