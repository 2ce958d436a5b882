//! What can go wrong in this crate.

use std::{fmt::Display, path::PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of running a plan, or of loading a model from a folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name, width or file that the core crate refuses.
    #[error(transparent)]
    Core(matformer_core::Error),
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
    /// A plan that takes one row through several submodels, and a cache, which holds the keys and
    /// values of one.
    #[error("plan has {copies} copies of the batch in layer {layer}; with a cache, expected 1")]
    PlanCache {
        /// The first layer with several.
        layer: usize,
        /// How many.
        copies: usize,
    },
    /// A row without tokens.
    #[error("row {row} has no tokens; expected at least 1")]
    EmptyRow {
        /// Index of the row.
        row: usize,
    },
    /// A row has a slot but the state has no cache.
    #[error("row {row} names a cache slot; the state has no cache")]
    NoCache {
        /// Index of the row.
        row: usize,
    },
    /// The state has a cache but a row has no slot.
    #[error("row {row} names no cache slot; the state has a cache, where every row needs one")]
    NoSlot {
        /// Index of the row.
        row: usize,
    },
    /// A slot that the cache does not have.
    #[error("cache slot {slot}: the cache has {slots} slots")]
    UnknownSlot {
        /// The slot.
        slot: usize,
        /// Slots of the cache.
        slots: usize,
    },
    /// Two rows of a batch in one slot.
    #[error("cache slot {slot} is named by two rows of the batch; expected one")]
    SlotTwice {
        /// The slot.
        slot: usize,
    },
    /// A row that leaves out positions of its slot.
    #[error("cache slot {slot} holds {held} positions, the row starts at {start}")]
    SlotGap {
        /// The slot.
        slot: usize,
        /// First position of the row.
        start: usize,
        /// Positions that the slot holds.
        held: usize,
    },
    /// More tokens than a slot of the cache holds.
    #[error("cache slot {slot} holds {capacity} positions, {needed} are needed")]
    CacheFull {
        /// The slot.
        slot: usize,
        /// Positions that it can hold.
        capacity: usize,
        /// Positions after this forward pass.
        needed: usize,
    },
    /// A row longer than the model's context.
    #[error("row {row} ends at position {needed}, the context holds {context}")]
    Context {
        /// Index of the row.
        row: usize,
        /// Positions of the context.
        context: usize,
        /// Positions that the row needs.
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
    /// A matrix that a packed format cannot hold.
    #[error("packed weight: {found}, expected {expected}")]
    Packed {
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

/// What a tensor failed with while a file was read or written is taken out of the [`std::io::Error`] that
/// carried it.
impl From<matformer_core::Error> for Error {
    fn from(error: matformer_core::Error) -> Self {
        let matformer_core::Error::Io { path, action, source } = error else {
            return Self::Core(error);
        };
        match source.downcast() {
            Ok(error) => error,
            Err(source) => Self::Core(matformer_core::Error::Io { path, action, source }),
        }
    }
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
                "it was changed or damaged after it was written: restore it; after an intended change, \
                 set `{key}` in `matformer.json` to the new hash"
            )),
            _ => None,
        }
    }
}
