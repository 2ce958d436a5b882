//! What the configurations of all models have in common: nested widths, sizes and their limits.

use matformer_core::{Granularities, Space};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// The largest size of anything: products of two sizes stay far within 64 bits.
pub const MAX_SIZE: usize = 1 << 24;
/// The most layers.
pub const MAX_LAYERS: usize = 10_000;

/// Shape of a model. In a run file it is a table.
pub trait ModelConfig: Clone + Serialize + DeserializeOwned {
    /// The keys that decide which tensors a model has and what they mean. The others may differ
    /// between two models with the same weights.
    const WEIGHT_KEYS: &'static [&'static str];

    /// Checks everything that building relies on.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    fn validate(&self) -> Result<()> {
        self.nested().check()
    }

    /// Layers and widths.
    fn nested(&self) -> Nested;

    /// The same model with other widths.
    fn with_nested(&self, nested: Nested) -> Self;

    /// The configuration with every default written out, for comparisons.
    fn explicit(&self) -> Self {
        self.clone()
    }

    /// Layers, widths and granularities.
    ///
    /// # Errors
    /// When widths are not ascending, too wide or not multiples.
    fn space(&self) -> Result<Space> {
        self.nested().space()
    }

    /// The first of [`WEIGHT_KEYS`](Self::WEIGHT_KEYS) in which two configurations differ, with the
    /// values of this one and of the other.
    fn other_weights(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let values = |c: &Self| serde_json::to_value(c.explicit()).unwrap_or_default();
        let (ours, theirs) = (values(self), values(other));
        let text = |v: Option<&serde_json::Value>| v.map_or("absent".to_owned(), |v| v.to_string());
        let differs = |key: &&&str| ours.get(**key) != theirs.get(**key);
        let key = Self::WEIGHT_KEYS.iter().find(differs)?;
        Some((key, text(ours.get(*key)), text(theirs.get(*key))))
    }
}

/// Layers and feed-forward widths of a configuration, under the names of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nested {
    /// Layers.
    pub n_layers: usize,
    /// Widest feed-forward width.
    pub d_ff: usize,
    /// What every width other than a granularity must be a multiple of.
    pub width_multiple: usize,
    /// Widths that training sees, ascending; d_ff/8, /4, /2, /1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularities: Option<Vec<usize>>,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
}

impl Nested {
    /// Layers of equal widths, with the default granularities.
    pub fn new(n_layers: usize, d_ff: usize, width_multiple: usize) -> Self {
        Self { n_layers, d_ff, width_multiple, granularities: None, layer_d_ff: None }
    }

    /// Feed-forward width of a layer's matrices.
    pub fn d_ff_of(&self, layer: usize) -> usize {
        self.layer_d_ff.as_ref().and_then(|widths| widths.get(layer).copied()).unwrap_or(self.d_ff)
    }

    /// As [`ModelConfig::space`].
    ///
    /// # Errors
    /// When widths are not ascending, too wide or not multiples.
    pub fn space(&self) -> Result<Space> {
        let granularities = match &self.granularities {
            Some(widths) => Granularities::new(widths)?,
            None => Granularities::default_for(self.d_ff)?,
        };
        let space = Space::new(self.n_layers, self.d_ff, self.width_multiple, granularities)?;
        Ok(space.with_layers(self.layer_d_ff.clone()))
    }

    /// Checks layers and widths, after their sizes ([`check_sizes`]).
    ///
    /// # Errors
    /// [`Error::Config`]; as [`space`](Self::space).
    pub fn check(&self) -> Result<()> {
        if self.n_layers > MAX_LAYERS {
            return unfit("n_layers", self.n_layers, format!("at most {MAX_LAYERS}"));
        }
        if let Some(widths) = &self.layer_d_ff
            && (widths.len() != self.n_layers || widths.iter().any(|w| *w == 0 || *w > self.d_ff))
        {
            let expected = format!("{} widths from 1 to `d_ff` {}", self.n_layers, self.d_ff);
            return unfit("layer_d_ff", format!("{widths:?}"), expected);
        }
        self.space().map(|_| ())
    }
}

/// The error of a field that does not make a model.
///
/// # Errors
/// Always [`Error::Config`].
pub fn unfit<T>(field: &str, found: impl ToString, expected: impl Into<String>) -> Result<T> {
    let (field, found, expected) = (field.to_owned(), found.to_string(), expected.into());
    Err(Error::Config { field, found, expected })
}

/// Checks that each of the named sizes is from 1 to [`MAX_SIZE`].
///
/// # Errors
/// [`Error::Config`] names the first that is not.
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<()> {
    if let Some((field, _)) = sizes.iter().find(|(_, n)| *n == 0) {
        return unfit(field, 0, "at least 1");
    }
    if let Some((field, n)) = sizes.iter().find(|(_, n)| *n > MAX_SIZE) {
        return unfit(field, n, format!("at most {MAX_SIZE}"));
    }
    Ok(())
}

/// Checks a norm's epsilon.
///
/// # Errors
/// [`Error::Config`]: in single precision a smaller one is 0, and a larger one outweighs the hidden
/// state.
pub fn check_norm_eps(norm_eps: f64) -> Result<()> {
    if (1e-30..=1.0).contains(&norm_eps) {
        return Ok(());
    }
    unfit("norm_eps", norm_eps, "from 1e-30 to 1")
}
