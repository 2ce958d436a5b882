//! Qwen 2 and 2.5: Llama with biases on the projections to queries, keys and values, and with a
//! sliding window in some layers where `use_sliding_window` is on.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family, holds,
    keys::{self, Defaults},
    layers,
};
use crate::{MatLmConfig, Window};

pub(super) const FAMILY: Family =
    Family { model_type: "qwen2", has, read, write, tensor_name: keys::tensor_name, files: &[] };

fn has(c: &MatLmConfig) -> bool {
    holds(c, &["qkv_bias"], &["ge_glu", "rope_scaling", "window", "window.layers"])
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let c = keys::read(file, &Defaults { kv_heads: Some(32), ..Defaults::LLAMA })?;
    Ok(MatLmConfig { window: read_window(file, c.n_layers)?, qkv_bias: true, ..c })
}

/// The sliding window: in the layers given by `layer_types`, otherwise in all layers from `max_window_layers` on.
pub(super) fn read_window(file: &ConfigFile, n_layers: usize) -> Result<Option<Window>> {
    let first = file.optional("max_window_layers")?.unwrap_or(28);
    let size = layers::switched_size(file, Some(4096))?;
    layers::read_window(file, n_layers, size, |layer| layer >= first)
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "Qwen2ForCausalLM", "qwen2");
    write_window(c, &mut keys);
    keys
}

/// Adds the keys of the window. Versions without `layer_types` know windows in the last layers only.
pub(super) fn write_window(c: &MatLmConfig, keys: &mut Map<String, Value>) {
    layers::write_switched(c, keys);
    let last_full = (0..c.n_layers).rfind(|layer| c.window_of(*layer).is_none());
    let first = last_full.map_or(0, |layer| layer + 1);
    keys.insert("max_window_layers".to_owned(), first.into());
}
