//! Llama: RMSNorm, rotary position embedding, grouped-query attention and a gated feed-forward
//! block (SwiGLU, or GeGLU with `hidden_act` = `gelu_pytorch_tanh`), no biases. transformers and
//! other programs load it without any code of ours.

use matformer_nn::{Activation, ConfigFile, Result, params};
use serde_json::{Map, Value, json};

use super::Family;
use crate::MatLmConfig;

pub(super) const FAMILY: Family = Family { model_type: "llama", has, read, write, tensor_name };

fn has(c: &MatLmConfig) -> bool {
    c.activation.gate().is_some() && c.layer_d_ff.is_none()
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let activation = match file.text("hidden_act") {
        Some(GELU_TANH) => Activation::GeGlu,
        _ => {
            file.check("hidden_act", "silu", &format!(" or `{GELU_TANH}`"))?;
            Activation::SwiGlu
        }
    };
    shape(file, activation)
}

/// What `hidden_act` calls GELU in its tanh form, which gates as in Gemma.
const GELU_TANH: &str = "gelu_pytorch_tanh";

/// What `hidden_act` calls the activation of a block.
pub(super) fn hidden_act(activation: Activation) -> &'static str {
    match activation {
        Activation::SwiGlu => "silu",
        Activation::GeGlu => GELU_TANH,
        Activation::Gelu => "gelu",
    }
}

/// The keys that Llama shares with [`matlm`](super::matlm).
pub(super) fn shape(file: &ConfigFile, activation: Activation) -> Result<MatLmConfig> {
    check_covered(file)?;
    let rope = file.get("rope_parameters").and_then(|rope| rope.get("rope_theta")?.as_f64());
    Ok(MatLmConfig {
        vocab_size: file.number("vocab_size")?,
        d_model: file.number("hidden_size")?,
        n_layers: file.number("num_hidden_layers")?,
        n_heads: file.number("num_attention_heads")?,
        n_kv_heads: match file.optional("num_key_value_heads")? {
            Some(n) => n,
            None => file.number("num_attention_heads")?,
        },
        head_dim: file.optional("head_dim")?,
        d_ff: file.number("intermediate_size")?,
        context: file.number("max_position_embeddings")?,
        tied_embeddings: file.flag("tie_word_embeddings")?,
        activation,
        // Where a key is missing, transformers takes these values.
        rope_theta: rope.or(file.float("rope_theta")?).unwrap_or(10_000.0),
        norm_eps: file.float("rms_norm_eps")?.unwrap_or(1e-6),
        ..MatLmConfig::default()
    })
}

/// Refuses the keys that change what a model computes and that a MatLM does not have.
fn check_covered(file: &ConfigFile) -> Result<()> {
    for key in ["attention_bias", "mlp_bias"] {
        file.check(key, false, ": a MatLM has no biases")?;
    }
    // A key of MLX: rotates adjacent pairs (GPT-J style), not half-split (GPT-NeoX style).
    file.check("rope_traditional", false, "")?;
    for key in ["rope_parameters", "rope_scaling"] {
        if file.get(key).is_some_and(|rope| !is_default(rope)) {
            return Err(file.wrong(key, "rope type `default`"));
        }
    }
    if file.float("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(file.wrong("partial_rotary_factor", "1: a head is rotated as a whole"));
    }
    for (key, expected) in [
        ("sliding_window", "none: each position attends to all before it"),
        ("quantization_config", "none: weights are read as F32, BF16 or F16"),
    ] {
        if file.get(key).is_some() {
            return Err(file.wrong(key, expected));
        }
    }
    Ok(())
}

/// Whether a table of rotary parameters holds nothing but the base.
fn is_default(rope: &Value) -> bool {
    let plain = |(key, value): (&String, &Value)| match key.as_str() {
        "rope_theta" => value.is_number(),
        "rope_type" | "type" => value == "default",
        "partial_rotary_factor" => value.as_f64() == Some(1.0),
        _ => value.is_null(),
    };
    rope.as_object().is_some_and(|rope| rope.iter().all(plain))
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    keys(c, "LlamaForCausalLM", "llama")
}

/// The keys of a model under the names of its family.
pub(super) fn keys(c: &MatLmConfig, architecture: &str, model_type: &str) -> Map<String, Value> {
    let keys = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": hidden_act(c.activation),
        "vocab_size": c.vocab_size,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.head_dim(),
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta,
        "rope_parameters": { "rope_type": "default", "rope_theta": c.rope_theta },
        "tie_word_embeddings": c.tied_embeddings,
        "attention_bias": false,
        "mlp_bias": false,
    });
    match keys {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn tensor_name(path: &str) -> String {
    match path {
        "embed" => return "model.embed_tokens.weight".to_owned(),
        "head" => return "lm_head.weight".to_owned(),
        "norm.gamma" => return "model.norm.weight".to_owned(),
        _ => {}
    }
    let Some((layer, part)) = params::in_layer(path) else { return path.to_owned() };
    let name = match part {
        "attention_norm.gamma" => "input_layernorm",
        "ffn_norm.gamma" => "post_attention_layernorm",
        "attention.q.weight" => "self_attn.q_proj",
        "attention.k.weight" => "self_attn.k_proj",
        "attention.v.weight" => "self_attn.v_proj",
        "attention.o.weight" => "self_attn.o_proj",
        "ffn.up" => "mlp.up_proj",
        "ffn.gate" => "mlp.gate_proj",
        "ffn.down" => "mlp.down_proj",
        other => other,
    };
    format!("model.layers.{layer}.{name}.weight")
}
