//! Model folders: what is written reads back, and what is wrong is named.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::{bf16, f16};
use matformer_core::{self as core, Manifest, Plan, Submodel, fs};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{
    Activation, Elastic, ModelConfig, SliceOptions, extract, folder, slice,
    weights::{self, WeightFiles},
    with_config,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use super::{
    compare::{check_slices, check_weight_keys, device, sliced},
    support::{config, edit, ids, load, logits, manifest, model, one, read_json},
};

fn saved() -> (tempfile::TempDir, MatLm) {
    let (dir, model) = (tempfile::tempdir().unwrap(), model(&device()));
    folder::save(&model, &manifest(&config()), dir.path()).unwrap();
    (dir, model)
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

type Change = Box<dyn FnOnce(&mut Tensors)>;

/// The tensors of the weights file.
fn tensors(dir: &Path) -> Tensors {
    let bytes = std::fs::read(dir.join(folder::WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect()
}

/// Rewrites the weights file after `change`.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    let mut tensors = tensors(dir);
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(dir.join(folder::WEIGHTS), safetensors::serialize(views, None).unwrap())
        .unwrap();
}

/// The same, so that the manifest has the new hash.
fn rewrite_and_sign(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    rewrite(dir, change);
    let weights_sha256 = fs::sha256_file(dir.join(folder::WEIGHTS)).unwrap();
    Manifest { weights_sha256, ..Manifest::load(dir).unwrap() }.save(dir).unwrap();
}

#[test]
fn a_folder_reads_back_to_the_bit() {
    let (dir, model) = saved();
    let again = load(dir.path()).unwrap();
    assert_eq!(again.space(), model.space());
    let text = ids(9, 50, 1);
    let large = model.space().largest();
    assert_eq!(one(&again, &large, 1, &text), one(&model, &large, 1, &text));
}

#[test]
fn every_activation_reads_back_under_the_name_that_transformers_gives_it() {
    for (activation, act) in [
        (Activation::SwiGlu, "silu"),
        (Activation::GeGlu, "gelu_pytorch_tanh"),
        (Activation::Gelu, "gelu"),
    ] {
        let (config, dir) = (MatLmConfig { activation, ..config() }, tempfile::tempdir().unwrap());
        let model = MatLm::new(&config, 7, &device()).unwrap();
        folder::save(&model, &manifest(&config), dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(folder::CONFIG)).unwrap();
        assert!(text.contains(&format!("\"hidden_act\": \"{act}\"")), "{text}");
        let again = load(dir.path()).unwrap();
        assert_eq!(again.config().activation, activation);
        let (large, text) = (model.space().largest(), ids(9, 50, 1));
        assert_eq!(one(&again, &large, 1, &text), one(&model, &large, 1, &text));
    }
}

#[test]
fn shards_with_an_index_are_read() {
    let (dir, _) = saved();
    let path = dir.path().join(folder::WEIGHTS);
    let name = "model-00001-of-00001.safetensors";
    std::fs::rename(&path, dir.path().join(name)).unwrap();
    let index = format!("{{\"weight_map\": {{\"model.norm.weight\": \"{name}\"}}}}");
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    load(dir.path()).unwrap();
}

#[test]
fn weights_that_were_changed_are_refused() {
    let (dir, _) = saved();
    rewrite(dir.path(), |t| t.get_mut("model.norm.weight").unwrap().2[3] ^= 1);
    let message = load(dir.path()).unwrap_err();
    let written = Manifest::load(dir.path()).unwrap().weights_sha256;
    assert!(
        message.contains(&format!("expected {written}, as `matformer.json` says")),
        "{message}"
    );
}

#[test]
fn an_index_names_files_beside_it() {
    for (map, expected) in [
        ("{}", "an empty `weight_map`"),
        (r#"{"a": "../model.safetensors"}"#, "file `../model.safetensors`"),
        (r#"{"a": "/etc/passwd"}"#, "file `/etc/passwd`"),
        (r#"{"a": ".."}"#, "file `..`"),
    ] {
        let (dir, _) = saved();
        let index = dir.path().join("model.safetensors.index.json");
        std::fs::write(index, format!("{{\"weight_map\": {map}}}")).unwrap();
        let message = load(dir.path()).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_tensor_stands_in_one_file() {
    let (dir, _) = saved();
    let path = dir.path().join(folder::WEIGHTS);
    std::fs::copy(&path, dir.path().join("again.safetensors")).unwrap();
    let map = r#"{"weight_map": {"a": "again.safetensors", "b": "model.safetensors"}}"#;
    std::fs::write(dir.path().join("model.safetensors.index.json"), map).unwrap();
    let message = load(dir.path()).unwrap_err();
    assert!(
        message.contains("model.safetensors: tensor `") && message.contains("also in"),
        "{message}"
    );
}

#[test]
fn names_survive_a_slice_between_two_granularities() {
    let (_, model) = saved();
    let slice = |width: usize| extract(&model, &Submodel::uniform(width, 3)).unwrap();
    let names = |width| {
        let slice = slice(width);
        let list = slice.space().granularities.iter().map(|g| format!("{}={}", g.name, g.width));
        list.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(32), "S=8 M=16 L=32");
    assert_eq!(names(24), "S=8 M=16 w24=24");
    assert_eq!(names(48), "S=8 M=16 L=32 w48=48");
    // It reads back as it was.
    let (dir, slice) = (tempfile::tempdir().unwrap(), slice(48));
    let written = Manifest {
        d_ff: 48,
        granularities: slice.space().granularities.clone(),
        ..manifest(&config())
    };
    folder::save(&slice, &written, dir.path()).unwrap();
    assert_eq!(load(dir.path()).unwrap().space(), slice.space());
}

#[test]
fn wrong_tensors_are_named() {
    let norm = "model.norm.weight";
    let cases: [(Change, &str); 5] = [
        (
            Box::new(|t| {
                t.remove(norm);
            }),
            "tensor `model.norm.weight`: nothing; expected shape [32]",
        ),
        (
            Box::new(|t| {
                let extra = t[norm].clone();
                t.insert("extra".to_owned(), extra);
            }),
            "tensor `extra`: a tensor that the model does not have; expected the model's 29 tensors only",
        ),
        (
            Box::new(|t| t.get_mut(norm).unwrap().1 = vec![4, 8]),
            "tensor `model.norm.weight`: shape [4, 8]; expected shape [32]",
        ),
        (
            Box::new(|t| t.get_mut(norm).unwrap().0 = Dtype::I32),
            "tensor `model.norm.weight`: dtype I32; expected F32, BF16 or F16",
        ),
        (
            Box::new(|t| {
                t.get_mut(norm).unwrap().2[8..12].copy_from_slice(&f32::NAN.to_le_bytes())
            }),
            "tensor `model.norm.weight`: NaN at element 2; expected finite values",
        ),
    ];
    for (change, expected) in cases {
        let (dir, _) = saved();
        rewrite(dir.path(), change);
        let message = load(dir.path()).unwrap_err();
        assert!(message.ends_with(expected), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn wrong_files_are_named() {
    let cases: [(&str, &str, &str); 5] = [
        (
            folder::CONFIG,
            "{\"model_type\": \"llama\", \"hidden_act\": \"relu\"}",
            "`hidden_act`: \"relu\"; expected `silu`",
        ),
        (folder::WEIGHTS, "not a header", "expected a safetensors file"),
        (folder::CONFIG, "{", "expected a JSON object"),
        (folder::CONFIG, "{\"model_type\": \"gpt2\"}", "expected `llama`, `mistral`, `qwen2`"),
        (
            folder::CONFIG,
            "{\"model_type\": \"llama\", \"vocab_size\": \"many\"}",
            "`vocab_size`: \"many\"; expected a whole number",
        ),
    ];
    for (name, text, expected) in cases {
        let (dir, _) = saved();
        std::fs::write(dir.path().join(name), text).unwrap();
        let message = load(dir.path()).unwrap_err();
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
}

#[test]
fn weights_go_into_other_granularities_and_another_context() {
    let model = model(&device());
    let longer = MatLmConfig {
        granularities: Some(vec![16, 64]),
        context: 2 * config().context,
        ..config()
    };
    let other = with_config(&model, &longer).unwrap();
    assert_eq!(other.space().granularities.widths(), [16, 64]);
    let (text, large) = (ids(9, 50, 1), model.space().largest());
    assert_eq!(one(&other, &large, 1, &text), one(&model, &large, 1, &text));
    assert!(logits(&other, &Plan::one(&large), 1, &ids(40, 50, 1)).len() == 1, "a longer context");
    let wider = MatLmConfig { d_ff: 128, ..config() };
    let message = with_config(&model, &wider).unwrap_err().to_string();
    assert_eq!(message, "`d_ff` is 128; expected 64, as in the weights");
}

#[test]
fn keys_that_change_what_a_model_computes_are_refused_by_name() {
    for (key, value) in [
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("gelu")),
        ("rope_scaling", json!({ "type": "dynamic", "factor": 2.0 })),
        ("rope_scaling", json!({ "factor": 2.0 })),
        ("rope_parameters", json!({ "rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4 })),
        ("rope_parameters", json!({ "rope_theta": 1e4, "partial_rotary_factor": 0.5 })),
        ("rope_parameters", json!({ "rope_theta": "10000" })),
        ("partial_rotary_factor", json!(0.5)),
        ("rope_traditional", json!(true)),
        ("sliding_window", json!(4096)),
        ("quantization_config", json!({ "quant_method": "gptq" })),
        ("rms_norm_eps", json!("1e-5")),
        ("rope_theta", json!("10000")),
        ("tie_word_embeddings", json!("true")),
    ] {
        let (dir, _) = saved();
        edit(dir.path(), folder::CONFIG, json!({ key: value }));
        let message = load(dir.path()).unwrap_err();
        assert!(message.contains(&format!("config.json: `{key}`: {value}; expected")), "{message}");
    }
    let (dir, _) = saved();
    let harmless = json!({
        "sliding_window": Value::Null, "partial_rotary_factor": 1.0, "pretraining_tp": 2,
        "rope_scaling": { "type": "default" }, "attention_dropout": 0.1, "initializer_range": 0.02,
    });
    edit(dir.path(), folder::CONFIG, harmless);
    load(dir.path()).unwrap();
}

#[test]
fn layers_of_unequal_widths_read_back_to_the_bit() {
    for (activation, family) in [
        (Activation::SwiGlu, "nemotron-nas"),
        (Activation::GeGlu, "matlm"),
        (Activation::Gelu, "matlm"),
    ] {
        let config = MatLmConfig { activation, ..config() };
        let model = MatLm::new(&config, 7, &device()).unwrap();
        let mixed = Submodel::new(vec![16, 64, 8]);
        let (slim, dir) = (extract(&model, &mixed).unwrap(), tempfile::tempdir().unwrap());
        folder::save(&slim, &manifest(&config), dir.path()).unwrap();
        assert_eq!(read_json(dir.path(), folder::CONFIG)["model_type"], family);
        let text = ids(9, 50, 1);
        let check = |expected_type| {
            let again = load(dir.path()).unwrap();
            assert_eq!(again.config().nested(), slim.config().nested());
            assert_eq!(one(&again, &mixed, 1, &text), one(&slim, &mixed, 1, &text));
            assert_eq!(again.config().family(), expected_type);
        };
        check(family);
        // As all such models were written before.
        let old =
            json!({ "model_type": "matlm", "layer_d_ff": [16, 64, 8], "block_configs": null });
        edit(dir.path(), folder::CONFIG, old);
        check(family);
        edit(dir.path(), folder::CONFIG, json!({ "layer_d_ff": [16, 64] }));
        let message = load(dir.path()).unwrap_err();
        assert!(
            message.contains("config.json: `layer_d_ff` is [16, 64]; expected 3 widths"),
            "{message}"
        );
    }
}

#[test]
fn ids_of_special_tokens_are_kept() {
    const GENERATION: &str = "generation_config.json";
    let (dir, _) = saved();
    let ids = json!({ "bos_token_id": 1, "eos_token_id": [2, 7], "pad_token_id": null });
    edit(dir.path(), folder::CONFIG, ids);
    edit(dir.path(), GENERATION, json!({ "eos_token_id": [2, 7, 9], "temperature": 0.6 }));
    let (before, again) = (load(dir.path()).unwrap(), tempfile::tempdir().unwrap());
    let slim = extract(&before, &Submodel::uniform(32, 3)).unwrap();
    let narrow = Manifest {
        d_ff: 32,
        granularities: slim.space().granularities.clone(),
        ..manifest(&config())
    };
    for (model, manifest) in [(&before, manifest(&config())), (&slim, narrow)] {
        folder::save(model, &manifest, again.path()).unwrap();
        let found = read_json(again.path(), folder::CONFIG);
        assert_eq!((&found["bos_token_id"], &found["eos_token_id"]), (&json!(1), &json!([2, 7])));
        assert_eq!(found.get("pad_token_id"), None);
        assert_eq!(read_json(again.path(), GENERATION), read_json(dir.path(), GENERATION));
        assert_eq!(
            load(again.path()).unwrap().config().special_tokens,
            model.config().special_tokens
        );
    }
    // A folder without the second file gets one that agrees with the first.
    std::fs::remove_file(dir.path().join(GENERATION)).unwrap();
    folder::save(&load(dir.path()).unwrap(), &manifest(&config()), again.path()).unwrap();
    let made = json!({ "bos_token_id": 1, "eos_token_id": [2, 7], "max_length": 24 });
    assert_eq!(read_json(again.path(), GENERATION), made);
}

/// f32 values in a dtype of 16 bits.
fn halved(values: &[u8], dtype: Dtype) -> Vec<u8> {
    let half = |b: &[u8]| {
        let value = f32::from_le_bytes(b.try_into().unwrap());
        match dtype {
            Dtype::BF16 => bf16::from_f32(value).to_le_bytes(),
            _ => f16::from_f32(value).to_le_bytes(),
        }
    };
    values.chunks_exact(4).flat_map(half).collect()
}

#[test]
fn weights_are_written_in_the_dtype_that_they_were_read_in() {
    for (dtype, name) in [(Dtype::BF16, "bfloat16"), (Dtype::F16, "float16")] {
        let (dir, _) = saved();
        let narrow = |t: &mut Tensors| {
            for (found, _, values) in t.values_mut() {
                (*found, *values) = (dtype, halved(values, dtype));
            }
        };
        rewrite_and_sign(dir.path(), narrow);
        let (model, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
        let again = tempfile::tempdir().unwrap();
        folder::save(&model, &manifest, again.path()).unwrap();
        assert!(tensors(again.path()) == tensors(dir.path()), "{name}: the same bytes");
        let found = read_json(again.path(), folder::CONFIG);
        assert_eq!((&found["dtype"], &found["torch_dtype"]), (&json!(name), &json!(name)));
        // A manifest of its own, as a training run has, does not round.
        let trained = Manifest { dtype: core::Dtype::F32, ..manifest };
        folder::save(&model, &trained, again.path()).unwrap();
        assert!(tensors(again.path()).values().all(|(dtype, ..)| *dtype == Dtype::F32));
        assert_eq!(read_json(again.path(), folder::CONFIG)["dtype"], "float32");
    }
}

#[test]
fn weights_of_several_dtypes_are_written_in_full() {
    let (dir, _) = saved();
    rewrite_and_sign(dir.path(), |t| {
        let (dtype, _, values) = t.get_mut("model.norm.weight").unwrap();
        (*dtype, *values) = (Dtype::BF16, halved(values, Dtype::BF16));
    });
    let (_, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
    assert_eq!(manifest.dtype, core::Dtype::F32);
}

#[test]
fn weight_keys_are_those_that_change_the_tensors() {
    let base = MatLmConfig { head_dim: Some(8), ..config() };
    let changes = json!({
        "vocab_size": 51, "d_model": 36, "n_layers": 4, "n_heads": 6, "n_kv_heads": 4,
        "head_dim": 10, "d_ff": 72, "granularities": [8, 64], "width_multiple": 4, "context": 25,
        "tied_embeddings": false, "activation": "gelu", "rope_theta": 5e5, "norm_eps": 1e-6,
        "rope_scaling": { "type": "linear", "factor": 2.0 }, "nope_layers": [1],
        "window": { "size": 4 }, "qkv_bias": true, "o_bias": true, "qk_norm": true,
        "query_pre_attn_scalar": 7, "post_norms": true, "norm_plus_one": true,
        "scale_embeddings": true, "layer_d_ff": [8, 16, 64],
    });
    check_weight_keys::<MatLm>(&base, changes, &["norm_plus_one"]);
}

#[test]
fn slices_of_files_are_those_of_memory() {
    let unequal = Submodel::new(vec![16, 64, 8]);
    for tied_embeddings in [true, false] {
        let model = MatLm::new(&MatLmConfig { tied_embeddings, ..config() }, 7, &device()).unwrap();
        check_slices(&model, &[Submodel::uniform(32, 3), unequal.clone(), model.space().largest()]);
    }
    let two_matrices = MatLmConfig { activation: Activation::Gelu, ..config() };
    check_slices(&MatLm::new(&two_matrices, 7, &device()).unwrap(), &[unequal]);
}

#[test]
fn a_padded_slice_computes_what_the_submodel_does() {
    let (dir, model) = saved();
    let unequal = Submodel::new(vec![16, 32, 8]);
    let padded = tempfile::tempdir().unwrap();
    let shape = MatLmConfig { granularities: Some(vec![8, 16, 32]), d_ff: 32, ..config() };
    sliced::<MatLm>(dir.path(), &unequal, true, &manifest(&shape), padded.path());
    let again = load(padded.path()).unwrap();
    assert_eq!(again.config().layer_d_ff, None);
    let ids = ids(24, 50, 1);
    let ours = one(&again, &Submodel::uniform(32, 3), 2, &ids);
    let theirs = one(&model, &unequal, 2, &ids);
    let most = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most < 1e-5, "{most}");
}

#[test]
fn a_slice_of_weights_with_a_nan_is_refused_by_name() {
    let (dir, model) = saved();
    // Of the last neuron of the first layer, which is in the widest submodel alone.
    let name = "model.layers.0.mlp.up_proj.weight";
    rewrite(dir.path(), |tensors| {
        let bytes = &mut tensors.get_mut(name).unwrap().2;
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let files = WeightFiles::open(dir.path()).unwrap();
    let tensors = files.tensors().unwrap();
    let out = tempfile::tempdir().unwrap();
    let cut = |submodel: Submodel| {
        let options = SliceOptions { submodel, pad: false, dtype: None };
        let slim = slice(&model, &tensors, &options).unwrap();
        weights::write_folder(out.path(), slim.tensors, u64::MAX)
    };
    cut(Submodel::new(vec![32, 64, 64])).unwrap();
    let error = cut(model.space().largest()).unwrap_err().to_string();
    let expected =
        format!("tensor `{name}`: NaN at element {}; expected finite values", 64 * 32 - 1);
    assert!(error.ends_with(&expected), "{error}");
}
