//! What can go wrong in this crate.

use std::{fmt::Display, path::PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a plan and a walk, or a folder and a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name, width or file that the core crate refuses.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// A device that this build or this machine does not have.
    #[error("device `{asked}` is not available: {why}; available: {available}")]
    Device {
        /// What was asked for.
        asked: String,
        /// Why it cannot be had.
        why: String,
        /// What this build finds on this machine.
        available: String,
    },
    /// A plan that was compiled for another model.
    #[error("plan has {found} layers, the model has {expected}")]
    PlanLayers {
        /// Layers of the plan.
        found: usize,
        /// Layers of the model.
        expected: usize,
    },
    /// A block wider than its layer.
    #[error("layer {layer} has d_ff {d_ff}, the plan asks for width {width}")]
    PlanWidth {
        /// Index of the layer.
        layer: usize,
        /// Width of the block.
        width: usize,
        /// Widest that the layer has.
        d_ff: usize,
    },
    /// A plan with one submodel per row and a batch with another number of rows.
    #[error("plan is for {expected} rows, the batch has {found}")]
    PlanRows {
        /// Rows of the batch.
        found: usize,
        /// Rows of the plan.
        expected: usize,
    },
    /// More tokens than the cache holds.
    #[error("cache holds {capacity} positions, {needed} are needed")]
    CacheFull {
        /// Positions that the cache holds.
        capacity: usize,
        /// Positions after this walk.
        needed: usize,
    },
    /// A model configuration that cannot be built.
    #[error("`{field}` is {found}; expected {expected}")]
    Config {
        /// Field of the configuration.
        field: String,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// A file that is not what its name says.
    #[error("{path}: {found}; expected {expected}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A file that is not the one that the manifest was written for.
    #[error("{path}: SHA-256 {found}; expected {expected}, as `matformer.json` says")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The hash in the manifest.
        expected: String,
        /// Where the manifest has it.
        key: &'static str,
    },
    /// A tensor that is missing, unexpected or of another shape in a checkpoint.
    #[error("{path}: tensor `{tensor}`: {found}; expected {expected}")]
    Tensor {
        /// The checkpoint.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A tensor that could not be read back from its device.
    #[error("reading `{tensor}` from the device: {message}")]
    Read {
        /// Path of the parameter.
        tensor: String,
        /// What the backend said.
        message: String,
    },
}

impl Error {
    /// [`Error::Read`] of a tensor, with what the backend said.
    pub fn read(tensor: impl Into<String>, cause: impl Display) -> Self {
        Self::Read { tensor: tensor.into(), message: cause.to_string() }
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(e) => e.hint(),
            Self::Device { .. } => Some(
                "build with `--features wgpu` or `--features cuda` to add a backend".to_owned(),
            ),
            Self::Changed { key, .. } => Some(format!(
                "it was changed or damaged after it was written: bring the old file back; a change \
                 that is meant needs its new hash in `matformer.json`, as `{key}`"
            )),
            _ => None,
        }
    }
}
