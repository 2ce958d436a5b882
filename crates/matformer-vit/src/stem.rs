//! Context of one forward pass, shared by its layers: the branches that drop-path skips.

use burn::tensor::{Device, Tensor, TensorData};
use matformer_core::rng;
use matformer_nn::{BatchPart, Noise};

use crate::MatVitConfig;

/// Context of one forward pass, shared by its layers: the number of tokens and the drop-path factors.
#[derive(Clone, Debug)]
pub struct Stem {
    /// Tokens of an image.
    tokens: usize,
    /// Drop-path factor of each image per layer and branch, `[1, rows, 1]`: 0 or 1/(1−rate). Empty
    /// if drop-path is off.
    kept: Vec<[Tensor<3>; 2]>,
}

impl Stem {
    /// Draws the factors for a batch of `rows` images. Without noise no branch is dropped.
    pub(crate) fn new(
        config: &MatVitConfig,
        rows: usize,
        noise: Option<Noise>,
        device: &Device,
    ) -> Self {
        let kept = noise.map_or_else(Vec::new, |noise| kept(config, rows, noise, device));
        Self { tokens: config.tokens(), kept }
    }

    /// Applies drop-path to the output of a branch.
    ///
    /// # Shapes
    /// - x: `[copies·rows·tokens, d_model]`: the same images are dropped in every copy of the batch
    pub(crate) fn drop(&self, layer: usize, branch: usize, x: Tensor<2>) -> Tensor<2> {
        let Some(kept) = self.kept.get(layer) else {
            return x;
        };
        let [n, d] = x.dims();
        let [_, rows, _] = kept[branch].dims();
        let by_image = x.reshape([n / (rows * self.tokens), rows, self.tokens * d]);
        (by_image * kept[branch].clone()).reshape([n, d])
    }
}

/// Draws the drop-path factors.
fn kept(c: &MatVitConfig, rows: usize, noise: Noise, device: &Device) -> Vec<[Tensor<3>; 2]> {
    if c.drop_path == 0.0 {
        return Vec::new();
    }
    // Those of all rows of the batch: the same, whichever of them the forward pass has.
    let BatchPart { first, of } = noise.part.unwrap_or(BatchPart { first: 0, of: rows });
    let mut random = rng::keyed(noise.seed, "drop path", noise.index);
    let mut draw = |rate: f64| {
        let mut one = || if rng::unit(&mut random) < rate { 0.0 } else { 1.0 / (1.0 - rate) };
        let values: Vec<f32> = (0..of).map(|_| one() as f32).collect();
        let values = values[first..first + rows].to_vec();
        Tensor::from_data(TensorData::new(values, [1, rows, 1]), device)
    };
    (0..c.n_layers).map(|layer| [c.drop_path_of(layer); 2].map(&mut draw)).collect()
}
