//! Mistral: Llama without biases, and with a sliding window in all layers where `sliding_window` is
//! set.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family, holds,
    keys::{self, Defaults},
    layers,
};
use crate::{MatLmConfig, Window};

pub(super) const FAMILY: Family =
    Family { model_type: "mistral", has, read, write, tensor_name: keys::tensor_name, files: &[] };

fn has(c: &MatLmConfig) -> bool {
    holds(c, &[], &["ge_glu", "rope_scaling", "window"])
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    file.check("attention_bias", false, ": a Mistral has no biases")?;
    let c = keys::read(file, &Defaults { kv_heads: Some(8), ..Defaults::LLAMA })?;
    let window = layers::read_size(file, Some(4096))?;
    let window = window.map(|size| Window { size, layers: None, rope_theta: None });
    Ok(MatLmConfig { window, ..c })
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "MistralForCausalLM", "mistral");
    keys.insert("sliding_window".to_owned(), layers::size(c));
    keys
}
