//! What the tests share.

use burn::tensor::Device;
use matformer_core::{Manifest, Plan, Submodel};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Elastic, ModelConfig, State, walk};

use crate::compare::{self, values};

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
