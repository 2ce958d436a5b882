//! Weights files: safetensors, one or several, read and written one tensor at a time.

mod read;
mod values;
mod view;
mod write;

pub use read::{Tensors, WeightFiles, map};
pub use values::{common_dtype, floats, not_finite, write as write_values};
pub use view::{Cut, TensorRef};
pub use write::{SHARD_BYTES, StoredTensor, stored, write_folder};

/// Name of the weights file.
pub const WEIGHTS: &str = "model.safetensors";

/// Name of the file that says which tensor is in which of several weights files.
pub const INDEX: &str = "model.safetensors.index.json";
