//! `matformer import`, and `slice --format timm`

use serde_json::json;

use crate::{support::Place, vision};

/// A slice of a trained vision model as timm has it, in `timm`.
fn for_timm() -> Place {
    let (place, _) = vision::trained();
    let slice = ["slice", "run", "--submodel", "XL", "--out", "timm", "--format", "timm"];
    let output = place.matformer(&slice).ok();
    assert_eq!((&*output.stdout, &*output.stderr), ("timm: submodel XL, 4.9k parameters\n", ""));
    place
}

fn bytes(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path(name)).unwrap()
}

#[test]
fn what_timm_would_load_comes_back_as_the_same_model() {
    let place = for_timm();
    snapshot!(place.list("timm"), @"
    README.md
    config.json
    model.safetensors
    ");
    let import = ["import", "timm", "--out", "back", "--granularities", "4,8,16,32"];
    snapshot!(place.matformer(&import), @"
    exit code 0
    --- standard output
    back: a ViT of timm, 4.9k parameters, float32: images 8×8×1, patches 4×4, 5 tokens, d_model 16, 2 layers, 2 heads, d_ff 32, 4 classes
    only its full width was trained: `matformer elastify back --data IMAGES --out RUN` trains S, M, L, XL
    ");
    snapshot!(place.list("back"), @"
    README.md
    config.json
    matformer.json
    model.safetensors
    preprocessor_config.json
    ");
    // To the bit, and with all that belongs to it but how it was trained.
    for file in ["model.safetensors", "preprocessor_config.json"] {
        assert!(
            bytes(&place, &format!("run/{file}")) == bytes(&place, &format!("back/{file}")),
            "{file}"
        );
    }
    let (ours, theirs) =
        (place.read_json("run/matformer.json"), place.read_json("back/matformer.json"));
    assert_eq!(theirs["weights_sha256"], ours["weights_sha256"]);
    assert_eq!(theirs["granularities"], ours["granularities"]);
    assert_eq!(theirs["objective"], "baseline:XL");

    let top1 = |model: &str, more: &[&str]| {
        let arguments = [&["eval", model, "--json"], more].concat();
        let json = place.matformer(&arguments).ok().json();
        (json["results"].as_array().unwrap().len(), json["results"][0]["top1"].clone())
    };
    let (shown, ours) = top1("run", &["--submodels", "XL"]);
    assert_eq!((shown, &ours), (1, &top1("back", &["--data", "run"]).1));
    let info = place.matformer(&["info", "back"]).ok();
    assert!(info.stdout.contains("imported: its full width was trained elsewhere"), "{info}");
    // Only its full width was trained, and it is what a run can start from.
    assert_eq!(top1("back", &["--data", "run"]).0, 1);
    place.write("next.toml", "[data]\npath = \"images\"\n[train]\nsteps = 2\nimages_per_step = 16");
    place.matformer(&["train", "next.toml", "--init", "back", "--out", "next"]).ok();
    assert_eq!(place.read_json("next/matformer.json")["objective"], "sampled");
}

#[test]
fn an_image_processor_is_read_with_all_that_scales_pixels() {
    let place = for_timm();
    let own = place.read_json("run/preprocessor_config.json");
    // The same numbers in other words, and another resizing.
    let processor = json!({
        "image_processor_type": "ViTImageProcessor",
        "size": { "height": 8, "width": 8 }, "resample": 3,
        "rescale_factor": 1.0 / 127.5, "image_mean": 1.0, "image_std": [1.0],
    });
    place.write("timm/preprocessor_config.json", processor.to_string());
    let output = place.matformer(&["import", "timm", "--out", "back"]).ok();
    for differs in ["it resizes by another filter", "it squeezes images into a square"] {
        assert!(output.stderr.contains(differs), "{output}");
    }
    assert_eq!(place.read_json("back/preprocessor_config.json"), own);
    let bytes = json!({ "do_normalize": false, "do_rescale": false });
    place.write("timm/preprocessor_config.json", bytes.to_string());
    place.matformer(&["import", "timm", "--out", "bytes"]).ok();
    let found = place.read_json("bytes/preprocessor_config.json");
    let std = found["image_std"][0].as_f64().unwrap();
    assert!(found["image_mean"] == json!([0.0]) && (std * 255.0 - 1.0).abs() < 1e-9, "{found}");
    place.write("timm/preprocessor_config.json", r#"{"image_mean": "half"}"#);
    snapshot!(place.matformer(&["import", "timm", "--out", "new"]), @r#"
    exit code 2
    --- standard error
    error: timm/preprocessor_config.json: `image_mean`: "half"; expected a number, or one for each of 1 channels
    "#);
}

#[test]
fn json_says_what_was_read() {
    let place = for_timm();
    let json = place.matformer(&["import", "timm", "--out", "back", "--json"]).ok().json();
    assert_eq!(
        json,
        json!({
            "model": "back",
            "format": "a ViT of timm",
            "kind": "vit",
            "params": 4916,
            "granularities": [4, 8, 16, 32],
            "dtype": "float32",
            "headless": false,
            "left_out": []
        })
    );
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let place = for_timm();
    let import = |from: &str, more: &[&str]| {
        let arguments = [&["import", from, "--out", "new"], more].concat();
        let output = place.matformer(&arguments);
        assert!(!place.path("new").exists());
        output
    };
    snapshot!(import("run", &[]), @"
    exit code 2
    --- standard error
    error: run: a model folder already
    hint: every command takes it as it is; `train --init` starts from it
    ");
    snapshot!(import("nowhere.gguf", &[]), @"
    exit code 2
    --- standard error
    error: nowhere.gguf: no such file or folder
    hint: expected a folder as on the Hugging Face Hub, a GGUF file, or a named source such as `fetch:smollm2`
    ");
    // As Git leaves it where LFS is not installed.
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n";
    place.write("pointer/config.json", bytes(&place, "timm/config.json"));
    place.write("pointer/model.safetensors", pointer);
    place.write("pointer.gguf", pointer);
    snapshot!(import("pointer", &[]), @"
    exit code 2
    --- standard error
    error: `pointer/model.safetensors` is a pointer of Git LFS, not the file itself
    hint: run `git lfs pull` in its repository to fetch the contents
    ");
    let output = import("pointer.gguf", &[]);
    assert!(output.stderr.contains("`pointer.gguf` is a pointer of Git LFS"), "{output}");
    snapshot!(import("timm", &["--granularities", "16,8,32"]), @"
    exit code 2
    --- standard error
    error: granularities: `g1=16,g2=8,g3=32`, expected strictly ascending widths
    ");
    snapshot!(import("timm", &["--granularities", "8,16"]), @"
    exit code 2
    --- standard error
    error: `granularities` is [8, 16]; expected ascending widths, of which the last is `d_ff`, 32
    ");
    snapshot!(place.matformer(&["import", "timm", "--out", "run"]), @"
    exit code 2
    --- standard error
    error: run: exists
    hint: choose another --out, or remove it
    ");
    place.write("pickled/config.json", "{}");
    place.write("pickled/pytorch_model.bin", "");
    snapshot!(import("pickled", &[]), @"
    exit code 2
    --- standard error
    error: pickled/model.safetensors: no such file
    hint: pickled weights are not read: write them as safetensors, with `save_pretrained` of transformers or `save_for_hf` of timm
    ");
    place.write("bert/config.json", r#"{"model_type": "bert"}"#);
    place.write("bert/model.safetensors", bytes(&place, "timm/model.safetensors"));
    let output = import("bert", &[]);
    for part in [
        "error: bert/config.json: `model_type`: \"bert\"; expected `llama`, ",
        "hint: vision transformers are `vit`, `deit` or `dinov2`, or have timm's key `architecture`",
    ] {
        assert!(output.stderr.contains(part), "{output}");
    }
    for (kind, hint) in [
        ("gemma3n_text", "hint: Gemma 3n is elastic as it comes: `matformer slice DIR --widths"),
        ("gemma3", "hint: of Gemma 3 only text models are supported"),
    ] {
        place.write("bert/config.json", json!({ "model_type": kind }).to_string());
        let output = import("bert", &[]);
        assert!(output.stderr.contains(hint), "{output}");
    }
    // The folder is meant where a file of it is named, and the other way round.
    let output = import("timm/model.safetensors", &[]);
    assert!(output.stderr.contains("hint: name the folder that `config.json`"), "{output}");
    place.write("quantised/small.gguf", "GGUF");
    let output = import("quantised", &[]);
    assert!(output.stderr.contains("name it: quantised/small.gguf"), "{output}");
    let output = import("timm", &["--shard-size", "1MB"]);
    assert!(output.stderr.contains("--shard-size: only weights of language models"), "{output}");
    place.write("torn/config.json", bytes(&place, "timm/config.json"));
    place.write("torn/model.safetensors", &bytes(&place, "timm/model.safetensors")[..2000]);
    snapshot!(import("torn", &[]), @"
    exit code 2
    --- standard error
    error: torn/model.safetensors: invalid header length; expected a safetensors file
    ");
}

#[test]
fn a_language_model_is_none_of_timms() {
    let place = Place::trained();
    let slice = ["slice", "run", "--submodel", "S", "--out", "slim", "--format", "timm"];
    snapshot!(place.matformer(&slice), @"
    exit code 2
    --- standard error
    error: run: a language model; timm has vision models
    hint: leave --format out: the slice is a folder of Hugging Face's
    ");
    assert!(!place.path("slim").exists());
}

/// A run of a language model without what makes it a model folder: as transformers writes one.
fn of_transformers() -> Place {
    let place = Place::trained();
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        place.write(format!("llama/{name}"), bytes(&place, &format!("run/{name}")));
    }
    place.write("llama/tokenizer_config.json", bytes(&place, "run/tokenizer_config.json"));
    place
}

#[test]
fn a_language_model_is_copied_with_all_that_belongs_to_it() {
    let place = of_transformers();
    place.write("llama/README.md", "---\nlicense: mit\n---\n");
    place.write("llama/chat_template.jinja", "{{ messages }}");
    place.write("llama/additional_chat_templates/rag.jinja", "{{ documents }}");
    place.write("llama/special_tokens_map.json", "{}");
    snapshot!(place.matformer(&["import", "llama", "--out", "model"]), @"
    exit code 0
    --- standard output
    model: a folder of Hugging Face, 65.1k parameters, float32: d_model 32, 2 layers, 2 heads (1 for keys and values), d_ff 256, vocabulary 300, context 32
    widths S 64, M 128, L 192, XL 256, multiples of 32; only the full one was trained: `matformer elastify model --data TEXT --out RUN` trains the others
    ");
    for name in [
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
        "special_tokens_map.json",
    ] {
        let [ours, theirs] = ["model", "llama"].map(|dir| bytes(&place, &format!("{dir}/{name}")));
        assert!(ours == theirs, "{name}");
    }
    let manifest = place.read_json("model/matformer.json");
    let run = place.read_json("run/matformer.json");
    assert_eq!(manifest["provenance"]["parent"], run["weights_sha256"]);
    assert_eq!(manifest["tokenizer_sha256"], run["tokenizer_sha256"]);
    assert_eq!(manifest["objective"], "baseline:XL");
    let score = |model: &str| {
        let arguments = ["score", model, "--text", "The stag hides a red stone.", "--json"];
        place.matformer(&arguments).ok().json()["logprobs"].clone()
    };
    assert_eq!(score("model"), score("run"));
    place.matformer(&["slice", "model", "--submodel", "M", "--out", "slim"]).ok();
    assert!(place.read("slim/README.md").starts_with("---\nlicense: mit\n"));
    assert_eq!(place.read("slim/additional_chat_templates/rag.jinja"), "{{ documents }}");
}

#[test]
fn json_says_what_was_imported() {
    let place = of_transformers();
    let widths = ["--granularities", "32,128,256"];
    let import = ["import", "llama", "--out", "model", "--json", "--shard-size", "100kB"];
    let json = place.matformer(&[&import[..], &widths].concat()).ok().json();
    let files = json["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["name"] == "model.safetensors.index.json"), "{json}");
    assert_eq!(json["bytes"], files.iter().map(|f| f["bytes"].as_u64().unwrap()).sum::<u64>());
    for (key, expected) in [
        ("model", json!("model")),
        ("format", json!("a folder of Hugging Face")),
        ("kind", json!("lm")),
        ("granularities", json!([32, 128, 256])),
        ("dtype", json!("float32")),
        ("tokenizer", json!(true)),
        ("left_out", json!([])),
    ] {
        assert_eq!(json[key], expected, "{key}");
    }
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused_and_none_is_said() {
    let place = of_transformers();
    let import = || place.matformer(&["import", "llama", "--out", "model"]);
    let original = place.read_json("llama/tokenizer.json");
    let with_token = |special: bool| {
        let mut more = original.clone();
        more["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": 4095, "content": "<more>", "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        }));
        more["model"]["vocab"]["<more>"] = json!(4095);
        place.write("llama/tokenizer.json", more.to_string());
    };
    // No text is given a special token, such as Gemma 3's for images.
    with_token(true);
    let output = place.matformer(&["import", "llama", "--out", "beyond"]).ok();
    assert!(output.stderr.contains("have no row in the embedding"), "{output}");
    let score = |model: &str| {
        place.matformer(&["score", model, "--text", "The <more> fox", "--json"]).ok().json()
    };
    assert_eq!(score("beyond")["logprobs"], score("run")["logprobs"]);
    // A GGUF file has no tokens without rows.
    let gguf = ["slice", "beyond", "--submodel", "XL", "--format", "gguf", "--out", "beyond.gguf"];
    let output = place.matformer(&gguf).ok();
    assert!(output.stderr.contains("the special tokens `<more>` have no row"), "{output}");
    place.matformer(&["import", "beyond.gguf", "--out", "within"]).ok();
    assert_eq!(
        score("within")["logprobs"].as_array().unwrap().len(),
        score("run")["logprobs"].as_array().unwrap().len()
    );
    with_token(false);
    let output = import();
    assert!(
        output.stderr.starts_with("error: llama/tokenizer.json: ids up to 4095; expected at most"),
        "{output}"
    );
    assert!(!place.path("model").exists());
    std::fs::remove_file(place.path("llama/tokenizer.json")).unwrap();
    let output = import().ok();
    assert!(output.stderr.contains("has no tokenizer, so no text can be read"), "{output}");
    // Without one it is sliced all the same.
    place.matformer(&["slice", "model", "--submodel", "S", "--out", "slim"]).ok();
}
