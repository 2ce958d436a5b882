//! A submodel: one FFN width per layer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One FFN width per layer.
///
/// Its text form is runs of `width×layers` joined by `+`: `64x1+128x4`. Equal submodels have equal
/// text forms. In files it is the list of widths. [`Space::check`](crate::Space::check) says whether
/// a model can run it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Submodel {
    widths: Vec<usize>,
}

impl Submodel {
    /// One width per layer, from the first layer to the last.
    pub fn new(widths: Vec<usize>) -> Self {
        Self { widths }
    }

    /// The same width in all layers.
    pub fn uniform(width: usize, n_layers: usize) -> Self {
        Self::new(vec![width; n_layers])
    }

    /// One width per layer, from the first layer to the last.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The number of layers.
    pub fn n_layers(&self) -> usize {
        self.widths.len()
    }

    /// The width of all layers, if it is the same.
    pub fn uniform_width(&self) -> Option<usize> {
        let (&first, rest) = self.widths.split_first()?;
        rest.iter().all(|&width| width == first).then_some(first)
    }

    /// The largest width of a layer, 0 if there are no layers.
    pub fn max_width(&self) -> usize {
        self.widths.iter().copied().max().unwrap_or(0)
    }

    /// The same layers, none wider than `width`.
    pub fn capped(&self, width: usize) -> Self {
        Self::new(self.widths.iter().map(|own| width.min(*own)).collect())
    }

    /// All layers as wide as the widest.
    pub fn padded(&self) -> Self {
        Self::uniform(self.max_width(), self.n_layers())
    }

    /// `(width, number of layers)` of each maximal run of equal widths.
    pub fn runs(&self) -> Vec<(usize, usize)> {
        let equal = self.widths.chunk_by(|a, b| a == b);
        equal.map(|run| (run[0], run.len())).collect() // a chunk is never empty
    }
}

impl fmt::Display for Submodel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_runs(f, &self.runs())
    }
}

/// Writes runs as `64x1+128x4`, the text form of submodels and of [`SubmodelSpec`](crate::SubmodelSpec).
pub(crate) fn write_runs(f: &mut fmt::Formatter<'_>, runs: &[(usize, usize)]) -> fmt::Result {
    for (i, (width, layers)) in runs.iter().enumerate() {
        let plus = if i == 0 { "" } else { "+" };
        write!(f, "{plus}{width}x{layers}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_runs_of_equal_widths() {
        assert_eq!(Submodel::new(vec![64, 128, 128, 128, 128]).to_string(), "64x1+128x4");
        assert_eq!(Submodel::new(vec![2, 1, 2]).to_string(), "2x1+1x1+2x1");
        assert_eq!(Submodel::uniform(8, 3).to_string(), "8x3");
    }

    #[test]
    fn layers_and_widths_are_counted() {
        let mixed = Submodel::new(vec![4, 2, 2]);
        assert_eq!((mixed.n_layers(), mixed.max_width()), (3, 4));
        assert_eq!(mixed.uniform_width(), None);
        assert_eq!(Submodel::uniform(8, 3).uniform_width(), Some(8));
        assert_eq!(Submodel::new(vec![]).uniform_width(), None);
    }

    #[test]
    fn files_contain_the_list_of_widths() {
        let mixed = Submodel::new(vec![4, 2, 2]);
        assert_eq!(serde_json::to_string(&mixed).unwrap(), "[4,2,2]");
        assert_eq!(serde_json::from_str::<Submodel>("[4,2,2]").unwrap(), mixed);
    }
}
