//! The metadata of a model as the keys of Hugging Face's `config.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use matformer_core::Dtype;
use matformer_nn::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::{
    arch::Arch,
    container::{Container, Stored, Value},
    ggml::GgmlType,
    names::{self, Heads, ROPE_FREQS},
    rope,
};

/// What a file says about its model.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) arch: Arch,
    pub(super) config: Map<String, Json>,
    pub(super) heads: Heads,
    pub(super) vocab_size: usize,
    pub(super) context: u64,
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

/// Keys below the architecture that are read here.
const COVERED: [&str; 14] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
];

/// Keys that change no number, at any value.
const IDLE: [&str; 4] =
    ["vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "expert_used_count"];

/// Keys that change no number where they are zero or false, and what they would do.
const ZERO: [(&str, &str); 3] = [
    ("expert_count", "a mixture of experts"),
    ("nextn_predict_layers", "layers that predict further tokens"),
    ("attention.logit_softcapping", "bounded attention scores"),
];

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

/// The keys of the metadata below the architecture.
struct Keys<'a> {
    container: &'a Container,
    file: &'a [u8],
    path: &'a Path,
    arch: Arch,
}

impl<'a> Keys<'a> {
    fn new(container: &'a Container, file: &'a [u8], path: &'a Path) -> Result<Self> {
        let mut keys = Self { container, file, path, arch: Arch::Llama };
        if keys.tokenless("general.type").is_some_and(|kind| *kind != Value::Text("model".into())) {
            return Err(keys.wrong("general.type", "`model`: a whole model"));
        }
        if keys.tokenless("split.count").is_some_and(|n| *n != Value::Unsigned(1)) {
            let expected = "1: the file whole (`llama-gguf-split --merge` joins its parts)";
            return Err(keys.wrong("split.count", expected));
        }
        let key = "general.architecture";
        let arch = Arch::READ.into_iter().find(|arch| match container.metadata.get(key) {
            Some(Value::Text(name)) => name == arch.name(),
            _ => false,
        });
        let known = Arch::READ.map(|arch| format!("`{}`", arch.name()));
        keys.arch = arch.ok_or_else(|| keys.wrong(key, &known.join(" or ")))?;
        Ok(keys)
    }

    fn tokenless(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(key)
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.name())
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(&self.name(key))
    }

    /// What is wrong with a key, by its full name.
    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.container.metadata.get(key) {
            Some(value) => format!("`{key}` is {value}"),
            None => format!("no `{key}`"),
        };
        Error::File { path: self.path.to_owned(), found, expected: expected.to_owned() }
    }

    /// What is wrong with a key of the architecture.
    fn missing(&self, key: &str, expected: &str) -> Error {
        self.wrong(&self.name(key), expected)
    }

    fn tensor_error(&self, tensor: &str, found: &str) -> Error {
        Error::Tensor {
            path: self.path.to_owned(),
            tensor: tensor.to_owned(),
            found: found.to_owned(),
            expected: format!("as `{}` has it in Hugging Face's folders", self.arch.name()),
        }
    }

    /// Refuses keys that change numbers and are not covered: all that are not known.
    fn check_covered(&self) -> Result<()> {
        let prefix = self.name("");
        for (key, value) in &self.container.metadata {
            let Some(inside) = key.strip_prefix(&prefix) else { continue };
            if COVERED.contains(&inside) || IDLE.contains(&inside) {
                continue;
            }
            if let Some((_, what)) = ZERO.iter().find(|(known, _)| *known == inside) {
                match value {
                    Value::Unsigned(0) => continue,
                    Value::Float(0.0) => continue,
                    _ => return Err(self.wrong(key, &format!("0: {what} is not covered"))),
                }
            }
            // Says from where a context was extended; the rule itself is in `rope.scaling.type`.
            if inside == "rope.scaling.original_context_length" {
                continue;
            }
            let expected = "no such key: it may change what the model computes, and is not covered";
            return Err(self.wrong(key, expected));
        }
        Ok(())
    }

    /// A number from 1 to what fits in 32 bits.
    fn size(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(Value::Unsigned(n)) if (1..=u64::from(u32::MAX)).contains(n) => Ok(*n as usize),
            Some(Value::Signed(n)) if (1..=i64::from(u32::MAX)).contains(n) => Ok(*n as usize),
            _ => Err(self.missing(key, "an integer above 0, below 2³²")),
        }
    }

    /// A number, or an array with a number per layer, all the same.
    fn same_in_layers(&self, key: &str, n_layers: usize) -> Result<usize> {
        let Some(Value::Array(array)) = self.get(key) else { return self.size(key) };
        let expected = format!("{n_layers} equal integers above 0, one per layer");
        let list = array.integers(self.file).filter(|list| list.len() == n_layers);
        let list = list.ok_or_else(|| self.missing(key, &expected))?;
        match list.first().and_then(|first| usize::try_from(*first).ok()) {
            Some(first @ 1..) if list.iter().all(|value| *value == first as i64) => Ok(first),
            _ => {
                let found = format!("`{}` is {list:?}", self.name(key));
                Err(Error::File { path: self.path.to_owned(), found, expected })
            }
        }
    }

    fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() && *value > 0.0 => Ok(Some(*value)),
            Some(_) => Err(self.missing(key, "a float above 0")),
        }
    }

    /// The size of a head, which is the same for keys and values and rotated as a whole.
    fn head_dim(&self, d_model: usize, n_heads: usize) -> Result<usize> {
        let stated = self.get("attention.key_length").is_some();
        let dim = match stated {
            true => self.size("attention.key_length")?,
            false if d_model.is_multiple_of(n_heads) => d_model / n_heads,
            false => {
                let expected = format!("a divisor of the embedding length {d_model}");
                return Err(self.missing("attention.head_count", &expected));
            }
        };
        if !dim.is_multiple_of(2) {
            let expected = "heads of an even size";
            let key = if stated { "attention.key_length" } else { "attention.head_count" };
            return Err(self.missing(key, expected));
        }
        for key in ["attention.value_length", "rope.dimension_count"] {
            if self.get(key).is_some() && self.size(key)? != dim {
                return Err(self.missing(key, &format!("{dim}, the size of a head")));
            }
        }
        Ok(dim)
    }

    /// Refuses a window that is narrower than the context.
    fn check_window(&self, context: u64) -> Result<()> {
        let key = "attention.sliding_window";
        match self.get(key) {
            None => Ok(()),
            Some(Value::Unsigned(n)) if *n == 0 || *n >= context => Ok(()),
            Some(_) => Err(self.missing(key, "none: llama.cpp attends to all positions here")),
        }
    }

    /// What `rope_scaling` holds.
    fn rope_scaling(&self, head_dim: usize, theta: f64) -> Result<Option<Json>> {
        let factors = self.container.tensors.iter().find(|tensor| tensor.name == ROPE_FREQS);
        let factor = self.float("rope.scaling.factor")?;
        let linear = match self.get("rope.scaling.type") {
            None => factor.is_some(),
            Some(Value::Text(kind)) if kind == "none" => false,
            Some(Value::Text(kind)) if kind == "linear" => true,
            Some(_) => return Err(self.missing("rope.scaling.type", "`none` or `linear`")),
        };
        let factor = factor.filter(|factor| linear && *factor != 1.0);
        let Some(factors) = factors else {
            return Ok(factor.map(|factor| json!({ "rope_type": "linear", "factor": factor })));
        };
        if self.arch != Arch::Llama {
            return Err(self.tensor_error(ROPE_FREQS, "a tensor that is not covered"));
        }
        let floats = GgmlType::Plain(Dtype::F32);
        if factors.shape != [head_dim / 2] || factors.ggml != floats || factor.is_some() {
            let found = format!("{} of shape {:?}", factors.ggml.name(), factors.shape);
            let error = self.tensor_error(ROPE_FREQS, &found);
            return Err(error);
        }
        let values = self.file[factors.bytes.clone()].chunks_exact(4);
        let values: Vec<f32> =
            values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match rope::llama3_rule(&values, theta) {
            Some(rule) => Ok(rule.config()),
            None => Err(Error::Tensor {
                path: self.path.to_owned(),
                tensor: ROPE_FREQS.to_owned(),
                found:
                    "factors of no rule that is known; without them the positions of a long text \
                        would be turned by other angles"
                        .to_owned(),
                expected: "the factors of rope type `llama3`".to_owned(),
            }),
        }
    }

    /// The id of a special token.
    fn token(&self, name: &str, vocab_size: usize) -> Result<Option<u64>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.container.metadata.get(&key) {
            None => Ok(None),
            // llama.cpp's "no such token".
            Some(Value::Unsigned(n)) if *n == u64::from(u32::MAX) => Ok(None),
            Some(Value::Signed(-1)) => Ok(None),
            Some(Value::Unsigned(n)) if *n < vocab_size as u64 => Ok(Some(*n)),
            Some(_) => Err(self.wrong(&key, &format!("a token below {vocab_size}"))),
        }
    }

    /// The dtype of the matrices where all have the same plain one, else f32.
    fn dtype(&self) -> Dtype {
        let matrices = self.container.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
        let dtypes: BTreeSet<&str> = matrices.clone().map(|t| t.ggml.dtype().name()).collect();
        let mut first = matrices.map(|tensor| tensor.ggml.dtype());
        first.next().filter(|_| dtypes.len() == 1).unwrap_or_default()
    }
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}
