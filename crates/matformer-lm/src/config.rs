//! Shape of a MatLM.

use matformer_core::{Granularities, Space};
use matformer_nn::Activation;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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
    /// Gated (`swi_glu`, Llama's form) or plain (`gelu`, the paper's form).
    pub activation: Activation,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
}

/// The largest size of anything: products of two sizes stay far within 64 bits.
const MAX_SIZE: usize = 1 << 24;
/// The most layers.
const MAX_LAYERS: usize = 10_000;

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
        }
    }
}

impl MatLmConfig {
    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.d_model / self.n_heads.max(1))
    }

    /// Feed-forward width of a layer's matrices.
    pub fn d_ff_of(&self, layer: usize) -> usize {
        self.layer_d_ff.as_ref().and_then(|widths| widths.get(layer).copied()).unwrap_or(self.d_ff)
    }

    /// Layers, widths and granularities.
    ///
    /// # Errors
    /// When widths are not ascending, too wide or not multiples.
    pub fn space(&self) -> Result<Space> {
        let granularities = match &self.granularities {
            Some(widths) => Granularities::new(widths)?,
            None => Granularities::default_for(self.d_ff)?,
        };
        Ok(Space::new(self.n_layers, self.d_ff, self.width_multiple, granularities)?)
    }

    /// The first key in which two configurations differ so that the weights of one are none of the
    /// other, with what each holds. Granularities, context and constants may differ.
    pub fn other_weights(&self, other: &Self) -> Option<(&'static str, String, String)> {
        const KEYS: [&str; 10] = [
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
        let values = |c: &Self| {
            let whole = Self { head_dim: Some(c.head_dim()), ..c.clone() };
            serde_json::to_value(whole).unwrap_or_default()
        };
        let (ours, theirs) = (values(self), values(other));
        let text = |v: Option<&serde_json::Value>| v.map_or("absent".to_owned(), |v| v.to_string());
        KEYS.into_iter()
            .find(|key| ours.get(key) != theirs.get(key))
            .map(|key| (key, text(ours.get(key)), text(theirs.get(key))))
    }

    /// Checks everything that building relies on.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("d_ff", self.d_ff),
            ("width_multiple", self.width_multiple),
            ("context", self.context),
        ];
        let wrong =
            |field, found: String, expected: String| Err(Error::Config { field, found, expected });
        if let Some((field, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return wrong(field, "0".to_owned(), "at least 1".to_owned());
        }
        if let Some((field, n)) = positive.iter().find(|(_, n)| *n > MAX_SIZE) {
            return wrong(field, n.to_string(), format!("at most {MAX_SIZE}"));
        }
        if self.n_layers > MAX_LAYERS {
            return wrong("n_layers", self.n_layers.to_string(), format!("at most {MAX_LAYERS}"));
        }
        if self.head_dim.is_none() && !self.d_model.is_multiple_of(self.n_heads) {
            let expected = format!("a divisor of `d_model` {}", self.d_model);
            return wrong("n_heads", self.n_heads.to_string(), expected);
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let expected = format!("a divisor of `n_heads` {}", self.n_heads);
            return wrong("n_kv_heads", self.n_kv_heads.to_string(), expected);
        }
        if self.head_dim() == 0 || self.head_dim() % 2 == 1 {
            let expected = "an even number: rotary embedding turns pairs".to_owned();
            return wrong("head_dim", self.head_dim().to_string(), expected);
        }
        if self.head_dim() > MAX_SIZE / self.n_heads {
            let expected = format!("at most {MAX_SIZE} in {} heads together", self.n_heads);
            return wrong("head_dim", self.head_dim().to_string(), expected);
        }
        // In single precision: less is 0, more leaves nothing of the hidden state.
        if !(1e-30..=1.0).contains(&self.norm_eps) {
            return wrong("norm_eps", self.norm_eps.to_string(), "from 1e-30 to 1".to_owned());
        }
        // A base below 1 turns faster with each pair, soon by more than there are numbers for.
        if !(1.0..=1e30).contains(&self.rope_theta) {
            return wrong("rope_theta", self.rope_theta.to_string(), "from 1 to 1e30".to_owned());
        }
        if let Some(widths) = &self.layer_d_ff
            && (widths.len() != self.n_layers || widths.iter().any(|w| *w == 0 || *w > self.d_ff))
        {
            let expected = format!("{} widths from 1 to `d_ff` {}", self.n_layers, self.d_ff);
            return wrong("layer_d_ff", format!("{widths:?}"), expected);
        }
        self.space().map(|_| ())
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
