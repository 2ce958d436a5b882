//! Qwen 3: Qwen 2 with norms of queries and keys, heads of any size, and no biases unless
//! `attention_bias` is on.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family, holds,
    keys::{self, Defaults},
    qwen2,
};
use crate::MatLmConfig;

pub(super) const FAMILY: Family =
    Family { model_type: "qwen3", has, read, write, tensor_name: keys::tensor_name, files: &[] };

fn has(c: &MatLmConfig) -> bool {
    let admits = ["ge_glu", "rope_scaling", "attention_bias", "window", "window.layers"];
    holds(c, &["qk_norm"], &admits)
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let defaults = Defaults { kv_heads: Some(32), head_dim: Some(128), ..Defaults::LLAMA };
    let c = keys::read_attention_bias(file, keys::read(file, &defaults)?)?;
    Ok(MatLmConfig { window: qwen2::read_window(file, c.n_layers)?, qk_norm: true, ..c })
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "Qwen3ForCausalLM", "qwen3");
    keys.insert("attention_bias".to_owned(), c.qkv_bias.into());
    qwen2::write_window(c, &mut keys);
    keys
}
