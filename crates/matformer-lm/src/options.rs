//! Options of a decoder that are tables of their own: scaled rotary frequencies, sliding windows.

use matformer_nn::{
    Result,
    config::{MAX_SIZE, unfit},
    ops::RopeRule,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How the frequencies of the rotary embedding are scaled for a longer context. The names are those
/// of transformers' `rope_type`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// All frequencies are divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Low frequencies are divided by `factor`, high ones are kept, with a smooth transition
    /// (Llama 3.1).
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Frequencies that turn at most this often in the original context are low.
        low_freq_factor: f64,
        /// Frequencies that turn at least this often in the original context are high.
        high_freq_factor: f64,
        /// The context before it was extended, in positions.
        original_context: usize,
    },
}

impl RopeScaling {
    /// The table `rope_scaling` in the `config.json` of transformers.
    pub fn table(self) -> Value {
        match self {
            Self::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context,
            }),
        }
    }

    /// The rule of the frequencies with the base `theta`.
    pub fn rule(scaling: Option<Self>, theta: f64) -> RopeRule {
        match scaling {
            None => RopeRule::Default { theta },
            Some(Self::Linear { factor }) => RopeRule::Linear { theta, factor },
            Some(Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
                RopeRule::Llama3 {
                    theta,
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_context: original_context as f64,
                }
            }
        }
    }

    /// Checks its numbers.
    ///
    /// # Errors
    /// [`Error::Config`](matformer_nn::Error::Config) names the first that no model can have.
    pub fn check(&self) -> Result<()> {
        let (Self::Linear { factor } | Self::Llama3 { factor, .. }) = *self;
        if !(1.0..=1e6).contains(&factor) {
            return unfit("rope_scaling.factor", factor, "from 1 to 1e6");
        }
        let Self::Llama3 { low_freq_factor: low, high_freq_factor: high, original_context, .. } =
            *self
        else {
            return Ok(());
        };
        if !(low > 0.0 && low.is_finite()) {
            return unfit("rope_scaling.low_freq_factor", low, "a number above 0");
        }
        if !(high > low && high.is_finite()) {
            let expected = format!("a number above `low_freq_factor` {low}");
            return unfit("rope_scaling.high_freq_factor", high, expected);
        }
        if !(1..=MAX_SIZE).contains(&original_context) {
            let expected = format!("from 1 to {MAX_SIZE}");
            return unfit("rope_scaling.original_context", original_context, expected);
        }
        Ok(())
    }
}

/// A sliding window: a query sees its own position and the `size − 1` before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Keys that a query sees at most.
    pub size: usize,
    /// Indices of the layers with the window, ascending; all layers if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Base of the rotary embedding of these layers, which is then not scaled; as in the other
    /// layers if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
}

impl Window {
    /// Whether a layer has it.
    pub fn is_in(&self, layer: usize) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.contains(&layer))
    }

    pub(crate) fn check(&self, n_layers: usize) -> Result<()> {
        if !(1..=MAX_SIZE).contains(&self.size) {
            return unfit("window.size", self.size, format!("from 1 to {MAX_SIZE}"));
        }
        if let Some(layers) = &self.layers {
            check_layers("window.layers", layers, n_layers)?;
        }
        self.rope_theta.map_or(Ok(()), |theta| check_theta("window.rope_theta", theta))
    }
}

/// Checks a list of layers, which has at least one.
pub(crate) fn check_layers(field: &str, layers: &[usize], n_layers: usize) -> Result<()> {
    let fits = layers.last().is_some_and(|last| *last < n_layers)
        && layers.windows(2).all(|pair| pair[0] < pair[1]);
    if fits {
        return Ok(());
    }
    let expected = format!("indices of layers from 0 to {}, ascending", n_layers.saturating_sub(1));
    unfit(field, format!("{layers:?}"), expected)
}

/// Checks a base of the rotary embedding.
pub(crate) fn check_theta(field: &str, theta: f64) -> Result<()> {
    // Below 1, each pair turns faster than the one before, which soon overflows.
    if (1.0..=1e30).contains(&theta) { Ok(()) } else { unfit(field, theta, "from 1 to 1e30") }
}
