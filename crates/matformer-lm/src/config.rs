//! Shape of a MatLM.

use matformer_nn::{
    Activation, ModelConfig, Result,
    config::{self, MAX_SIZE, Nested, unfit},
};
use serde::{Deserialize, Serialize};

use crate::SpecialTokens;

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
    /// What every width other than a granularity must be a multiple of.
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
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
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
            norm_eps: 1e-5,
            layer_d_ff: None,
            special_tokens: SpecialTokens::default(),
        }
    }
}

impl MatLmConfig {
    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.d_model / self.n_heads.max(1))
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
        // Below 1, each pair turns faster than the one before, which soon overflows.
        if !(1.0..=1e30).contains(&self.rope_theta) {
            return unfit("rope_theta", self.rope_theta, "from 1 to 1e30");
        }
        self.nested().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
