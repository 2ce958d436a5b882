//! What the tests share.

use burn::tensor::Device;
use matformer_core::{Manifest, Plan};
use matformer_nn::{Elastic, ModelConfig, State, walk};
use matformer_vit::{MatVit, MatVitConfig};

use super::compare::{self, values};

pub fn config() -> MatVitConfig {
    MatVitConfig {
        image_size: 6,
        channels: 2,
        patch_size: 3,
        classes: 5,
        d_model: 12,
        n_layers: 3,
        n_heads: 2,
        d_ff: 32,
        granularities: Some(vec![4, 8, 16, 32]),
        width_multiple: 4,
        ..MatVitConfig::default()
    }
}

/// A model whose head is not zero.
pub fn model(config: &MatVitConfig, device: &Device) -> MatVit {
    let model = MatVit::new(config, 7, device).unwrap();
    matformer_nn::params::fill(model, |path, shape| {
        let n = shape.iter().product::<usize>();
        let values = pixels(n, path.len()).into_iter().map(|v| 0.7 * v).collect::<Vec<_>>();
        Ok::<_, ()>(burn::tensor::TensorData::new(values, shape.to_vec()))
    })
    .unwrap()
}

pub fn manifest(config: &MatVitConfig) -> Manifest {
    compare::manifest::<MatVit>(&config.space().unwrap())
}

/// Values from -1 to 1 that look random and are the same everywhere.
pub fn pixels(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * i * 31 + i * 17 + seed * 7919 + 5) % 101) as f32 / 50.0 - 1.0).collect()
}

/// Logits of every submodel of a plan.
pub fn logits(model: &MatVit, plan: &Plan, rows: usize, pixels: &[f32]) -> Vec<Vec<f32>> {
    let images = model.images(rows, pixels).unwrap();
    let walked = walk(model, &images, plan, &mut State::new()).unwrap();
    (0..plan.submodels().len()).map(|i| values(model.head(&walked.of(i)))).collect()
}
