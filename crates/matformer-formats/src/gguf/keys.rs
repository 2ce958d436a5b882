//! The keys of the metadata that describe a model, each checked.

use std::{collections::BTreeSet, path::Path};

use matformer_core::Dtype;
use matformer_lm::RopeScaling;
use matformer_nn::{Error, Result, weights};
use serde_json::Value as Json;

use super::{
    arch::Arch,
    container::{Container, Value},
    ggml::GgmlType,
    names::ROPE_FREQS,
    rope,
};

/// Keys below the architecture that are read here.
const COVERED: [&str; 15] = [
    "vocab_size",
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
const IDLE: [&str; 3] = ["tensor_data_layout", "rope.scaling.finetuned", "expert_used_count"];

/// Keys that change no number where they are zero or false, and what they would do.
const ZERO: [(&str, &str); 3] = [
    ("expert_count", "a mixture of experts"),
    ("nextn_predict_layers", "layers that predict further tokens"),
    ("attention.logit_softcapping", "bounded attention scores"),
];

/// The keys of the metadata below the architecture.
pub(super) struct Keys<'a> {
    container: &'a Container,
    file: &'a [u8],
    path: &'a Path,
    pub(super) arch: Arch,
}

impl<'a> Keys<'a> {
    pub(super) fn new(container: &'a Container, file: &'a [u8], path: &'a Path) -> Result<Self> {
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

    pub(super) fn tokenless(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(key)
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.name())
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(&self.name(key))
    }

    /// What is wrong with a key, by its full name.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.container.metadata.get(key) {
            Some(value) => format!("`{key}` is {value}"),
            None => format!("no `{key}`"),
        };
        Error::File { path: self.path.to_owned(), found, expected: expected.to_owned() }
    }

    /// What is wrong with a key of the architecture.
    pub(super) fn missing(&self, key: &str, expected: &str) -> Error {
        self.wrong(&self.name(key), expected)
    }

    pub(super) fn tensor_error(&self, tensor: &str, found: &str) -> Error {
        Error::Tensor {
            path: self.path.to_owned(),
            tensor: tensor.to_owned(),
            found: found.to_owned(),
            expected: format!("as `{}` has it in Hugging Face's folders", self.arch.name()),
        }
    }

    /// Refuses keys that change numbers and are not covered: all that are not known.
    pub(super) fn check_covered(&self) -> Result<()> {
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
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(Value::Unsigned(n)) if (1..=u64::from(u32::MAX)).contains(n) => Ok(*n as usize),
            Some(Value::Signed(n)) if (1..=i64::from(u32::MAX)).contains(n) => Ok(*n as usize),
            _ => Err(self.missing(key, "an integer above 0, below 2³²")),
        }
    }

    /// A number, or an array with a number per layer, all the same.
    pub(super) fn same_in_layers(&self, key: &str, n_layers: usize) -> Result<usize> {
        let Some(Value::Array(array)) = self.get(key) else { return self.size(key) };
        let expected = format!("{n_layers} equal integers above 0, one per layer");
        let list = array.integers(self.file).filter(|list| list.len() == n_layers);
        let list = list.ok_or_else(|| self.missing(key, &expected))?;
        let first = list.first().and_then(|first| u32::try_from(*first).ok());
        match first.filter(|first| list.iter().all(|value| *value == i64::from(*first))) {
            Some(first @ 1..) => Ok(first as usize),
            _ => Err(self.missing(key, &format!("{expected}, below 2³²"))),
        }
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() && *value > 0.0 => Ok(Some(*value)),
            Some(_) => Err(self.missing(key, "a float above 0")),
        }
    }

    /// The size of a head, which is the same for keys and values and rotated as a whole.
    pub(super) fn head_dim(&self, d_model: usize, n_heads: usize) -> Result<usize> {
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
    pub(super) fn check_window(&self, context: u64) -> Result<()> {
        let key = "attention.sliding_window";
        match self.get(key) {
            None => Ok(()),
            Some(Value::Unsigned(n)) if *n == 0 || *n >= context => Ok(()),
            Some(_) => Err(self.missing(key, "none: llama.cpp attends to all positions here")),
        }
    }

    /// What `rope_scaling` holds.
    pub(super) fn rope_scaling(&self, head_dim: usize, theta: f64) -> Result<Option<Json>> {
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
            return Ok(factor.map(|factor| RopeScaling::Linear { factor }.table()));
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
        let values = weights::floats(Dtype::F32, &self.file[factors.bytes.clone()]);
        let stated = match self.tokenless(rope::RULE) {
            Some(Value::Text(text)) => serde_json::from_str::<RopeScaling>(text).ok(),
            _ => None,
        };
        let stated =
            stated.filter(|rule| rule.check().is_ok() && rope::gives(*rule, &values, theta));
        match stated.or_else(|| rope::llama3_rule(&values, theta)) {
            // A factor of 1 changes nothing.
            Some(RopeScaling::Llama3 { factor: 1.0, .. }) => Ok(None),
            Some(rule) => Ok(Some(rule.table())),
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

    /// The id of a special token. Where a file does not say it, or says that there is none, llama.cpp
    /// takes those of Llama 1 and 2 for a tokenizer of the kind of SentencePiece.
    pub(super) fn token(&self, name: &str, vocab_size: usize) -> Result<Option<u64>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let sentence_piece =
            self.tokenless("tokenizer.ggml.model") == Some(&Value::Text("llama".into()));
        let of_llama = ["unknown", "bos", "eos"].into_iter().position(|known| known == name);
        let unsaid = of_llama.filter(|id| sentence_piece && *id < vocab_size).map(|id| id as u64);
        match self.container.metadata.get(&key) {
            None | Some(Value::Signed(-1)) => Ok(unsaid),
            Some(Value::Unsigned(n)) if *n == u64::from(u32::MAX) => Ok(unsaid),
            Some(Value::Unsigned(n)) if *n < vocab_size as u64 => Ok(Some(*n)),
            Some(_) => Err(self.wrong(&key, &format!("a token below {vocab_size}"))),
        }
    }

    /// The dtype of the matrices if they all have the same unquantised type; otherwise f32.
    pub(super) fn dtype(&self) -> Dtype {
        let matrices = self.container.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
        let dtypes: BTreeSet<&str> = matrices.clone().map(|t| t.ggml.dtype().name()).collect();
        let mut first = matrices.map(|tensor| tensor.ggml.dtype());
        first.next().filter(|_| dtypes.len() == 1).unwrap_or_default()
    }
}
