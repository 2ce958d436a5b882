//! Text for a MatLM: shards and windows of `matformer-data` as batches on the model's device.

use matformer_data::{BatchShape, HeldOut, Prepared, Window};
use matformer_lm::MatLm;
use matformer_train::{Batch, Batches, BoxError};

/// Batches of a prepared corpus.
pub struct TextBatches {
    train: matformer_data::Batches,
    held_out: Vec<Vec<Window>>,
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
    ) -> matformer_data::Result<Self> {
        let train =
            matformer_data::Batches::new(prepared.train()?, BatchShape { rows, seq_len }, seed)?;
        let held_out: HeldOut = prepared.held_out()?.take(held_out_tokens);
        let mut windows: Vec<Window> = held_out.windows(seq_len)?.collect();
        // Rows of equal length together: less padding.
        windows.sort_by_key(|w| w.targets.len());
        Ok(Self { train, held_out: windows.chunks(rows).map(<[Window]>::to_vec).collect() })
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
        let windows = &self.held_out[index];
        let seq_len = windows.iter().map(|w| w.targets.len()).max().unwrap_or(0);
        let pad = |ids: &[u32]| {
            let mut ids = ids.to_vec();
            ids.resize(seq_len, 0);
            ids
        };
        let inputs: Vec<u32> = windows.iter().flat_map(|w| pad(&w.inputs)).collect();
        let targets: Vec<u32> = windows.iter().flat_map(|w| pad(&w.targets)).collect();
        let mask: Vec<bool> =
            windows.iter().flat_map(|w| (0..seq_len).map(move |i| i < w.targets.len())).collect();
        Ok(Batch {
            input: model.tokens(windows.len(), &inputs)?,
            target: model.targets(windows.len(), &targets, Some(&mask))?,
        })
    }
}
