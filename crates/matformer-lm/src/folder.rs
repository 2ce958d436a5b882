//! A MatLM's folder: Hugging Face's `config.json` and tensor names.

use std::path::Path;

use burn::tensor::Device;
use matformer_core::{Granularities, Manifest};
use matformer_nn::{Activation, ConfigFile, Configured, Folder, Result};
use serde_json::{Map, Value, json};

use crate::{MatLm, MatLmConfig};

/// Token that begins every document and ends it; id 0 of the tokenizers that we train.
const EOS: u32 = 0;

impl Folder for MatLm {
    const KIND: &'static str = "matlm";

    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> Result<Self> {
        matformer_nn::build(dir, manifest, device)
    }

    fn config_files(&self) -> Vec<(String, String)> {
        let c = self.config();
        let config = to_hugging_face(c);
        let generation = json!({
            "bos_token_id": EOS,
            "eos_token_id": EOS,
            "pad_token_id": EOS,
            "max_length": c.context,
        });
        [("config.json", Value::Object(config)), ("generation_config.json", generation)]
            .map(|(name, value)| (name.to_owned(), format!("{value:#}\n")))
            .to_vec()
    }

    fn tensor_name(path: &str) -> String {
        match path {
            "embed" => return "model.embed_tokens.weight".to_owned(),
            "head" => return "lm_head.weight".to_owned(),
            "norm.gamma" => return "model.norm.weight".to_owned(),
            _ => {}
        }
        // layers.N.part
        let mut parts = path.splitn(3, '.');
        let (_, layer, part) =
            (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
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
}

/// What Hugging Face calls GELU in its tanh form.
const GELU_TANH: &str = "gelu_pytorch_tanh";

/// `config.json` of a model: a plain `llama` one for SwiGLU and GeGLU, so that transformers loads
/// it without code of ours; `matlm` for the paper's two-matrix form.
fn to_hugging_face(c: &MatLmConfig) -> Map<String, Value> {
    let llama = ("LlamaForCausalLM", "llama");
    let ((architecture, model_type), act) = match c.activation {
        Activation::SwiGlu => (llama, "silu"),
        Activation::GeGlu => (llama, GELU_TANH),
        Activation::Gelu => (("MatLmForCausalLM", "matlm"), "gelu"),
    };
    let config = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": act,
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
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
        "dtype": "float32",
        "torch_dtype": "float32",
    });
    match config {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Configured for MatLm {
    type Config = MatLmConfig;

    fn config(&self) -> &MatLmConfig {
        Self::config(self)
    }

    fn unset(config: &MatLmConfig, device: &Device) -> Result<Self> {
        Self::zeros(config, device)
    }

    fn with_granularities(self, granularities: Granularities) -> Self {
        Self::with_granularities(self, granularities)
    }

    fn read_config(file: &ConfigFile, manifest: &Manifest) -> Result<MatLmConfig> {
        let (activation, act) = match file.text("model_type") {
            Some("llama") if file.text("hidden_act") == Some(GELU_TANH) => {
                (Activation::GeGlu, GELU_TANH)
            }
            Some("llama") => (Activation::SwiGlu, "silu"),
            Some("matlm") => (Activation::Gelu, "gelu"),
            _ => return Err(file.wrong("model_type", "`llama` or `matlm`")),
        };
        for key in ["attention_bias", "mlp_bias"] {
            file.check(key, false, ": a MatLM has no biases")?;
        }
        file.check("hidden_act", act, "")?;
        for key in ["rope_parameters", "rope_scaling"] {
            let rope = file.get(key);
            let kind = rope.and_then(|r| r.get("rope_type").or_else(|| r.get("type")));
            if kind.and_then(Value::as_str).is_some_and(|kind| kind != "default") {
                return Err(file.wrong(key, "rope type `default`"));
            }
        }
        let rope = file.get("rope_parameters").and_then(|r| r.get("rope_theta")?.as_f64());
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
            granularities: Some(manifest.granularities.widths()),
            width_multiple: manifest.multiple,
            context: file.number("max_position_embeddings")?,
            tied_embeddings: file.get("tie_word_embeddings") == Some(&Value::Bool(true)),
            activation,
            rope_theta: rope.or_else(|| file.float("rope_theta")).unwrap_or(10_000.0),
            norm_eps: file.float("rms_norm_eps").unwrap_or(1e-6),
            layer_d_ff: None,
        })
    }

    fn config_key(field: &str) -> &str {
        match field {
            "d_model" => "hidden_size",
            "n_layers" => "num_hidden_layers",
            "n_heads" => "num_attention_heads",
            "n_kv_heads" => "num_key_value_heads",
            "d_ff" => "intermediate_size",
            "context" => "max_position_embeddings",
            "norm_eps" => "rms_norm_eps",
            same => same,
        }
    }
}
