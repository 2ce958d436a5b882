//! Our own family, for what no other program loads: the paper's feed-forward block of two matrices
//! and GELU, and layers of unequal widths. All else is as in Llama.

use matformer_nn::{Activation, ConfigFile, Result};
use serde_json::{Map, Value, json};

use super::{Family, llama};
use crate::MatLmConfig;

pub(super) const FAMILY: Family =
    Family { model_type: "matlm", has: |_| true, read, write, tensor_name: llama::tensor_name };

/// Feed-forward width of each layer, where layers differ.
const WIDTHS: &str = "layer_d_ff";

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let all = [Activation::Gelu, Activation::SwiGlu, Activation::GeGlu];
    let named = |found| all.into_iter().find(|activation| llama::hidden_act(*activation) == found);
    let activation = match file.text("hidden_act").and_then(named) {
        Some(activation) => activation,
        None if file.get("hidden_act").is_none() => Activation::Gelu,
        None => {
            let known = all.map(|activation| format!("`{}`", llama::hidden_act(activation)));
            return Err(file.wrong("hidden_act", &known.join(", ")));
        }
    };
    let layer_d_ff = file.optional_list(WIDTHS)?;
    Ok(MatLmConfig { layer_d_ff, ..llama::shape(file, activation)? })
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = llama::keys(c, "MatLmForCausalLM", "matlm");
    if let Some(widths) = &c.layer_d_ff {
        keys.insert(WIDTHS.to_owned(), json!(widths));
    }
    keys
}
