//! What the tests share.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use matformer_core::{Manifest, Plan, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Elastic, ModelConfig, State, folder, walk};
use serde_json::Value;

use super::compare::{self, device, values};

/// A committed fixture. Cargo says at run time where the crate is, so that the tests can also run where it
/// was not built.
pub fn fixture(name: &str) -> PathBuf {
    let krate = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    Path::new(&krate).join("tests/fixtures").join(name)
}

/// A small model with every feature: grouped heads, untied granularities of odd sizes.
pub fn config() -> MatLmConfig {
    MatLmConfig {
        vocab_size: 50,
        d_model: 32,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 64,
        granularities: Some(vec![8, 16, 32, 64]),
        width_multiple: 8,
        context: 24,
        ..MatLmConfig::default()
    }
}

pub fn model(device: &Device) -> MatLm {
    MatLm::new(&config(), 7, device).unwrap()
}

pub fn manifest(config: &MatLmConfig) -> Manifest {
    compare::manifest::<MatLm>(&config.space().unwrap())
}

/// Token ids that look random and are the same everywhere.
pub fn ids(n: usize, vocab: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * i * 31 + i * 17 + seed * 7919 + 5) % vocab) as u32).collect()
}

/// Logits of every submodel of a plan.
pub fn logits(model: &MatLm, plan: &Plan, rows: usize, ids: &[u32]) -> Vec<Vec<f32>> {
    let walked = walk(model, &model.tokens(rows, ids).unwrap(), plan, &mut State::new()).unwrap();
    (0..plan.submodels().len()).map(|i| values(model.head(&walked.of(i)))).collect()
}

pub fn one(model: &MatLm, submodel: &Submodel, rows: usize, ids: &[u32]) -> Vec<f32> {
    logits(model, &Plan::one(submodel), rows, ids).remove(0)
}

pub fn load(dir: &Path) -> Result<MatLm, String> {
    folder::load(dir, &device()).map(|(model, _)| model).map_err(|e| e.to_string())
}

pub fn read_json(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

/// Changes the JSON object in a file; `null` removes a key.
pub fn edit(dir: &Path, name: &str, change: Value) {
    let mut json = read_json(dir, name);
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => json.as_object_mut().unwrap().remove(key),
            value => json.as_object_mut().unwrap().insert(key.clone(), value.clone()),
        };
    }
    std::fs::write(dir.join(name), json.to_string()).unwrap();
}
