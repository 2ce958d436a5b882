//! One batch of random tokens or images: for measuring how long things take.

use matformer_core::rng;
use matformer_lm::MatLm;
use matformer_nn::Elastic;
use matformer_train::{Batch, Batches, BoxError};
use matformer_vit::MatVit;

/// A fixed batch: always the same input and target.
pub struct OneBatch<M: Elastic> {
    /// What goes in.
    pub input: M::Input,
    /// What should come out.
    pub target: M::Target,
    /// Targets of the batch.
    pub targets: usize,
}

/// `rows` rows of `len` tokens.
///
/// # Errors
/// As [`MatLm::tokens`].
pub fn one_batch(
    model: &MatLm,
    rows: usize,
    len: usize,
) -> Result<OneBatch<MatLm>, matformer_lm::Error> {
    let config = model.config();
    let targets = rows * len;
    let mut random = rng::keyed(0, "bench", 0);
    let mut ids = || -> Vec<u32> {
        (0..targets).map(|_| rng::index(&mut random, config.vocab_size) as u32).collect()
    };
    Ok(OneBatch {
        input: model.tokens(rows, &ids())?,
        target: model.targets(rows, &ids(), None)?,
        targets,
    })
}

/// `rows` images.
///
/// # Errors
/// As [`MatVit::images`].
pub fn images(model: &MatVit, rows: usize) -> Result<OneBatch<MatVit>, matformer_vit::Error> {
    let config = model.config();
    let mut random = rng::keyed(0, "bench", 0);
    let mut pixel = |_| rng::unit(&mut random) as f32 - 0.5;
    let pixels: Vec<f32> = (0..rows * config.pixels()).map(&mut pixel).collect();
    let labels: Vec<usize> = (0..rows).map(|row| row % config.classes).collect();
    Ok(OneBatch {
        input: model.images(rows, &pixels)?,
        target: model.labels(&labels, 0.0)?,
        targets: rows,
    })
}

impl<M: Elastic> Batches<M> for OneBatch<M>
where
    M::Input: Send + Sync,
    M::Target: Send + Sync,
{
    fn train(&self, _: &M, _: u64) -> Result<Batch<M>, BoxError> {
        Ok(Batch { input: self.input.clone(), target: self.target.clone() })
    }

    fn targets_per_batch(&self) -> usize {
        self.targets
    }

    fn held_out_len(&self) -> usize {
        0
    }

    fn held_out(&self, _: &M, _: usize) -> Result<Batch<M>, BoxError> {
        Err("no held-out batches".into())
    }
}
