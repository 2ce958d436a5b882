//! Text for a MatLM: shards and windows of `matformer-data` as batches on the model's device.

use matformer_data::{BatchShape, Prepared};
use matformer_eval::{HeldOutBatch, WindowBatch, window_batches};
use matformer_lm::MatLm;
use matformer_train::{Batch, Batches, BoxError};

/// Batches of a prepared corpus.
pub struct TextBatches {
    train: matformer_data::Batches,
    held_out: Vec<WindowBatch>,
}

impl TextBatches {
    /// Training rows of `seq_len` tokens in batches of `rows`, and the windows of about
    /// `held_out_tokens` held-out tokens.
    ///
    /// # Errors
    /// When the shards cannot be read or are shorter than one batch.
    pub fn new(
        prepared: &Prepared,
        rows: usize,
        seq_len: usize,
        held_out_tokens: usize,
        seed: u64,
    ) -> matformer_eval::Result<Self> {
        let train =
            matformer_data::Batches::new(prepared.train()?, BatchShape { rows, seq_len }, seed)?;
        let held_out = prepared.held_out_part(Some(held_out_tokens))?;
        Ok(Self { train, held_out: window_batches(&held_out, seq_len, rows)? })
    }
}

impl TextBatches {
    /// Batches of which no two share a row: an epoch's.
    pub fn distinct(&self) -> u64 {
        (self.train.windows() / self.train.shape().rows as u64).max(1)
    }
}

impl Batches<MatLm> for TextBatches {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        let batch = self.train.at(index, 0, 1);
        Ok(Batch {
            input: model.tokens(batch.rows, &batch.inputs)?,
            target: model.targets(batch.rows, &batch.targets, None)?,
        })
    }

    fn targets_per_batch(&self) -> usize {
        let shape = self.train.shape();
        shape.rows * shape.seq_len
    }

    fn held_out_len(&self) -> usize {
        self.held_out.len()
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        let (input, target) = (&self.held_out[index]).on(model)?;
        Ok(Batch { input, target })
    }
}
