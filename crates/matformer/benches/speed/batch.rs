//! One batch of random tokens.

use anyhow::Result;
use matformer::{
    core::rng,
    lm::{MatLm, MatLmConfig},
    nn::Elastic,
};

/// What goes in and what should come out.
pub struct OneBatch {
    pub input: <MatLm as Elastic>::Input,
    pub target: <MatLm as Elastic>::Target,
    /// Tokens of the batch.
    pub targets: usize,
}

/// `rows` full rows.
pub fn one_batch(model: &MatLm, config: &MatLmConfig, rows: usize) -> Result<OneBatch> {
    let targets = rows * config.context;
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
