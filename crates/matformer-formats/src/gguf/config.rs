//! The metadata of a model as the keys of Hugging Face's `config.json`.

use std::{collections::BTreeMap, path::Path};

use matformer_nn::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::{
    arch::Arch,
    container::{Container, Stored},
    ggml::GgmlType,
    keys::Keys,
    names::{self, Heads},
};

/// What a file says about its model.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) arch: Arch,
    pub(super) config: Map<String, Json>,
    pub(super) heads: Heads,
    pub(super) vocab_size: usize,
    pub(super) context: u64,
    /// The token of what is in no vocabulary.
    pub(super) unknown: Option<u64>,
    /// Tokens that end a turn or a message.
    pub(super) ends: Vec<u64>,
    d_model: usize,
    d_ff: usize,
    n_layers: usize,
    tied: bool,
    /// Whether queries, keys, values and outputs have biases, and the feed-forward block.
    biases: Biases,
}

#[derive(Clone, Copy, Debug)]
struct Biases {
    /// Queries, keys and values.
    qkv: bool,
    /// The output of the attention.
    output: bool,
    /// The feed-forward block.
    ffn: bool,
}

/// Reads the metadata.
///
/// # Errors
/// When a key is missing or has an unfit value, or changes numbers and is not covered.
pub(super) fn describe(container: &Container, file: &[u8], path: &Path) -> Result<Described> {
    let keys = Keys::new(container, file, path)?;
    keys.check_covered()?;
    let (d_model, context) = (keys.size("embedding_length")?, keys.size("context_length")? as u64);
    let n_layers = keys.size("block_count")?;
    let queries = keys.same_in_layers("attention.head_count", n_layers)?;
    let keys_heads = match keys.get("attention.head_count_kv") {
        Some(_) => keys.same_in_layers("attention.head_count_kv", n_layers)?,
        None => queries,
    };
    let heads = Heads { queries, keys: keys_heads, dim: keys.head_dim(d_model, queries)? };
    let d_ff = keys.same_in_layers("feed_forward_length", n_layers)?;
    keys.check_window(context)?;
    let vocab_size = match container.tensors.iter().find(|t| t.name == "token_embd.weight") {
        Some(Stored { shape, .. }) if shape.len() == 2 => shape[0],
        _ => return Err(keys.tensor_error("token_embd.weight", "no matrix of this name")),
    };
    if keys.get("vocab_size").is_some() && keys.size("vocab_size")? != vocab_size {
        let expected = format!("{vocab_size}, the rows of `token_embd.weight`");
        return Err(keys.missing("vocab_size", &expected));
    }
    let has = |name: &str| container.tensors.iter().any(|tensor| tensor.name == name);
    let biases = Biases {
        qkv: has("blk.0.attn_q.bias"),
        output: has("blk.0.attn_output.bias"),
        ffn: has("blk.0.ffn_up.bias"),
    };
    let mut described = Described {
        arch: keys.arch,
        config: Map::new(),
        heads,
        vocab_size,
        context,
        unknown: keys.token("unknown", vocab_size)?,
        ends: ["eot", "eom"]
            .into_iter()
            .filter_map(|name| keys.token(name, vocab_size).transpose())
            .collect::<Result<_>>()?,
        d_model,
        d_ff,
        n_layers,
        tied: !has("output.weight"),
        biases,
    };
    described.config = described.keys(&keys)?;
    Ok(described)
}

impl Described {
    /// The keys of `config.json`.
    fn keys(&self, keys: &Keys<'_>) -> Result<Map<String, Json>> {
        let theta = keys.float("rope.freq_base")?.unwrap_or(10_000.0);
        let Some(eps) = keys.float("attention.layer_norm_rms_epsilon")? else {
            return Err(keys.missing("attention.layer_norm_rms_epsilon", "a number"));
        };
        let mut config = object(json!({
            "architectures": [self.arch.class()],
            "model_type": self.arch.name(),
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.heads.queries,
            "num_key_value_heads": self.heads.keys,
            "head_dim": self.heads.dim,
            "max_position_embeddings": self.context,
            "rms_norm_eps": eps,
            "rope_theta": theta,
            "tie_word_embeddings": self.tied,
            "torch_dtype": keys.dtype().name(),
        }));
        match self.arch {
            Arch::Llama if self.biases.qkv != self.biases.output => {
                let found = "biases of queries and keys or of outputs, not of both";
                return Err(keys.tensor_error("blk.0.attn_output.bias", found));
            }
            Arch::Llama => {
                config.insert("attention_bias".to_owned(), self.biases.qkv.into());
                config.insert("mlp_bias".to_owned(), self.biases.ffn.into());
            }
            // Qwen2 has biases of queries, keys and values always, and no key for it.
            Arch::Qwen2 if !self.biases.qkv => {
                return Err(keys.tensor_error("blk.0.attn_q.bias", "nothing"));
            }
            Arch::Qwen3 => {
                config.insert("attention_bias".to_owned(), self.biases.qkv.into());
            }
            Arch::Qwen2 | Arch::SmolLm3 | Arch::Deci => {}
        }
        if let Some(scaling) = keys.rope_scaling(self.heads.dim, theta)? {
            config.insert("rope_scaling".to_owned(), scaling);
        }
        for (key, id) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
            let id = keys.token(id, self.vocab_size)?;
            // transformers takes Llama 1's where these are missing, and pads with nothing.
            if id.is_some() || key != "pad" {
                config.insert(format!("{key}_token_id"), json!(id));
            }
        }
        Ok(config)
    }

    /// What Hugging Face's folders call a tensor, which must have the shape that it has there.
    pub(super) fn checked_name(&self, stored: &Stored, path: &Path) -> Result<String> {
        let wrong = |found: String, expected: String| Error::Tensor {
            path: path.to_owned(),
            tensor: stored.name.clone(),
            found,
            expected,
        };
        let named = names::hugging_face(&stored.name);
        let known = named.and_then(|name| Some((self.shape(&name)?, name)));
        let Some((shape, name)) = known else {
            let found = "a tensor that is not covered".to_owned();
            let expected = format!("the tensors of `{}`", self.arch.name());
            return Err(wrong(found, format!("{expected} with {} layers", self.n_layers)));
        };
        if shape != stored.shape {
            return Err(wrong(format!("shape {:?}", stored.shape), format!("shape {shape:?}")));
        }
        if shape.len() == 1 && !matches!(stored.ggml, GgmlType::Plain(_)) {
            let found = format!("a vector of type {}", stored.ggml.name());
            return Err(wrong(found, "f32, f16, bf16".to_owned()));
        }
        Ok(name)
    }

    /// The shape of a tensor, if the model has one of this name.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match name {
            "model.embed_tokens.weight" => return Some(vec![self.vocab_size, self.d_model]),
            "lm_head.weight" if !self.tied => return Some(vec![self.vocab_size, self.d_model]),
            "model.norm.weight" => return Some(vec![self.d_model]),
            _ => {}
        }
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let parts = self.parts();
        let (_, shape) = parts.iter().find(|(known, _)| *known == part)?;
        let inside = layer.parse::<usize>().is_ok_and(|layer| layer < self.n_layers);
        inside.then(|| shape.clone())
    }

    /// Name and shape of each tensor of a layer.
    fn parts(&self) -> Vec<(&'static str, Vec<usize>)> {
        let Heads { queries, keys, dim } = self.heads;
        let (d_model, d_ff) = (self.d_model, self.d_ff);
        let (q, kv) = (queries * dim, keys * dim);
        let mut parts = vec![
            ("input_layernorm.weight", vec![d_model]),
            ("self_attn.q_proj.weight", vec![q, d_model]),
            ("self_attn.k_proj.weight", vec![kv, d_model]),
            ("self_attn.v_proj.weight", vec![kv, d_model]),
            ("self_attn.o_proj.weight", vec![d_model, q]),
            ("post_attention_layernorm.weight", vec![d_model]),
            ("mlp.gate_proj.weight", vec![d_ff, d_model]),
            ("mlp.up_proj.weight", vec![d_ff, d_model]),
            ("mlp.down_proj.weight", vec![d_model, d_ff]),
        ];
        if self.arch == Arch::Qwen3 {
            parts.push(("self_attn.q_norm.weight", vec![dim]));
            parts.push(("self_attn.k_norm.weight", vec![dim]));
        }
        if self.biases.qkv {
            parts.push(("self_attn.q_proj.bias", vec![q]));
            parts.push(("self_attn.k_proj.bias", vec![kv]));
            parts.push(("self_attn.v_proj.bias", vec![kv]));
        }
        if self.biases.output {
            parts.push(("self_attn.o_proj.bias", vec![d_model]));
        }
        if self.biases.ffn {
            parts.push(("mlp.gate_proj.bias", vec![d_ff]));
            parts.push(("mlp.up_proj.bias", vec![d_ff]));
            parts.push(("mlp.down_proj.bias", vec![d_model]));
        }
        parts
    }

    /// The first tensor that is not among `found`, and its shape.
    pub(super) fn missing<T>(&self, found: &BTreeMap<String, T>) -> Option<(String, String)> {
        let parts = self.parts();
        let layers = (0..self.n_layers).flat_map(|layer| {
            parts.iter().map(move |(part, _)| format!("model.layers.{layer}.{part}"))
        });
        let outside = ["model.embed_tokens.weight", "model.norm.weight"].map(str::to_owned);
        let mut all = outside.into_iter().chain(layers);
        let missing = all.find(|name| !found.contains_key(name))?;
        let shape = self.shape(&missing).unwrap_or_default();
        Some((names::gguf(&missing).unwrap_or(missing), format!("shape {shape:?}")))
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
