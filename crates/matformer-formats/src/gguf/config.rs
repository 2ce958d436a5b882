//! The metadata of a model as the keys of Hugging Face's `config.json`.

use std::path::Path;

use matformer_nn::Result;
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
    pub(super) d_ff: usize,
    pub(super) n_layers: usize,
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
    if n_layers > container.tensors.len() {
        let expected = format!("at most {}, the tensors of the file", container.tensors.len());
        return Err(keys.missing("block_count", &expected));
    }
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

    /// What Hugging Face's folders call a tensor, or what is wrong with it and what was expected.
    pub(super) fn name_of(&self, stored: &Stored) -> Result<String, (String, String)> {
        let Some(name) = names::hugging_face(&stored.name) else {
            let expected = format!("the tensors of `{}`", self.arch.name());
            return Err(("a tensor that is not covered".to_owned(), expected));
        };
        if stored.shape.len() == 1 && !matches!(stored.ggml, GgmlType::Plain(_)) {
            let found = format!("a vector of type {}", stored.ggml.name());
            return Err((found, "f32, f16, bf16".to_owned()));
        }
        // Their rows are put in another order, head by head.
        if let Some(heads) = names::permuted_heads(self.arch, &name, self.heads)
            && stored.shape[0] != heads * self.heads.dim
        {
            let expected = format!("{heads} heads of {} rows", self.heads.dim);
            return Err((format!("shape {:?}", stored.shape), expected));
        }
        Ok(name)
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
