//! Llama 2 and 3, and SmolLM2: RMSNorm, rotary position embedding, grouped-query attention and a
//! gated feed-forward block. transformers and other programs load it without any code of ours.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family, holds,
    keys::{self, Defaults},
};
use crate::MatLmConfig;

pub(super) const FAMILY: Family =
    Family { model_type: "llama", has, read, write, tensor_name: keys::tensor_name, files: &[] };

fn has(c: &MatLmConfig) -> bool {
    keys::divides(c) && holds(c, &[], &["ge_glu", "rope_scaling", "attention_bias"])
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    // Not Llama's key, and transformers ignores it; other programs may not.
    keys::check_absent(file, "sliding_window", "each position attends to all before it")?;
    keys::read_attention_bias(file, keys::read(file, &Defaults::LLAMA)?)
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "LlamaForCausalLM", "llama");
    keys.insert("attention_bias".to_owned(), c.qkv_bias.into());
    keys.insert("mlp_bias".to_owned(), false.into());
    keys
}
