//! Model folders: what is written reads back, and what is wrong is named.

use std::{collections::BTreeMap, path::Path};

use matformer_core::{Manifest, Plan, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Activation, Elastic, extract, folder, with_config};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    compare::device,
    support::{config, ids, logits, manifest, model, one},
};

fn saved() -> (tempfile::TempDir, MatLm) {
    let (dir, model) = (tempfile::tempdir().unwrap(), model(&device()));
    folder::save(&model, &manifest(&config()), dir.path()).unwrap();
    (dir, model)
}

fn load(dir: &Path) -> Result<MatLm, String> {
    folder::load(dir, &device()).map(|(model, _)| model).map_err(|e| e.to_string())
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

type Change = Box<dyn FnOnce(&mut Tensors)>;

/// Rewrites the weights file after `change`.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = dir.join(folder::WEIGHTS);
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
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
    let cases: [(&str, &str, &str); 6] = [
        (
            folder::CONFIG,
            "{\"model_type\": \"llama\", \"hidden_act\": \"relu\"}",
            "`hidden_act`: \"relu\"; expected `silu`",
        ),
        (
            folder::CONFIG,
            "{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\"}}",
            "expected rope type `default`",
        ),
        (folder::WEIGHTS, "not a header", "expected a safetensors file"),
        (folder::CONFIG, "{", "expected a JSON object"),
        (folder::CONFIG, "{\"model_type\": \"gpt2\"}", "expected `llama` or `matlm`"),
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
