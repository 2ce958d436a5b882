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
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return wrong("norm_eps", self.norm_eps.to_string(), "above 0".to_owned());
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return wrong("rope_theta", self.rope_theta.to_string(), "above 0".to_owned());
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
