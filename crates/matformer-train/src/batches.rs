//! Where a run's batches come from.

use matformer_nn::Elastic;

/// Error of a batch source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One batch on the model's device.
pub struct Batch<M: Elastic> {
    /// What goes in.
    pub input: M::Input,
    /// What should come out.
    pub target: M::Target,
}

/// Source of a run's batches: a pure function of the index, so that a run can stop and go on
/// anywhere.
pub trait Batches<M: Elastic>: Send + Sync {
    /// Training batch number `index`.
    ///
    /// # Errors
    /// When the batch cannot be read or does not fit the model.
    fn train(&self, model: &M, index: u64) -> Result<Batch<M>, BoxError>;

    /// Targets of every training batch.
    fn targets_per_batch(&self) -> usize;

    /// How many held-out batches one evaluation during training takes.
    fn held_out_len(&self) -> usize;

    /// Held-out batch number `index`.
    ///
    /// # Errors
    /// When the batch cannot be read or does not fit the model.
    fn held_out(&self, model: &M, index: usize) -> Result<Batch<M>, BoxError>;
}
