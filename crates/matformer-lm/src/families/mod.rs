//! Families of decoders: what each calls its tensors and the keys of its `config.json`, and what
//! those switch on. One file per family.

mod deci;
mod gemma3;
mod keys;
mod layers;
mod llama;
mod matlm;
mod mistral;
mod qwen2;
mod qwen3;
mod rope;
mod smollm3;

use matformer_nn::{Activation, ConfigFile, Error, Result};
use serde_json::{Map, Value};

use crate::MatLmConfig;

/// A family. A model belongs to the one that it was read from, or else to the first one in [`ALL`]
/// that has it.
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// Whether models of this configuration can be saved as this family.
    has: fn(&MatLmConfig) -> bool,
    /// Reads the configuration from a `config.json`. Fails on a key that changes the computation
    /// and is not supported, and names it.
    read: fn(&ConfigFile) -> Result<MatLmConfig>,
    /// The keys of `config.json` that describe the computation.
    pub(crate) write: fn(&MatLmConfig) -> Map<String, Value>,
    /// Name in the weights file of the parameter at a path.
    pub(crate) tensor_name: fn(&str) -> String,
    /// Names and contents of the files that its `config.json` needs beside it.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

/// All families, in order of preference. The last one can save every model.
const ALL: [&Family; 8] = [
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &smollm3::FAMILY,
    &gemma3::FAMILY,
    &deci::FAMILY,
    &matlm::FAMILY,
];

impl MatLmConfig {
    /// What `config.json` of a model of this configuration calls its family: `llama`, `qwen3`, …;
    /// `nemotron-nas` where layers of unequal widths are saved for other programs; `matlm` is ours,
    /// which no other program loads.
    pub fn family(&self) -> &'static str {
        Family::of(self).model_type
    }

    /// The option that prevents this model from being saved for other programs with unequal layer widths, as
    /// `nemotron-nas`: fields of this configuration, or `ge_glu` or `gelu`, its activation. Empty where it can be.
    pub fn unequal_obstacles(&self) -> Vec<&'static str> {
        deci::obstacles(self)
    }
}

impl Family {
    /// The family of a model.
    pub(crate) fn of(config: &MatLmConfig) -> &'static Self {
        let kept = ALL.into_iter().find(|family| Some(family.model_type) == config.model_type);
        kept.filter(|family| (family.has)(config)).unwrap_or_else(|| Self::first(config))
    }

    /// The first family that can save a model.
    fn first(config: &MatLmConfig) -> &'static Self {
        ALL.into_iter().find(|family| (family.has)(config)).unwrap_or(&matlm::FAMILY)
    }

    /// Reads the configuration of a `config.json`, whose `model_type` names the family.
    pub(crate) fn read_config(file: &ConfigFile) -> Result<MatLmConfig> {
        let found = file.text("model_type");
        let named = ALL.into_iter().find(|family| Some(family.model_type) == found);
        let Some(family) = named else { return Err(unknown(file)) };
        let config = (family.read)(file)?;
        // Kept only where it does not follow from the options.
        let other = Self::first(&config).model_type != family.model_type;
        let kept = other && family.model_type != matlm::FAMILY.model_type;
        Ok(MatLmConfig { model_type: kept.then_some(family.model_type), ..config })
    }
}

fn unknown(file: &ConfigFile) -> Error {
    let known = ALL.map(|family| format!("`{}`", family.model_type));
    file.wrong("model_type", &known.join(", "))
}

/// What a model has that a Llama 2 has not: fields of its configuration by name, and values of
/// `activation`. Biases of all four projections of attention are one option, `attention_bias`.
fn options(c: &MatLmConfig) -> Vec<&'static str> {
    let window = c.window.as_ref();
    let all = [
        ("ge_glu", c.activation == Activation::GeGlu),
        ("gelu", c.activation == Activation::Gelu),
        ("layer_d_ff", c.layer_d_ff.is_some()),
        ("rope_scaling", c.rope_scaling.is_some()),
        ("nope_layers", c.nope_layers.is_some()),
        ("window", window.is_some()),
        ("window.layers", window.is_some_and(|window| window.layers.is_some())),
        ("window.rope_theta", window.is_some_and(|window| window.rope_theta.is_some())),
        ("attention_bias", c.qkv_bias && c.o_bias),
        ("qkv_bias", c.qkv_bias && !c.o_bias),
        ("o_bias", c.o_bias && !c.qkv_bias),
        ("qk_norm", c.qk_norm),
        ("query_pre_attn_scalar", c.query_pre_attn_scalar.is_some()),
        ("post_norms", c.post_norms),
        ("norm_plus_one", c.norm_plus_one),
        ("scale_embeddings", c.scale_embeddings),
    ];
    all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// Whether a model has all options of `needs`, and no others but those of `admits`.
fn holds(c: &MatLmConfig, needs: &[&str], admits: &[&str]) -> bool {
    let options = options(c);
    needs.iter().all(|name| options.contains(name))
        && options.iter().all(|name| needs.contains(name) || admits.contains(name))
}
