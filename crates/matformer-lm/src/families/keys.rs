//! The keys of `config.json` and the names of tensors that families share: Llama's.

use matformer_nn::{Activation, ConfigFile, Result, config::MAX_LAYERS, params};
use serde_json::{Map, Value, json};

use super::rope;
use crate::MatLmConfig;

/// What a missing key means: the values of the family's configuration class in transformers. A
/// missing size is an error.
pub(super) struct Defaults {
    /// As many as query heads if `None`.
    pub(super) kv_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` if `None`.
    pub(super) head_dim: Option<usize>,
    /// `tie_word_embeddings`.
    pub(super) tied: bool,
    /// Base of the rotary embedding.
    pub(super) theta: f64,
}

impl Defaults {
    /// Those of Llama.
    pub(super) const LLAMA: Self =
        Self { kv_heads: None, head_dim: None, tied: false, theta: 10_000.0 };
}

/// Sizes, activation and rotary embedding. Refuses the keys that change what any of the families
/// computes and that a MatLM does not have.
pub(super) fn read(file: &ConfigFile, defaults: &Defaults) -> Result<MatLmConfig> {
    let rope = rope::read(file, defaults.theta)?;
    let activation = read_gated(file, "hidden_act")?;
    let c = read_sizes(file, defaults, activation)?;
    Ok(MatLmConfig { rope_theta: rope.theta, rope_scaling: rope.scaling, ..c })
}

/// As [`read`], without the rotary embedding and with this activation.
pub(super) fn read_sizes(
    file: &ConfigFile,
    defaults: &Defaults,
    activation: Activation,
) -> Result<MatLmConfig> {
    check_covered(file)?;
    let (vocab_size, d_model) = (file.number("vocab_size")?, file.number("hidden_size")?);
    let n_heads = file.number("num_attention_heads")?;
    let n_kv_heads = match file.raw("num_key_value_heads") {
        Some(Value::Null) => n_heads,
        Some(_) => file.number("num_key_value_heads")?,
        None => defaults.kv_heads.unwrap_or(n_heads),
    };
    let n_layers = file.number("num_hidden_layers")?;
    if n_layers > MAX_LAYERS {
        return Err(file.wrong("num_hidden_layers", &format!("at most {MAX_LAYERS}")));
    }
    let tied = file.get("tie_word_embeddings").is_some();
    Ok(MatLmConfig {
        vocab_size,
        d_model,
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: file.optional("head_dim")?.or(defaults.head_dim),
        d_ff: file.number("intermediate_size")?,
        context: file.number("max_position_embeddings")?,
        tied_embeddings: if tied { file.flag("tie_word_embeddings")? } else { defaults.tied },
        activation,
        norm_eps: file.float("rms_norm_eps")?.unwrap_or(1e-6),
        ..MatLmConfig::default()
    })
}

/// What `hidden_act` calls GELU in its tanh form, which gates as in Gemma.
pub(super) const GELU_TANH: &str = "gelu_pytorch_tanh";

/// What `hidden_act` calls the activation of a block.
pub(super) fn hidden_act(activation: Activation) -> &'static str {
    match activation {
        Activation::SwiGlu => "silu",
        Activation::GeGlu => GELU_TANH,
        Activation::Gelu => "gelu",
    }
}

/// The activation of a gated block, SwiGLU where the key is missing.
pub(super) fn read_gated(file: &ConfigFile, key: &str) -> Result<Activation> {
    if file.text(key) == Some(GELU_TANH) {
        return Ok(Activation::GeGlu);
    }
    if file.raw(key) == Some(&Value::Null) {
        return Err(file.wrong(key, &format!("`silu` or `{GELU_TANH}`")));
    }
    file.check(key, "silu", &format!(" or `{GELU_TANH}`"))?;
    Ok(Activation::SwiGlu)
}

/// Refuses the keys that change what a model computes and that a MatLM does not have.
fn check_covered(file: &ConfigFile) -> Result<()> {
    file.check("mlp_bias", false, ": the feed-forward block of a MatLM has no biases")?;
    // A key of MLX: rotates adjacent pairs (GPT-J style), not half-split (GPT-NeoX style).
    file.check("rope_traditional", false, "")?;
    file.check("is_causal", true, ": each position attends to those before it")?;
    file.check("use_bidirectional_attention", false, ": each position attends to those before it")?;
    if file.float("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(file.wrong("partial_rotary_factor", "1: a head is rotated as a whole"));
    }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        check_absent(file, key, "a MatLM has no soft-capping")?;
    }
    check_absent(file, "quantization_config", "weights are read as F32, BF16 or F16")
}

/// Whether the width of the model is a multiple of its heads, as transformers wants it of Llama and
/// Gemma 3, also where `head_dim` is given.
pub(super) fn divides(c: &MatLmConfig) -> bool {
    c.d_model.is_multiple_of(c.n_heads.max(1))
}

/// Refuses a key that holds anything but `null`.
pub(super) fn check_absent(file: &ConfigFile, key: &str, because: &str) -> Result<()> {
    match file.get(key) {
        Some(_) => Err(file.wrong(key, &format!("none: {because}"))),
        None => Ok(()),
    }
}

/// Biases of all four projections of attention, `attention_bias`.
pub(super) fn read_attention_bias(file: &ConfigFile, c: MatLmConfig) -> Result<MatLmConfig> {
    let bias = file.flag("attention_bias")?;
    Ok(MatLmConfig { qkv_bias: bias, o_bias: bias, ..c })
}

/// The keys of a model under the names of its family: sizes, activation and rotary embedding.
pub(super) fn write(c: &MatLmConfig, architecture: &str, model_type: &str) -> Map<String, Value> {
    let mut keys = write_sizes(c, architecture, model_type);
    keys.insert("hidden_act".to_owned(), hidden_act(c.activation).into());
    rope::write(c, &mut keys);
    keys
}

/// As [`write`], without activation and rotary embedding.
pub(super) fn write_sizes(
    c: &MatLmConfig,
    architecture: &str,
    model_type: &str,
) -> Map<String, Value> {
    object(json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": c.vocab_size,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.head_dim(),
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": c.tied_embeddings,
    }))
}

/// The keys of a JSON object.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Name in the weights file of the parameter at a path.
pub(super) fn tensor_name(path: &str) -> String {
    match path {
        "embed" => return "model.embed_tokens.weight".to_owned(),
        "head" => return "lm_head.weight".to_owned(),
        "norm.gamma" => return "model.norm.weight".to_owned(),
        _ => {}
    }
    let Some((layer, part)) = params::in_layer(path) else { return path.to_owned() };
    let name = match part {
        "attention_norm.gamma" => "input_layernorm.weight",
        "ffn_norm.gamma" => "post_attention_layernorm.weight",
        "attention.q.weight" => "self_attn.q_proj.weight",
        "attention.k.weight" => "self_attn.k_proj.weight",
        "attention.v.weight" => "self_attn.v_proj.weight",
        "attention.o.weight" => "self_attn.o_proj.weight",
        "attention.q.bias" => "self_attn.q_proj.bias",
        "attention.k.bias" => "self_attn.k_proj.bias",
        "attention.v.bias" => "self_attn.v_proj.bias",
        "attention.o.bias" => "self_attn.o_proj.bias",
        "attention.q_norm" => "self_attn.q_norm.weight",
        "attention.k_norm" => "self_attn.k_norm.weight",
        "ffn.up" => "mlp.up_proj.weight",
        "ffn.gate" => "mlp.gate_proj.weight",
        "ffn.down" => "mlp.down_proj.weight",
        other => other,
    };
    format!("model.layers.{layer}.{name}")
}
