//! The source of a run's batches.

use std::ops::Range;

use matformer_nn::Elastic;

/// An error of a batch source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A batch on the model's device.
pub struct Batch<M: Elastic> {
    /// Input of the model.
    pub input: M::Input,
    /// Expected output.
    pub target: M::Target,
}

/// Source of a run's batches: a pure function of the index, so that a run can be resumed at any
/// step.
pub trait Batches<M: Elastic>: Send + Sync {
    /// Training batch number `index`.
    ///
    /// # Errors
    /// When the batch cannot be read or does not fit the model.
    fn train(&self, model: &M, index: u64) -> Result<Batch<M>, BoxError>;

    /// Rows of a training batch, if its rows can be read apart: several processes then share a batch. Otherwise 1.
    fn rows(&self) -> usize {
        1
    }

    /// The rows `rows` of training batch number `index`, a part of [`rows`](Self::rows): the same that
    /// [`train`](Self::train) has at these places.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    fn train_rows(&self, model: &M, index: u64, rows: Range<usize>) -> Result<Batch<M>, BoxError> {
        debug_assert_eq!(rows, 0..1, "of a batch whose rows are not read apart");
        self.train(model, index)
    }

    /// Number of targets per training batch, constant over batches, including masked targets.
    fn targets_per_batch(&self) -> usize;

    /// Number of targets per training batch that are learnt, on average over all batches. The loss is divided by
    /// this number, not by the counts of the row losses: a row weighs the same in every batch.
    fn learnt_per_batch(&self) -> f64 {
        self.targets_per_batch() as f64
    }

    /// Number of held-out batches of an evaluation during training.
    fn held_out_len(&self) -> usize;

    /// The source that all rows of held-out batch number `index` are of, where the data has several.
    fn held_out_source(&self, _index: usize) -> Option<usize> {
        None
    }

    /// Held-out batch number `index`.
    ///
    /// # Errors
    /// When the batch cannot be read or does not fit the model.
    fn held_out(&self, model: &M, index: usize) -> Result<Batch<M>, BoxError>;
}
