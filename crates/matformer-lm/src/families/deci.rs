//! Llama with layers of unequal widths, under the name that transformers (with the two Python files
//! beside), vLLM, llama.cpp's converter and mlx-lm know it by: `nemotron-nas`, `DeciLMForCausalLM`.
//!
//! It has what llama.cpp's architecture `deci` and vLLM's `nemotron_nas` compute: SwiGLU, RMSNorm,
//! a rotary embedding with default, linear or llama3 frequencies in all layers, and biases on all
//! four projections of attention or on those to queries, keys and values (`qkv_bias`). llama.cpp's
//! converter and mlx-lm take widths that are multiples of 256, and the converter heads of
//! `hidden_size / num_attention_heads`; the others take any.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use super::{
    Family, holds,
    keys::{self, Defaults},
    options,
};
use crate::{MatLmConfig, RopeScaling};

pub(super) const FAMILY: Family = Family {
    model_type: "nemotron-nas",
    has,
    read,
    write,
    tensor_name: keys::tensor_name,
    files: &[
        ("configuration_decilm.py", include_str!("deci/configuration_decilm.py")),
        ("modeling_decilm.py", include_str!("deci/modeling_decilm.py")),
    ],
};

const WIDTHS: &str = "layer_d_ff";
const ADMITS: [&str; 3] = ["rope_scaling", "attention_bias", "qkv_bias"];

fn has(c: &MatLmConfig) -> bool {
    keys::divides(c) && holds(c, &[WIDTHS], &ADMITS)
}

/// The options of a model that this family does not have.
pub(super) fn obstacles(c: &MatLmConfig) -> Vec<&'static str> {
    let mut options = options(c);
    options.retain(|name| *name != WIDTHS && !ADMITS.contains(name));
    if !keys::divides(c) {
        options.push("head_dim");
    }
    options
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    keys::check_absent(file, "sliding_window", "each position attends to all before it")?;
    let c = keys::read_attention_bias(file, keys::read(file, &Defaults::LLAMA)?)?;
    let qkv_bias = if file.get("qkv_bias").is_some() { file.flag("qkv_bias")? } else { c.qkv_bias };
    let widths = read_widths(file, &c)?;
    let unequal = widths.iter().any(|width| *width != c.d_ff);
    Ok(MatLmConfig { qkv_bias, layer_d_ff: unequal.then_some(widths), ..c })
}

/// The width of each layer.
fn read_widths(file: &ConfigFile, c: &MatLmConfig) -> Result<Vec<usize>> {
    const KEY: &str = "block_configs";
    let blocks = file.get(KEY).and_then(Value::as_array).filter(|list| list.len() == c.n_layers);
    let Some(blocks) = blocks else {
        return Err(file.wrong(KEY, &format!("a list of {} objects", c.n_layers)));
    };
    let width = |(layer, block): (usize, &Value)| {
        read_width(block, c)
            .map_err(|expected| file.wrong_value(&format!("{KEY}[{layer}]"), block, &expected))
    };
    blocks.iter().enumerate().map(width).collect()
}

/// The width of a block, or what is expected of it.
fn read_width(block: &Value, c: &MatLmConfig) -> std::result::Result<usize, String> {
    let (attention, ffn) = (&block["attention"], &block["ffn"]);
    let off = |part: &Value, key: &str| part[key].is_null() || part[key] == json!(false);
    for key in ["no_op", "replace_with_linear"] {
        if !off(attention, key) || !off(ffn, key) {
            return Err(format!("`{key}` `false`: each layer has both halves"));
        }
    }
    let group = c.n_heads / c.n_kv_heads.max(1);
    if !attention["n_heads_in_group"].is_null() && attention["n_heads_in_group"] != json!(group) {
        return Err(format!("`n_heads_in_group` {group}, as in all layers"));
    }
    if !ffn["hidden_act"].is_null() && ffn["hidden_act"] != keys::hidden_act(c.activation) {
        return Err("`hidden_act` as in all layers".to_owned());
    }
    let width = match (ffn["intermediate_size"].as_u64(), ffn["ffn_mult"].as_f64()) {
        (Some(width), _) => width as usize,
        (None, Some(mult)) => rounded_width(mult, c.d_model),
        (None, None) => {
            return Err("a width of `ffn`: `intermediate_size` or `ffn_mult`".to_owned());
        }
    };
    if (1..=c.d_ff).contains(&width) {
        return Ok(width);
    }
    Err(format!("a width from 1 to {}, the `intermediate_size` of the model", c.d_ff))
}

/// The width that a multiplier means: two thirds of it times the hidden size, rounded up to a
/// multiple of 256.
fn rounded_width(mult: f64, d_model: usize) -> usize {
    let width = (2.0 * mult * d_model as f64 / 3.0) as usize; // saturates
    width.checked_next_multiple_of(256).unwrap_or(width)
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write(c, "DeciLMForCausalLM", "nemotron-nas");
    let nested = matformer_nn::ModelConfig::nested(c);
    let block = |layer| {
        let width = nested.d_ff_of(layer);
        json!({
            "attention": {
                "n_heads_in_group": c.n_heads / c.n_kv_heads,
                "no_op": false,
                "replace_with_linear": false,
            },
            "ffn": {
                "ffn_mult": 1.5 * width as f64 / c.d_model as f64,
                "intermediate_size": width,
                "no_op": false,
                "replace_with_linear": false,
            },
        })
    };
    let blocks: Vec<Value> = (0..c.n_layers).map(block).collect();
    keys.extend(keys::object(json!({
        "attention_bias": c.qkv_bias && c.o_bias,
        "mlp_bias": false,
        "block_configs": blocks,
        "auto_map": {
            "AutoConfig": "configuration_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
    })));
    // llama.cpp's converter looks for it here.
    if let Some(RopeScaling::Llama3 { original_context, .. }) = c.rope_scaling {
        keys.insert("original_max_position_embeddings".to_owned(), original_context.into());
    }
    if c.qkv_bias && !c.o_bias {
        keys.insert("qkv_bias".to_owned(), true.into());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::rounded_width;

    #[test]
    fn a_multiplier_is_rounded_up_to_a_multiple_of_256() {
        assert_eq!(rounded_width(1.5 * 768.0 / 576.0, 576), 768);
        assert_eq!(rounded_width(1.5 * 700.0 / 576.0, 576), 768);
        assert_eq!(rounded_width(5.25, 8192), 28_672); // Llama 3.1 Nemotron 51B
        assert_eq!((rounded_width(f64::MAX, 8192), rounded_width(-1.0, 8192)), (usize::MAX, 0));
    }
}
