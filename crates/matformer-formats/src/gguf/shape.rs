//! The shape of a model as llama.cpp has it: architecture, metadata and tensors.

use std::collections::HashSet;

use matformer_lm::{MatLmConfig, RopeScaling, Window};
use matformer_nn::{Activation, Error, ModelConfig, Result};

use super::{
    arch::Arch,
    names::Heads,
    output::Value,
    rope::Llama3,
    write::{GgufTensor, text},
};

/// The shape of a model that llama.cpp can run.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) arch: Arch,
    pub(super) heads: Heads,
    pub(super) vocab_size: usize,
    d_model: usize,
    /// Feed-forward width of each layer.
    widths: Vec<usize>,
    context: usize,
    tied: bool,
    qkv_bias: bool,
    o_bias: bool,
    rope: Rope,
    theta: f64,
    eps: f64,
}

/// What is done to the angles of the rotary embedding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Rope {
    /// Nothing.
    #[default]
    Plain,
    /// All are divided by this.
    Linear(f64),
    /// Those of slow pairs are.
    Llama3(Llama3),
}

/// What a model may have beside what every Llama has.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    qkv_bias: bool,
    o_bias: bool,
    qk_norm: bool,
    /// Layers without rotation.
    nope_layers: Option<Vec<usize>>,
    /// What llama.cpp has for no architecture that is written here.
    others: Vec<&'static str>,
    rope: Rope,
}

impl Options {
    fn of(config: &MatLmConfig) -> Self {
        let other_scale = config.query_pre_attn_scalar.is_some_and(|n| n != config.head_dim());
        let bounds = |window: &Window| window.size < config.context || window.rope_theta.is_some();
        let others = [
            ("query_pre_attn_scalar", other_scale),
            ("window", config.window.as_ref().is_some_and(bounds)),
            ("post_norms", config.post_norms),
            ("norm_plus_one", config.norm_plus_one),
            ("scale_embeddings", config.scale_embeddings),
        ];
        let others = others.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
        let rope = match config.rope_scaling {
            None => Rope::Plain,
            Some(RopeScaling::Linear { factor }) => Rope::Linear(factor),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context,
            }) => Rope::Llama3(Llama3 { factor, low, high, original: original_context as f64 }),
        };
        let MatLmConfig { qkv_bias, o_bias, qk_norm, .. } = *config;
        let nope_layers = config.nope_layers.clone();
        Self { qkv_bias, o_bias, qk_norm, nope_layers, others, rope }
    }

    /// The architecture that has these, for layers of equal widths or not.
    fn arch(&self, n_layers: usize, equal: bool) -> Result<Arch> {
        let llama3 = matches!(self.rope, Rope::Llama3(_));
        let refuse = |field: &str, expected: &str| {
            let expected = format!("{expected}; a folder of safetensors holds it");
            Err(unfit(field, "set".to_owned(), &expected))
        };
        if let Some(other) = self.others.first() {
            return refuse(
                other,
                "a model without it: llama.cpp has it in no architecture that is written",
            );
        }
        let every_fourth: Vec<usize> = (3..n_layers).step_by(4).collect();
        match &self.nope_layers {
            Some(layers) if *layers != every_fourth => {
                return refuse(
                    "nope_layers",
                    "every fourth layer, as llama.cpp has it for SmolLM3",
                );
            }
            Some(_) if self.qk_norm || self.o_bias || llama3 => {
                let expected = "a model without norms of queries and keys, bias of the output and \
                                `rope_scaling` llama3, as llama.cpp has it for SmolLM3";
                return refuse("nope_layers", expected);
            }
            Some(_) if !equal => {
                return refuse("nope_layers", "equal widths in all layers: pad the narrower ones");
            }
            Some(_) => return Ok(Arch::SmolLm3),
            None => {}
        }
        if self.qk_norm {
            return match (equal, llama3 || self.o_bias) {
                (true, false) => Ok(Arch::Qwen3),
                (false, _) => {
                    refuse("qk_norm", "equal widths in all layers: pad the narrower ones")
                }
                (true, true) => {
                    let expected = "a model without bias of the output and `rope_scaling` llama3, as \
                                    llama.cpp has it for Qwen3";
                    refuse("qk_norm", expected)
                }
            };
        }
        Ok(if !equal {
            Arch::Deci
        } else if self.qkv_bias && !self.o_bias && !llama3 {
            Arch::Qwen2
        } else {
            Arch::Llama
        })
    }
}

impl Shape {
    /// The shape of a model.
    ///
    /// # Errors
    /// When llama.cpp has no architecture for it; says which target holds it.
    pub(super) fn of(config: &MatLmConfig) -> Result<Self> {
        if config.activation != Activation::SwiGlu {
            let found = format!("{:?}", config.activation);
            let expected = "SwiGlu, the only one of these architectures in llama.cpp; a folder of \
                            safetensors holds it";
            return Err(unfit("activation", found, expected));
        }
        config.validate()?;
        let options = Options::of(config);
        let widths = match &config.layer_d_ff {
            Some(widths) => widths.clone(),
            None => vec![config.d_ff; config.n_layers],
        };
        let equal = widths.windows(2).all(|pair| pair[0] == pair[1]);
        Ok(Self {
            arch: options.arch(widths.len(), equal)?,
            heads: Heads {
                queries: config.n_heads,
                keys: config.n_kv_heads,
                dim: config.head_dim(),
            },
            vocab_size: config.vocab_size,
            d_model: config.d_model,
            widths,
            context: config.context,
            tied: config.tied_embeddings,
            qkv_bias: options.qkv_bias,
            o_bias: options.o_bias,
            rope: options.rope,
            theta: config.rope_theta,
            eps: config.norm_eps,
        })
    }

    /// The keys of the metadata, `general.architecture` first.
    pub(super) fn metadata(&self) -> Vec<(String, Value)> {
        let name = self.arch.name();
        let n_layers = self.widths.len();
        let size = |n: usize| Value::Unsigned(n as u32);
        let Heads { queries, keys, dim } = self.heads;
        let per_layer =
            |list: Vec<usize>| Value::Unsigneds(list.into_iter().map(|n| n as u32).collect());
        let in_layers = |n: usize| match self.arch {
            Arch::Deci => per_layer(vec![n; n_layers]),
            _ => size(n),
        };
        let widths = match self.arch {
            Arch::Deci => per_layer(self.widths.clone()),
            _ => size(self.widths[0]),
        };
        let mut metadata = vec![text("general.architecture", name)];
        let mut put = |key: &str, value| metadata.push((format!("{name}.{key}"), value));
        put("block_count", size(n_layers));
        put("context_length", size(self.context));
        put("embedding_length", size(self.d_model));
        put("feed_forward_length", widths);
        put("attention.head_count", in_layers(queries));
        put("attention.head_count_kv", in_layers(keys));
        put("attention.key_length", size(dim));
        put("attention.value_length", size(dim));
        put("attention.layer_norm_rms_epsilon", Value::Float(self.eps as f32));
        put("rope.dimension_count", size(dim));
        put("rope.freq_base", Value::Float(self.theta as f32));
        put("vocab_size", size(self.vocab_size));
        if let Rope::Linear(factor) = self.rope {
            put("rope.scaling.type", Value::Text("linear".to_owned()));
            put("rope.scaling.factor", Value::Float(factor as f32));
        }
        metadata
    }

    /// The factors of the rotary embedding, where a tensor has them.
    pub(super) fn rope_factors(&self) -> Option<Vec<f32>> {
        match self.rope {
            Rope::Llama3(rule) => Some(rule.factors(self.heads.dim / 2, self.theta)),
            Rope::Plain | Rope::Linear(_) => None,
        }
    }

    /// The shape of a tensor, if the model has one of this name.
    pub(super) fn tensor(&self, name: &str) -> Option<Vec<usize>> {
        match name {
            "model.embed_tokens.weight" => return Some(vec![self.vocab_size, self.d_model]),
            "lm_head.weight" if !self.tied => return Some(vec![self.vocab_size, self.d_model]),
            "model.norm.weight" => return Some(vec![self.d_model]),
            _ => {}
        }
        let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let width = *self.widths.get(layer.parse::<usize>().ok()?)?;
        let Heads { queries, keys, dim } = self.heads;
        let (q, kv, d_model) = (queries * dim, keys * dim, self.d_model);
        Some(match part {
            "input_layernorm.weight" | "post_attention_layernorm.weight" => vec![d_model],
            "self_attn.q_proj.weight" => vec![q, d_model],
            "self_attn.k_proj.weight" | "self_attn.v_proj.weight" => vec![kv, d_model],
            "self_attn.o_proj.weight" => vec![d_model, q],
            "self_attn.q_proj.bias" if self.qkv_bias => vec![q],
            "self_attn.k_proj.bias" | "self_attn.v_proj.bias" if self.qkv_bias => vec![kv],
            "self_attn.o_proj.bias" if self.o_bias => vec![d_model],
            "self_attn.q_norm.weight" | "self_attn.k_norm.weight" if self.arch == Arch::Qwen3 => {
                vec![dim]
            }
            "mlp.gate_proj.weight" | "mlp.up_proj.weight" => vec![width, d_model],
            "mlp.down_proj.weight" => vec![d_model, width],
            _ => return None,
        })
    }

    /// The name of a tensor that the model has and that is not among `tensors`, or is there twice.
    pub(super) fn not_once(&self, tensors: &[GgufTensor<'_>]) -> Option<String> {
        let mut left: HashSet<&str> = HashSet::new();
        if let Some(twice) = tensors.iter().find(|tensor| !left.insert(&tensor.hf_name)) {
            return Some(twice.hf_name.clone());
        }
        const PARTS: [&str; 15] = [
            "input_layernorm.weight",
            "self_attn.q_proj.weight",
            "self_attn.k_proj.weight",
            "self_attn.v_proj.weight",
            "self_attn.o_proj.weight",
            "self_attn.q_proj.bias",
            "self_attn.k_proj.bias",
            "self_attn.v_proj.bias",
            "self_attn.o_proj.bias",
            "self_attn.q_norm.weight",
            "self_attn.k_norm.weight",
            "post_attention_layernorm.weight",
            "mlp.gate_proj.weight",
            "mlp.up_proj.weight",
            "mlp.down_proj.weight",
        ];
        let outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"];
        let layers = (0..self.widths.len())
            .flat_map(|layer| PARTS.iter().map(move |part| format!("model.layers.{layer}.{part}")));
        let mut all = outside.into_iter().map(str::to_owned).chain(layers);
        all.find(|name| self.tensor(name).is_some() && !left.contains(name.as_str()))
    }
}

fn unfit(field: &str, found: String, expected: &str) -> Error {
    Error::Config { field: field.to_owned(), found, expected: expected.to_owned() }
}
