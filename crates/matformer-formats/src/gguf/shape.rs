//! The shape of a model as llama.cpp has it: architecture and metadata.

use matformer_lm::{MatLmConfig, RopeScaling, Window};
use matformer_nn::{Activation, Error, ModelConfig, Result};

use super::{
    arch::Arch,
    names::Heads,
    output::{Value, entry},
    rope,
};

/// The shape of a model that llama.cpp can run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    pub(super) arch: Arch,
    pub(super) config: &'a MatLmConfig,
}

/// The architecture that [`write()`](super::write()) gives a model of this configuration.
///
/// # Errors
/// When llama.cpp has none for it; says which target holds it.
pub fn architecture(config: &MatLmConfig) -> Result<&'static str> {
    Ok(Shape::of(config)?.arch.name())
}

impl<'a> Shape<'a> {
    /// The shape of a model.
    ///
    /// # Errors
    /// When llama.cpp has no architecture for it; says which target holds it.
    pub(super) fn of(config: &'a MatLmConfig) -> Result<Self> {
        if config.activation != Activation::SwiGlu {
            let found = format!("{:?}", config.activation);
            let expected = "SwiGlu, the only one of these architectures in llama.cpp; a folder of \
                            safetensors holds it";
            return Err(unfit("activation", found, expected));
        }
        config.validate()?;
        Ok(Self { arch: arch(config)?, config })
    }

    /// Heads of its attention.
    pub(super) fn heads(&self) -> Heads {
        let MatLmConfig { n_heads, n_kv_heads, .. } = *self.config;
        Heads { queries: n_heads, keys: n_kv_heads, dim: self.config.head_dim() }
    }

    /// The keys of the metadata, `general.architecture` first.
    pub(super) fn metadata(&self) -> Vec<(String, Value)> {
        let Self { arch, config } = *self;
        let name = arch.name();
        let size = |n: usize| Value::Unsigned(n as u32);
        let Heads { queries, keys, dim } = self.heads();
        let per_layer =
            |list: Vec<usize>| Value::Unsigneds(list.into_iter().map(|n| n as u32).collect());
        let in_layers = |n: usize| match arch {
            Arch::Deci => per_layer(vec![n; config.n_layers]),
            _ => size(n),
        };
        let widths = match arch {
            Arch::Deci => per_layer(widths(config)),
            _ => size(widths(config)[0]),
        };
        let mut metadata = vec![entry("general.architecture", name)];
        let mut put = |key: &str, value| metadata.push((format!("{name}.{key}"), value));
        put("block_count", size(config.n_layers));
        put("context_length", size(config.context));
        put("embedding_length", size(config.d_model));
        put("feed_forward_length", widths);
        put("attention.head_count", in_layers(queries));
        put("attention.head_count_kv", in_layers(keys));
        put("attention.key_length", size(dim));
        put("attention.value_length", size(dim));
        put("attention.layer_norm_rms_epsilon", Value::Float(config.norm_eps as f32));
        put("rope.dimension_count", size(dim));
        put("rope.freq_base", Value::Float(config.rope_theta as f32));
        put("vocab_size", size(config.vocab_size));
        if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
            put("rope.scaling.type", Value::Text("linear".to_owned()));
            put("rope.scaling.factor", Value::Float(factor as f32));
        }
        // Not every rule can be told from its factors, which is all that llama.cpp has of it.
        if let Some(rule @ RopeScaling::Llama3 { .. }) = config.rope_scaling
            && let Ok(json) = serde_json::to_string(&rule)
        {
            metadata.push(entry(rope::RULE, &json));
        }
        metadata
    }

    /// The factors of the rotary embedding, where a tensor has them.
    pub(super) fn rope_factors(&self) -> Option<Vec<f32>> {
        let config = self.config;
        let scaling = config.rope_scaling.filter(|s| matches!(s, RopeScaling::Llama3 { .. }))?;
        Some(rope::factors(scaling, config.head_dim(), config.rope_theta))
    }
}

/// The feed-forward width of each layer.
fn widths(config: &MatLmConfig) -> Vec<usize> {
    config.layer_d_ff.clone().unwrap_or_else(|| vec![config.d_ff; config.n_layers])
}

/// The architecture of llama.cpp that computes what a model does.
fn arch(config: &MatLmConfig) -> Result<Arch> {
    let MatLmConfig { qkv_bias, o_bias, qk_norm, .. } = *config;
    let equal = widths(config).windows(2).all(|pair| pair[0] == pair[1]);
    let llama3 = matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. }));
    let refuse = |field: &str, expected: &str| {
        let expected = format!("{expected}; a folder of safetensors holds it");
        Err(unfit(field, "set".to_owned(), &expected))
    };
    if let Some(field) = not_in_llama_cpp(config) {
        return refuse(
            field,
            "a model without it: llama.cpp has it in no architecture that is written",
        );
    }
    if let Some(layers) = &config.nope_layers {
        let every_fourth = (3..config.n_layers).step_by(4);
        return if !every_fourth.eq(layers.iter().copied()) {
            refuse("nope_layers", "every fourth layer, as llama.cpp has it for SmolLM3")
        } else if qk_norm || o_bias || llama3 {
            let expected = "a model without norms of queries and keys, bias of the output and \
                            `rope_scaling` llama3, as llama.cpp has it for SmolLM3";
            refuse("nope_layers", expected)
        } else if !equal {
            refuse("nope_layers", "equal widths in all layers: pad the narrower ones")
        } else {
            Ok(Arch::SmolLm3)
        };
    }
    if qk_norm && !equal {
        return refuse("qk_norm", "equal widths in all layers: pad the narrower ones");
    }
    if qk_norm && (llama3 || o_bias) {
        let expected = "a model without bias of the output and `rope_scaling` llama3, as llama.cpp \
                        has it for Qwen3";
        return refuse("qk_norm", expected);
    }
    Ok(match equal {
        false => Arch::Deci,
        true if qk_norm => Arch::Qwen3,
        true if qkv_bias && !o_bias && !llama3 => Arch::Qwen2,
        true => Arch::Llama,
    })
}

/// The first field that changes what a model computes in a way that no architecture has which is
/// written.
fn not_in_llama_cpp(config: &MatLmConfig) -> Option<&'static str> {
    let other_scale = config.query_pre_attn_scalar.is_some_and(|n| n != config.head_dim());
    let bounds = |window: &Window| window.size < config.context || window.rope_theta.is_some();
    let fields = [
        ("query_pre_attn_scalar", other_scale),
        ("window", config.window.as_ref().is_some_and(bounds)),
        ("post_norms", config.post_norms),
        ("norm_plus_one", config.norm_plus_one),
        ("scale_embeddings", config.scale_embeddings),
    ];
    fields.into_iter().find(|(_, set)| *set).map(|(name, _)| name)
}

fn unfit(field: &str, found: String, expected: &str) -> Error {
    Error::Config { field: field.to_owned(), found, expected: expected.to_owned() }
}
