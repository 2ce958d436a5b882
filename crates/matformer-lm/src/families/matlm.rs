//! Our own family, for what no other program loads: the paper's feed-forward block of two matrices
//! and GELU, and combinations of options and widths that no other family has. Llama's keys, and the
//! options under the names of our configuration's fields.

use matformer_nn::{Activation, ConfigFile, Result};
use serde_json::{Map, Value};

use super::{
    Family,
    keys::{self, Defaults},
    rope,
};
use crate::MatLmConfig;

pub(super) const FAMILY: Family = Family {
    model_type: "matlm",
    has: |_| true,
    read,
    write,
    tensor_name: keys::tensor_name,
    files: &[],
};

/// The fields that have no key of Llama's.
const OPTIONS: [&str; 10] = [
    "layer_d_ff",
    "nope_layers",
    "window",
    "qkv_bias",
    "o_bias",
    "qk_norm",
    "query_pre_attn_scalar",
    "post_norms",
    "norm_plus_one",
    "scale_embeddings",
];

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let all = [Activation::Gelu, Activation::SwiGlu, Activation::GeGlu];
    let named = |found| all.into_iter().find(|activation| keys::hidden_act(*activation) == found);
    let activation = match file.text("hidden_act").and_then(named) {
        Some(activation) => activation,
        None if file.get("hidden_act").is_none() => Activation::Gelu,
        None => {
            let known = all.map(|activation| format!("`{}`", keys::hidden_act(activation)));
            return Err(file.wrong("hidden_act", &known.join(", ")));
        }
    };
    let defaults = Defaults::LLAMA;
    let rope = rope::read(file, defaults.theta)?;
    let sizes = keys::read_sizes(file, &defaults, activation)?;
    file.check("attention_bias", false, ": the keys are `qkv_bias` and `o_bias`")?;
    keys::check_absent(file, "sliding_window", "the key is `window`")?;
    let mut c = MatLmConfig { rope_theta: rope.theta, rope_scaling: rope.scaling, ..sizes };
    for key in OPTIONS {
        if let Some(value) = file.get(key) {
            c = with_option(file, &c, key, value)?;
        }
    }
    Ok(c)
}

/// The configuration with another value of one field.
fn with_option(
    file: &ConfigFile,
    c: &MatLmConfig,
    key: &str,
    value: &Value,
) -> Result<MatLmConfig> {
    let mut fields = serde_json::to_value(c).unwrap_or_default();
    fields[key] = value.clone();
    serde_json::from_value(fields).map_err(|error| file.wrong(key, &format!("its form: {error}")))
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "MatLmForCausalLM", "matlm");
    let fields = serde_json::to_value(c).unwrap_or_default();
    let set =
        OPTIONS.into_iter().filter_map(|key| Some((key.to_owned(), fields.get(key)?.clone())));
    keys.extend(set);
    keys
}
