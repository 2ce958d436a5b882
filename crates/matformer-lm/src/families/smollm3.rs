//! SmolLM3: Llama without a rotary embedding in some layers (NoPE), by default every fourth.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family, holds,
    keys::{self, Defaults},
    layers,
};
use crate::MatLmConfig;

pub(super) const FAMILY: Family =
    Family { model_type: "smollm3", has, read, write, tensor_name: keys::tensor_name, files: &[] };

fn has(c: &MatLmConfig) -> bool {
    let admits =
        ["ge_glu", "rope_scaling", "attention_bias", "nope_layers", "window", "window.layers"];
    holds(c, &[], &admits)
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let defaults =
        Defaults { kv_heads: Some(4), tied: true, theta: 2_000_000.0, ..Defaults::LLAMA };
    let c = keys::read_attention_bias(file, keys::read(file, &defaults)?)?;
    let nope = read_nope(file, c.n_layers)?;
    let size = layers::switched_size(file, None)?;
    let window = layers::read_window(file, c.n_layers, size, |layer| nope.contains(&layer))?;
    Ok(MatLmConfig { window, nope_layers: (!nope.is_empty()).then_some(nope), ..c })
}

/// The layers without a rotary embedding: those where `no_rope_layers` has a 0, or where it is
/// missing, the last of every `no_rope_layer_interval` layers.
fn read_nope(file: &ConfigFile, n_layers: usize) -> Result<Vec<usize>> {
    const KEY: &str = "no_rope_layers";
    if let Some(rotated) = file.optional_list(KEY)? {
        if rotated.len() < n_layers || rotated.iter().any(|rotated| *rotated > 1) {
            return Err(file.wrong(KEY, &format!("1 or 0 for each of {n_layers} layers")));
        }
        return Ok((0..n_layers).filter(|layer| rotated[*layer] == 0).collect());
    }
    const INTERVAL: &str = "no_rope_layer_interval";
    let interval = file.optional(INTERVAL)?.unwrap_or(4);
    if interval == 0 {
        return Err(file.wrong(INTERVAL, "at least 1"));
    }
    Ok((0..n_layers).filter(|layer| (layer + 1).is_multiple_of(interval)).collect())
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "SmolLM3ForCausalLM", "smollm3");
    let rotated = (0..c.n_layers).map(|layer| u8::from(c.has_rope(layer)));
    keys.insert("no_rope_layers".to_owned(), rotated.collect());
    keys.insert("attention_bias".to_owned(), c.qkv_bias.into());
    keys.insert("mlp_bias".to_owned(), false.into());
    layers::write_switched(c, &mut keys);
    // transformers refuses to load a model whose padding token, by default 128,004, is not in the
    // vocabulary.
    if c.vocab_size <= 128_004 {
        keys.insert("pad_token_id".to_owned(), Value::Null);
    }
    keys
}
