//! Slices of a tiny Gemma 3n: equal to those made in PyTorch, from fixtures made by
//! `fixtures/make_gemma3n.py`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use matformer_formats::{Gemma3nPlan, SlicedGemma3n, is_gemma3n, slice_gemma3n};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Dtype, shape and bytes of tensors by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

const LOGITS: &str = "golden.logits";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tensors(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let owned = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    all.into_iter().map(|(name, view)| (name, owned(view))).collect()
}

fn golden() -> Tensors {
    let mut golden = tensors(&fixture("gemma3n_golden.safetensors"));
    golden.remove(LOGITS).unwrap();
    golden
}

fn json_of(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// A folder with a Gemma 3n model, and beside it the slices that are made of it.
struct Place {
    dir: TempDir,
    config: Value,
    shard_bytes: u64,
}

impl Place {
    fn new() -> Self {
        let place = Self::of(json_of(&fixture("gemma3n_config.json")));
        place.write("model.safetensors", &tensors(&fixture("gemma3n.safetensors")));
        place
    }

    fn of(config: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("model")).unwrap();
        let place = Self { dir, config, shard_bytes: u64::MAX };
        place.configure(|_| {});
        place
    }

    fn model(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Writes the model's configuration with a change.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config.clone();
        change(&mut config);
        std::fs::write(self.model().join("config.json"), config.to_string()).unwrap();
    }

    fn write(&self, file: &str, tensors: &Tensors) {
        let mut views = Vec::new();
        for (name, (dtype, shape, data)) in tensors {
            views.push((name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        }
        std::fs::write(self.model().join(file), safetensors::serialize(views, None).unwrap())
            .unwrap();
    }

    fn slice(&self, widths: &str, skipped: &[usize]) -> Result<SlicedGemma3n, String> {
        let plan = Gemma3nPlan { widths: widths.parse().unwrap(), skipped: skipped.to_vec() };
        let sliced = slice_gemma3n(&self.model(), &plan, &self.out(), self.shard_bytes);
        let dir = format!("{}/", self.model().display());
        sliced.map_err(|error| error.to_string().replace(&dir, ""))
    }

    /// The slice that the fixture has.
    fn golden_slice(&self) -> SlicedGemma3n {
        self.slice("32,16,24,8,32,12,4", &[2, 7, 8]).unwrap()
    }
}

#[test]
fn a_slice_is_the_one_made_in_pytorch() {
    let place = Place::new();
    let sliced = place.golden_slice();
    assert_eq!(tensors(&place.out().join("model.safetensors")), golden());
    let (written, mut expected) = (
        json_of(&place.out().join("config.json")),
        json_of(&fixture("gemma3n_golden_config.json")),
    );
    assert_eq!(written, expected);
    assert_eq!(sliced.layers, [0, 1, 3, 4, 5, 6, 9]);
    assert_eq!(sliced.widths, [32, 16, 24, 8, 32, 12, 4]);
    assert_eq!(expected["num_kv_shared_layers"].take(), 2);
    let count = |keep: &dyn Fn(&str) -> bool| -> u64 {
        let of = golden().into_iter().filter(|(name, _)| keep(name));
        of.map(|(_, (_, shape, _))| shape.iter().product::<usize>() as u64).sum()
    };
    assert_eq!(sliced.params, count(&|_| true));
    assert_eq!(sliced.effective_params, count(&|name| !name.contains("embed_tokens")));
}

/// transformers' whole model, with vision and audio, and its weights in several files.
#[test]
fn the_language_model_of_a_multimodal_folder_is_sliced() {
    let text = json_of(&fixture("gemma3n_config.json"));
    let vision = json!({ "model_type": "gemma3n_vision", "hidden_size": 8 });
    let config = json!({ "model_type": "gemma3n", "vision_config": vision, "text_config": text });
    let place = Place::of(config);
    let name = |name: &str| name.replacen("model.", "model.language_model.", 1);
    let renamed = |tensors: Tensors| tensors.into_iter().map(|(old, tensor)| (name(&old), tensor));
    let other: Tensors = [
        ("model.vision_tower.layers.2.mlp.gate_proj.weight", vec![2, 3], vec![7; 24]),
        ("model.embed_vision.embedding.weight", vec![1], vec![1, 2, 3, 4]),
    ]
    .map(|(name, shape, data)| (name.to_owned(), (Dtype::F32, shape, data)))
    .into();
    let mut first: Tensors = renamed(tensors(&fixture("gemma3n.safetensors"))).collect();
    let mut second = first.split_off("model.language_model.layers.4");
    second.extend(other.clone());
    let mut index = serde_json::Map::new();
    for (file, tensors) in [("model-1.safetensors", &first), ("model-2.safetensors", &second)] {
        place.write(file, tensors);
        index.extend(tensors.keys().map(|name| (name.clone(), file.into())));
    }
    let index = json!({ "metadata": {}, "weight_map": index }).to_string();
    let write = |name: &str, text: &str| std::fs::write(place.model().join(name), text).unwrap();
    write("model.safetensors.index.json", &index);
    for name in ["tokenizer.json", "preprocessor_config.json", "LICENSE"] {
        write(name, name);
    }
    for name in ["pytorch_model.bin", ".gitattributes"] {
        write(name, name);
    }
    write("README.md", "---\nlicense: gemma\ntags:\n- x\n---\n# Theirs");
    assert!(is_gemma3n(&place.model()));
    let sliced = place.golden_slice();

    let written = tensors(&place.out().join("model.safetensors"));
    let expected: Tensors = renamed(golden()).chain(other).collect();
    assert_eq!(written, expected);
    let config = json_of(&place.out().join("config.json"));
    assert_eq!(config["text_config"], json_of(&fixture("gemma3n_golden_config.json")));
    assert_eq!(config["vision_config"], vision);
    let mut files: Vec<_> = std::fs::read_dir(place.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected = [
        "LICENSE",
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ];
    assert_eq!(files, expected);
    let card = std::fs::read_to_string(place.out().join("README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: gemma\nlibrary_name: transformers\n"), "{card}");
    assert!(card.contains("7 of 10 layers") && card.contains("Layers left out: 2, 7, 8"), "{card}");
    assert!(card.contains("| 2 | 3 | `sliding_attention` | 24 of 32 |"), "{card}");
    assert!(sliced.effective_params < sliced.params);
}

#[test]
fn a_large_slice_is_written_as_several_files() {
    let mut place = Place::new();
    place.shard_bytes = 10_000;
    place.golden_slice();
    let index = json_of(&place.out().join("model.safetensors.index.json"));
    let mut found = Tensors::new();
    for entry in std::fs::read_dir(place.out()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|end| end == "safetensors") {
            found.extend(tensors(&file));
        }
    }
    assert_eq!(found, golden());
    assert_eq!(index["weight_map"].as_object().unwrap().len(), found.len());
}

#[test]
fn keys_that_are_missing_have_the_values_of_transformers() {
    let place = Place::new();
    place.configure(|config| {
        config["layer_types"] = Value::Null;
        config.as_object_mut().unwrap().remove("activation_sparsity_pattern");
        config["intermediate_size"] = json!(32);
        config["num_kv_shared_layers"] = json!(0);
    });
    // No keys and values are shared: any layer may be left out.
    place.slice("32", &[4]).unwrap();
    let config = json_of(&place.out().join("config.json"));
    assert_eq!(config["activation_sparsity_pattern"], json!(vec![0.0; 9]));
    let globals: Vec<usize> =
        (0..9).filter(|layer| config["layer_types"][layer] == "full_attention").collect();
    assert_eq!(globals, [8]);
    assert_eq!(config["num_kv_shared_layers"], 0);
    assert_eq!(config["intermediate_size"], json!(vec![32; 9]));
}

#[test]
fn a_plan_that_does_not_fit_is_told_before_anything_is_written() {
    let place = Place::new();
    let nine = "`widths` is 9 widths; expected 10, one for each layer that is kept";
    let reserved = "expected to keep layers 4 (the last `full_attention`) and 5 (the last \
                    `sliding_attention`), whose keys and values layers 6 to 9 reuse";
    for (widths, skipped, expected) in [
        ("32x9", &[][..], nine),
        ("32x99999999999999", &[], "`widths` is 99999999999999 widths; expected 10, "),
        ("32x9,33", &[], "`widths` is 33 in layer 9; expected 1 to 32, which it has"),
        ("16", &[10], "`skipped layers` is 10; expected a layer of config.json, 0 to 9"),
        ("16", &[3, 3], "`skipped layers` is 3 twice; expected each layer once"),
        ("16", &[5], &format!("`skipped layers` is 5; {reserved}")),
        ("16", &[1, 4], &format!("`skipped layers` is 4; {reserved}")),
    ] {
        let error = place.slice(widths, skipped).unwrap_err();
        assert!(error.starts_with(expected), "{widths} {skipped:?}: {error}");
        assert!(!place.out().exists());
    }
    let zero =
        Gemma3nPlan { widths: matformer_formats::Gemma3nWidths::Every(0), skipped: Vec::new() };
    let error =
        slice_gemma3n(&place.model(), &zero, &place.out(), u64::MAX).unwrap_err().to_string();
    assert_eq!(error, "`widths` is 0 in layer 0; expected 1 to 32, which it has");
}

#[test]
fn a_folder_that_is_no_gemma_3n_is_told() {
    let place = Place::new();
    for (key, value, expected) in [
        ("model_type", json!("llama"), "`model_type`: \"llama\"; expected `gemma3n` or"),
        ("model_type", json!("gemma3n"), "`text_config`: null; expected the configuration"),
        ("num_hidden_layers", json!("x"), "`num_hidden_layers`: \"x\"; expected a whole number"),
        ("num_hidden_layers", json!(9), "`intermediate_size`: [32,32,32,32,32,32,32,32,32,32]; "),
        ("num_kv_shared_layers", json!(11), "`num_kv_shared_layers`: 11; expected at most 10, all"),
        ("num_hidden_layers", json!(0), "`num_hidden_layers`: 0; expected 1 to 4096"),
        ("num_hidden_layers", json!(1_000_000_000), "`num_hidden_layers`: 1000000000; expected 1"),
        ("hidden_size", json!(u64::MAX), "`hidden_size`: 18446744073709551615; expected at"),
        ("layer_types", json!(["x"]), "`layer_types`: [\"x\"]; expected an entry for each of 10"),
        ("activation_sparsity_pattern", json!(0.5), "`activation_sparsity_pattern`: 0.5; "),
        ("per_layer_config", json!({}), "`per_layer_config`: {}; expected no such key"),
    ] {
        place.configure(|config| config[key] = value);
        let error = place.slice("8", &[]).unwrap_err();
        assert!(error.starts_with(&format!("config.json: {expected}")), "{error}");
    }
    for (key, value, expected) in [
        (
            "hidden_size",
            json!(32),
            "`model.per_layer_model_projection.weight`: shape [40, 16]; \
          expected shape [40, 32], as `config.json` says",
        ),
        (
            "hidden_size_per_layer_input",
            json!(8),
            "`model.embed_tokens_per_layer.weight`: shape \
          [32, 40]; expected shape [32, 80], as `config.json` says",
        ),
        (
            "intermediate_size",
            json!(64),
            "`model.layers.0.mlp.gate_proj.weight`: shape [32, 16]; \
          expected shape [64, 16], as `config.json` says",
        ),
    ] {
        place.configure(|config| config[key] = value);
        let error = place.slice("8", &[]).unwrap_err();
        assert_eq!(error, format!("model.safetensors: tensor {expected}"));
    }
    place.configure(|_| {});
    let whole = tensors(&fixture("gemma3n.safetensors"));
    for (name, expected) in [
        ("model.layers.9.mlp.up_proj.weight", "nothing; expected shape [32, 16], as `config.json`"),
        ("model.embed_tokens_per_layer.weight", "nothing; expected the per-layer embeddings of a"),
    ] {
        let mut lacking = whole.clone();
        lacking.remove(name).unwrap();
        place.write("model.safetensors", &lacking);
        let error = place.slice("8", &[]).unwrap_err();
        let name = name.trim_start_matches("model.embed").trim_start_matches('_');
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let mut more = whole;
    let norm = more["model.layers.9.input_layernorm.weight"].clone();
    more.insert("model.layers.10.input_layernorm.weight".into(), norm);
    place.write("model.safetensors", &more);
    let error = place.slice("8", &[]).unwrap_err();
    assert!(error.contains("a tensor of another layer; expected 10 layers"), "{error}");
    assert!(!place.out().exists());
}

#[test]
fn what_is_extrapolation_is_noted() {
    let place = Place::new();
    let notes = |widths: &str, skipped: &[usize]| {
        let notes = place.slice(widths, skipped).unwrap().notes;
        std::fs::remove_dir_all(place.out()).unwrap();
        notes
    };
    assert_eq!(notes("32x4+16x6", &[]), Vec::<String>::new());
    assert!(notes("32x4+8x6", &[])[0].starts_with("layer 4 has width 8: "));
    // The order of local and global layers is stated in the fixture, and not every fifth is global.
    assert_eq!(notes("16", &[1]), Vec::<String>::new());
    place.configure(|config| config["layer_types"] = Value::Null);
    assert!(notes("16", &[1])[0].starts_with("the layers that are left out shift the pattern"));
}
