//! What can go wrong in training.

use std::path::PathBuf;

use crate::BoxError;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a configuration and a trained model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the walk or a model folder.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// From draws, plans or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// A setting that cannot be trained with.
    #[error("`train.{field}` is {found}; expected {expected}")]
    Config {
        /// Key in the `[train]` table.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// The batches could not be had.
    #[error("batch {index}: {source}")]
    Batch {
        /// Index of the batch.
        index: u64,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// Loss or gradient norm is no longer a number.
    #[error("{what} is {value} at step {step}; last good checkpoint: {checkpoint}")]
    NonFinite {
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step, from 1, which was not applied.
        step: u64,
        /// Where to go on from.
        checkpoint: String,
    },
    /// A checkpoint that does not hold what it should.
    #[error("{path}: {found}; expected {expected}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// burn-train stopped with an error of its own.
    #[error("training stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nn(e) => e.hint(),
            Self::Core(e) => e.hint(),
            Self::NonFinite { .. } => Some(
                "train into another folder (--out) with a lower `train.learning_rate` or `train.clip`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
