//! Shape of a MatLM.

use std::ops::Not;

use matformer_nn::{
    Activation, ModelConfig, Result,
    config::{self, MAX_SIZE, Nested, unfit},
};
use serde::{Deserialize, Serialize};

use crate::{
    SpecialTokens,
    options::{self, RopeScaling, Window},
};

/// Shape of a MatLM: the `[model.lm]` table of a run file.
///
/// The defaults are those of the `demo` preset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatLmConfig {
    /// Tokens of the vocabulary. In a run file it follows the tokenizer.
    pub vocab_size: usize,
    /// Size of the hidden state.
    pub d_model: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Size of a head; `d_model / n_heads` if absent. Even.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Widest feed-forward width.
    pub d_ff: usize,
    /// Widths that training sees, ascending; d_ff/8, /4, /2, /1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularities: Option<Vec<usize>>,
    /// Every width that is not a granularity must be a multiple of this.
    pub width_multiple: usize,
    /// Positions that a sequence may have.
    pub context: usize,
    /// Whether the output embedding is the input embedding.
    pub tied_embeddings: bool,
    /// Activation of the feed-forward block: `swi_glu` (Llama), `ge_glu` (Gemma) or `gelu` (two
    /// matrices, as in the paper).
    pub activation: Activation,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Scaling of the rotary embedding's frequencies; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Indices of the layers without a rotary embedding (NoPE), ascending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nope_layers: Option<Vec<usize>>,
    /// Sliding window of all or some layers; the others see all positions before their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Biases on the projections to queries, keys and values.
    #[serde(skip_serializing_if = "Not::not")]
    pub qkv_bias: bool,
    /// A bias on the output projection of attention.
    #[serde(skip_serializing_if = "Not::not")]
    pub o_bias: bool,
    /// RMS norm of each query and key head before the rotary embedding.
    #[serde(skip_serializing_if = "Not::not")]
    pub qk_norm: bool,
    /// Products of queries and keys are divided by the square root of it; `head_dim` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_pre_attn_scalar: Option<usize>,
    /// Norms also of the outputs of attention and feed-forward block, before the residual is added.
    #[serde(skip_serializing_if = "Not::not")]
    pub post_norms: bool,
    /// Norms multiply by 1 plus their weight (Gemma), not by the weight.
    #[serde(skip_serializing_if = "Not::not")]
    pub norm_plus_one: bool,
    /// Input embeddings are multiplied by √d_model (Gemma).
    #[serde(skip_serializing_if = "Not::not")]
    pub scale_embeddings: bool,
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
    /// The family that the model was read from, where that does not follow from its options: it is
    /// saved as this family again as long as that can hold it.
    #[serde(skip)]
    pub model_type: Option<&'static str>,
    /// Ids for other programs. In a run they follow the tokenizer, so a run file has none.
    #[serde(skip)]
    pub special_tokens: SpecialTokens,
}

impl Default for MatLmConfig {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            d_model: 128,
            n_layers: 5,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: None,
            d_ff: 512,
            granularities: None,
            width_multiple: 32,
            context: 256,
            tied_embeddings: true,
            activation: Activation::SwiGlu,
            rope_theta: 10_000.0,
            rope_scaling: None,
            nope_layers: None,
            window: None,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            query_pre_attn_scalar: None,
            post_norms: false,
            norm_plus_one: false,
            scale_embeddings: false,
            norm_eps: 1e-5,
            layer_d_ff: None,
            model_type: None,
            special_tokens: SpecialTokens::default(),
        }
    }
}

impl MatLmConfig {
    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.d_model / self.n_heads.max(1))
    }

    /// Factor on the products of queries and keys.
    pub fn attention_scale(&self) -> f64 {
        1.0 / (self.query_pre_attn_scalar.unwrap_or(self.head_dim()) as f64).sqrt()
    }

    /// The window of a layer, where it has one.
    pub fn window_of(&self, layer: usize) -> Option<&Window> {
        self.window.as_ref().filter(|window| window.is_in(layer))
    }

    /// Whether a layer has a rotary embedding.
    pub fn has_rope(&self, layer: usize) -> bool {
        self.nope_layers.as_ref().is_none_or(|layers| !layers.contains(&layer))
    }
}

impl MatLmConfig {
    /// Checks what [`validate`](ModelConfig::validate) checks after the sizes.
    fn check_options(&self) -> Result<()> {
        options::check_theta("rope_theta", self.rope_theta)?;
        if let Some(scaling) = &self.rope_scaling {
            scaling.check()?;
        }
        if let Some(layers) = &self.nope_layers {
            options::check_layers("nope_layers", layers, self.n_layers)?;
        }
        if let Some(window) = &self.window {
            window.check(self.n_layers)?;
        }
        match self.query_pre_attn_scalar {
            Some(scalar) => config::check_sizes(&[("query_pre_attn_scalar", scalar)]),
            None => Ok(()),
        }
    }
}

impl ModelConfig for MatLmConfig {
    const WEIGHT_KEYS: &'static [&'static str] = &[
        "vocab_size",
        "d_model",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "d_ff",
        "tied_embeddings",
        "activation",
        "qkv_bias",
        "o_bias",
        "qk_norm",
        "post_norms",
        "norm_plus_one",
        "layer_d_ff",
    ];

    fn nested(&self) -> Nested {
        Nested {
            n_layers: self.n_layers,
            d_ff: self.d_ff,
            width_multiple: self.width_multiple,
            granularities: self.granularities.clone(),
            layer_d_ff: self.layer_d_ff.clone(),
        }
    }

    fn with_nested(&self, nested: Nested) -> Self {
        let Nested { n_layers, d_ff, width_multiple, granularities, layer_d_ff } = nested;
        Self { n_layers, d_ff, width_multiple, granularities, layer_d_ff, ..self.clone() }
    }

    fn explicit(&self) -> Self {
        Self { head_dim: Some(self.head_dim()), ..self.clone() }
    }

    fn validate(&self) -> Result<()> {
        config::check_sizes(&[
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("d_ff", self.d_ff),
            ("width_multiple", self.width_multiple),
            ("context", self.context),
        ])?;
        if self.head_dim.is_none() && !self.d_model.is_multiple_of(self.n_heads) {
            let expected = format!("a divisor of `d_model` {}", self.d_model);
            return unfit("n_heads", self.n_heads, expected);
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let expected = format!("a divisor of `n_heads` {}", self.n_heads);
            return unfit("n_kv_heads", self.n_kv_heads, expected);
        }
        if self.head_dim() == 0 || self.head_dim() % 2 == 1 {
            let expected = "an even number: rotary embedding turns pairs".to_owned();
            return unfit("head_dim", self.head_dim(), expected);
        }
        if self.head_dim() > MAX_SIZE / self.n_heads {
            let expected = format!("at most {MAX_SIZE} in {} heads together", self.n_heads);
            return unfit("head_dim", self.head_dim(), expected);
        }
        config::check_norm_eps(self.norm_eps)?;
        self.nested().check()?;
        self.check_options()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3(low: f64, high: f64, original_context: usize) -> RopeScaling {
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context,
        }
    }

    fn window(size: usize, layers: &[usize]) -> Window {
        Window { size, layers: Some(layers.to_vec()), rope_theta: None }
    }

    #[test]
    fn options_are_quiet_until_they_are_set_and_read_back() {
        let written = |config: &MatLmConfig| serde_json::to_value(config).unwrap();
        let keys = written(&MatLmConfig::default()).as_object().unwrap().len();
        assert_eq!(keys, 12, "without options");
        let config = MatLmConfig {
            rope_scaling: Some(llama3(1.0, 4.0, 64)),
            nope_layers: Some(vec![3]),
            window: Some(window(8, &[0, 2])),
            qk_norm: true,
            ..MatLmConfig::default()
        };
        let value = written(&config);
        assert_eq!(serde_json::from_value::<MatLmConfig>(value.clone()).unwrap(), config);
        assert_eq!(value["rope_scaling"]["type"], "llama3");
        let typo = serde_json::json!({ "rope_scaling": { "type": "linear", "factors": 2.0 } });
        assert!(serde_json::from_value::<MatLmConfig>(typo).is_err());
    }

    #[test]
    fn absurd_sizes_are_refused_by_name() {
        let refused = |config: MatLmConfig| config.validate().unwrap_err().to_string();
        let base = MatLmConfig::default;
        assert_eq!(
            refused(MatLmConfig { d_model: 100_000_000, ..base() }),
            "`d_model` is 100000000; expected at most 16777216"
        );
        for huge in [MAX_SIZE + 1, usize::MAX] {
            for config in [
                MatLmConfig { vocab_size: huge, ..base() },
                MatLmConfig { d_ff: huge, ..base() },
                MatLmConfig { n_heads: huge, ..base() },
                MatLmConfig { context: huge, ..base() },
                MatLmConfig { n_layers: huge, ..base() },
                MatLmConfig { width_multiple: huge, ..base() },
            ] {
                assert!(refused(config).contains("; expected at most "));
            }
        }
        let layers = refused(MatLmConfig { n_layers: 10_001, ..base() });
        assert_eq!(layers, "`n_layers` is 10001; expected at most 10000");
        for (config, expected) in [
            (
                MatLmConfig { rope_scaling: Some(RopeScaling::Linear { factor: 0.5 }), ..base() },
                "`rope_scaling.factor` is 0.5; expected from 1 to 1e6",
            ),
            (
                MatLmConfig { rope_scaling: Some(llama3(4.0, 4.0, 64)), ..base() },
                "`rope_scaling.high_freq_factor` is 4; expected a number above `low_freq_factor` 4",
            ),
            (
                MatLmConfig { rope_scaling: Some(llama3(f64::NAN, 4.0, 64)), ..base() },
                "`rope_scaling.low_freq_factor` is NaN; expected a number above 0",
            ),
            (
                MatLmConfig { rope_scaling: Some(llama3(1.0, 4.0, usize::MAX)), ..base() },
                "`rope_scaling.original_context` is 18446744073709551615; expected from 1 to 16777216",
            ),
            (
                MatLmConfig { nope_layers: Some(vec![0, 5]), ..base() },
                "`nope_layers` is [0, 5]; expected indices of layers from 0 to 4, ascending",
            ),
            (
                MatLmConfig { window: Some(window(8, &[2, 1])), ..base() },
                "`window.layers` is [2, 1]; expected indices of layers from 0 to 4, ascending",
            ),
            (
                MatLmConfig { window: Some(window(8, &[])), ..base() },
                "`window.layers` is []; expected indices of layers from 0 to 4, ascending",
            ),
            (
                MatLmConfig { window: Some(window(0, &[1])), ..base() },
                "`window.size` is 0; expected from 1 to 16777216",
            ),
            (
                MatLmConfig { query_pre_attn_scalar: Some(0), ..base() },
                "`query_pre_attn_scalar` is 0; expected at least 1",
            ),
        ] {
            assert_eq!(refused(config), expected);
        }
        let heads = refused(MatLmConfig { head_dim: Some(1 << 23), ..base() });
        assert_eq!(heads, "`head_dim` is 8388608; expected at most 16777216 in 4 heads together");
    }

    #[test]
    fn weights_fit_where_only_granularities_context_and_constants_differ() {
        let base = MatLmConfig::default();
        let same = MatLmConfig {
            granularities: Some(vec![32, 512]),
            context: 1024,
            head_dim: Some(32),
            rope_theta: 5e5,
            width_multiple: 64,
            ..base.clone()
        };
        assert_eq!(base.other_weights(&same), None);
        let found = |config: MatLmConfig| base.other_weights(&config);
        let text = |key, a: &str, b: &str| Some((key, a.to_owned(), b.to_owned()));
        assert_eq!(found(MatLmConfig { d_ff: 1024, ..base.clone() }), text("d_ff", "512", "1024"));
        assert_eq!(
            found(MatLmConfig { activation: matformer_nn::Activation::Gelu, ..base.clone() }),
            text("activation", "\"swi_glu\"", "\"gelu\"")
        );
        assert_eq!(
            found(MatLmConfig { tied_embeddings: false, ..base.clone() }),
            text("tied_embeddings", "true", "false")
        );
    }
}
