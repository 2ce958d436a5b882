//! Model folders: what is written reads back, and what is wrong is named.

use std::{collections::BTreeMap, path::Path};

use matformer_lm::MatLm;
use matformer_nn::{Elastic, folder};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::support::{config, device, ids, manifest, model, one};

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
            "`vocab_size`: \"many\"; expected a number",
        ),
    ];
    for (name, text, expected) in cases {
        let (dir, _) = saved();
        std::fs::write(dir.path().join(name), text).unwrap();
        let message = load(dir.path()).unwrap_err();
        assert!(message.contains(expected) && message.contains(name), "{message}");
    }
}
