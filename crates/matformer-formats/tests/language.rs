//! Language models of other programs, imported.

use std::{collections::BTreeMap, path::Path};

use matformer_core::{Dtype, Manifest, fs};
use matformer_formats::{HfFolder, LmImport};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{
    ModelConfig, folder, params,
    weights::{self, INDEX, StoredTensor, WEIGHTS, WeightFiles},
};
use serde_json::{Value, json};

use crate::compare::{self, device};

fn config() -> MatLmConfig {
    MatLmConfig {
        vocab_size: 40,
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 128,
        context: 16,
        ..MatLmConfig::default()
    }
}

/// A folder of a Llama as transformers writes it, in files of up to `shard_bytes` bytes.
fn llama(config: &MatLmConfig, dtype: Dtype, shard_bytes: u64) -> (tempfile::TempDir, MatLm) {
    let dir = tempfile::tempdir().unwrap();
    let model = MatLm::new(config, 3, &device()).unwrap();
    let tensors = weights::stored(&model, dtype, |path| name(&model, path));
    let manifest = compare::manifest::<MatLm>(&config.space().unwrap());
    let manifest = Manifest { dtype, ..manifest };
    folder::save_as(&model, tensors, shard_bytes, &manifest, dir.path()).unwrap();
    std::fs::remove_file(dir.path().join(Manifest::FILE)).unwrap();
    (dir, model)
}

fn name(model: &MatLm, path: &str) -> String {
    matformer_nn::Folder::tensor_name(model, path)
}

/// Contents of all tensors in a folder, by name.
fn contents(dir: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let files = WeightFiles::open(dir).unwrap();
    let tensors = files.tensors().unwrap();
    let contents = |name: &str| {
        let view = tensors.view(name).unwrap();
        (name.to_owned(), (view.dtype, view.shape.to_vec(), view.data.to_vec()))
    };
    tensors.unread().map(contents).collect()
}

struct Done {
    out: tempfile::TempDir,
    manifest: Manifest,
    left_out: Vec<String>,
}

fn import(dir: &Path, widths: Option<&[usize]>, shard_bytes: u64) -> Result<Done, String> {
    let said = |error: matformer_formats::Error| {
        error.to_string().replace(&format!("{}", dir.display()), "DIR")
    };
    let files = WeightFiles::open(dir).map_err(said)?;
    let source = HfFolder::new(dir, &files).map_err(said)?;
    let import = LmImport::new(&source, widths, &device()).map_err(said)?;
    let left_out = import.left_out.iter().map(|l| format!("{}: {}", l.name, l.why)).collect();
    let out = tempfile::tempdir().unwrap();
    let manifest = import.write(out.path(), shard_bytes, None).map_err(said)?;
    Ok(Done { out, manifest, left_out })
}

/// Writes the tensors of a folder again, after a change of their list.
fn rewrite(dir: &Path, change: impl FnOnce(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) {
    let mut tensors = contents(dir);
    change(&mut tensors);
    let stored = |(name, (dtype, shape, bytes)): (String, (Dtype, Vec<usize>, Vec<u8>))| {
        StoredTensor::new(name, dtype, shape, move |out| out.write_all(&bytes))
    };
    let tensors = tensors.into_iter().map(stored).collect();
    weights::write_folder(dir, tensors, u64::MAX).unwrap();
}

#[test]
fn the_widest_is_exactly_the_model_whatever_its_files() {
    for tied_embeddings in [true, false] {
        let config = MatLmConfig { tied_embeddings, ..config() };
        for (dtype, shard_in, shard_out) in [
            (Dtype::F32, u64::MAX, u64::MAX),
            (Dtype::Bf16, 4096, u64::MAX),
            (Dtype::F16, u64::MAX, 4096),
        ] {
            let (dir, _) = llama(&config, dtype, shard_in);
            let done = import(dir.path(), None, shard_out).unwrap();
            assert_eq!(contents(done.out.path()), contents(dir.path()));
            assert_eq!(done.out.path().join(INDEX).exists(), shard_out != u64::MAX);
            let manifest = &done.manifest;
            let parent = WeightFiles::open(dir.path()).unwrap().hash();
            assert_eq!(manifest.provenance.parent, Some(parent));
            assert_eq!(manifest.granularities.widths(), [32, 64, 96, 128]);
            assert_eq!(manifest.objective.to_string(), "baseline:XL");
            // The hash is checked, and the model is that of the folder.
            let (again, read) = folder::load::<MatLm>(done.out.path(), &device()).unwrap();
            assert_eq!((read.dtype, read.weights_sha256), (dtype, manifest.weights_sha256.clone()));
            assert_eq!(params::shapes(&again).len(), contents(dir.path()).len());
        }
    }
}

#[test]
fn each_tensor_keeps_its_dtype() {
    let (dir, _) = llama(&config(), Dtype::F32, u64::MAX);
    rewrite(dir.path(), |tensors| {
        let (dtype, _, bytes) = tensors.get_mut("model.embed_tokens.weight").unwrap();
        (*dtype, *bytes) = (Dtype::Bf16, bytes.chunks(4).flat_map(|b| [b[2], b[3]]).collect());
    });
    let done = import(dir.path(), None, u64::MAX).unwrap();
    assert_eq!(contents(done.out.path()), contents(dir.path()));
    folder::load::<MatLm>(done.out.path(), &device()).unwrap();
}

#[test]
fn tensors_that_compute_nothing_are_left_out_and_others_are_refused() {
    let (dir, _) = llama(&config(), Dtype::F32, u64::MAX);
    let whole = contents(dir.path());
    let embedding = whole["model.embed_tokens.weight"].clone();
    rewrite(dir.path(), |tensors| {
        tensors.insert("lm_head.weight".to_owned(), embedding.clone());
        let buffer = (Dtype::F32, vec![4], vec![0; 16]);
        tensors.insert("model.layers.1.self_attn.rotary_emb.inv_freq".to_owned(), buffer);
    });
    let done = import(dir.path(), None, u64::MAX).unwrap();
    assert_eq!(
        done.left_out,
        [
            "lm_head.weight: the embedding again",
            "model.layers.1.self_attn.rotary_emb.inv_freq: made from the configuration",
        ]
    );
    assert_eq!(contents(done.out.path()), whole);

    rewrite(dir.path(), |tensors| tensors.get_mut("lm_head.weight").unwrap().2[5] ^= 1);
    assert_eq!(
        import(dir.path(), None, u64::MAX).err().unwrap(),
        "DIR: tensor `lm_head.weight`: other values than `model.embed_tokens.weight`; expected the \
         same, as `tie_word_embeddings` says"
    );
    rewrite(dir.path(), |tensors| {
        tensors.remove("lm_head.weight");
        tensors.insert(
            "model.layers.0.mlp.up_proj.bias".to_owned(),
            (Dtype::F32, vec![1], vec![0; 4]),
        );
    });
    assert_eq!(
        import(dir.path(), None, u64::MAX).err().unwrap(),
        "DIR: tensor `model.layers.0.mlp.up_proj.bias`: a tensor that the model does not have; \
         expected the model's 20 tensors only"
    );
}

#[test]
fn a_bare_decoder_has_no_prefix() {
    let (dir, _) = llama(&config(), Dtype::F32, u64::MAX);
    let whole = contents(dir.path());
    rewrite(dir.path(), |tensors| {
        let bare = |name: String| name.strip_prefix("model.").unwrap().to_owned();
        *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (bare(name), t)).collect();
    });
    let done = import(dir.path(), None, u64::MAX).unwrap();
    assert_eq!(contents(done.out.path()), whole);
}

#[test]
fn what_is_not_the_model_of_its_configuration_is_refused() {
    let (dir, _) = llama(&config(), Dtype::F32, u64::MAX);
    let refused = || import(dir.path(), None, u64::MAX).err().unwrap();
    let path = dir.path().join(folder::CONFIG);
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value, expected) in [
        ("num_hidden_layers", json!(3), "DIR: tensor `model.layers.2."),
        ("num_hidden_layers", json!(1), "a tensor that the model does not have"),
        ("num_hidden_layers", json!(9_999_999), "DIR/config.json: `num_hidden_layers`"),
        ("vocab_size", json!(41), "shape [40, 16]; expected shape [41, 16]"),
        ("vocab_size", json!(1u64 << 60), "DIR/config.json: `vocab_size` is"),
        ("tie_word_embeddings", json!(false), "tensor `lm_head.weight`: nothing; expected shape"),
        ("model_type", json!("bert"), "DIR/config.json: `model_type`: \"bert\"; expected `"),
    ] {
        let mut changed = written.clone();
        changed[key] = value;
        std::fs::write(&path, changed.to_string()).unwrap();
        let said = refused();
        assert!(said.contains(expected), "{key}: {said}");
    }
    std::fs::write(&path, written.to_string()).unwrap();
    rewrite(dir.path(), |tensors| {
        let bytes = &mut tensors.get_mut("model.norm.weight").unwrap().2;
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let said = refused();
    let expected = "tensor `model.norm.weight`: NaN at element 0; expected finite values";
    assert_eq!(said, format!("DIR/{WEIGHTS}: {expected}"));
    let error = import(dir.path(), Some(&[32, 64]), u64::MAX).err().unwrap();
    let expected = "ascending widths, of which the last is `d_ff`, 128";
    assert_eq!(error, format!("`granularities` is [32, 64]; expected {expected}"));
}
