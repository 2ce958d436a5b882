//! A score predicted from the widths of the layers.

use matformer_core::Submodel;
use nalgebra::{DMatrix, DVector};

use crate::{Error, Problem, Result};

/// A sum of one number per layer and width, fitted to scores: ridge regression on the one-hot code of the
/// widths. It is separable, so that [`optimum`](crate::optimum) finds its best submodel.
#[derive(Debug, Clone, PartialEq)]
pub struct Surrogate {
    widths: Vec<usize>,
    mean: f64,
    /// `[layer][width]`
    weights: Vec<Vec<f64>>,
}

impl Surrogate {
    /// Fits to scores. `ridge` is the weight of the squares of the fitted numbers, in samples: 0.1 binds
    /// them about as much as a tenth of a sample would.
    ///
    /// # Errors
    /// [`Error::TooFew`] below two scores; [`Error::NotFinite`] for numbers so large that their sums are
    /// none.
    pub fn fit(problem: &Problem, scores: &[(Submodel, f64)], ridge: f64) -> Result<Self> {
        if scores.len() < 2 {
            return Err(Error::TooFew { found: scores.len(), expected: 2 });
        }
        let (widths, n_layers) = (problem.widths().to_vec(), problem.n_layers());
        let columns = n_layers * widths.len();
        let mean = scores.iter().map(|(_, score)| score).sum::<f64>() / scores.len() as f64;
        let mut code = DMatrix::<f64>::zeros(scores.len(), columns);
        let mut above = DVector::<f64>::zeros(scores.len());
        for (row, (submodel, score)) in scores.iter().enumerate() {
            above[row] = score - mean;
            for (layer, width) in submodel.widths().iter().enumerate() {
                if let Some(at) = widths.iter().position(|w| w == width) {
                    code[(row, layer * widths.len() + at)] = 1.0;
                }
            }
        }
        let squares = code.tr_mul(&code) + DMatrix::identity(columns, columns) * ridge.max(1e-9);
        let solved = squares.cholesky().map(|c| c.solve(&code.tr_mul(&above)));
        let fitted = solved.filter(|weights| weights.iter().all(|w| w.is_finite()));
        let Some(fitted) = fitted else {
            return Err(Error::NotFinite { submodel: "the surrogate".to_owned(), found: f64::NAN });
        };
        let weights = fitted.as_slice().chunks(widths.len()).map(<[f64]>::to_vec).collect();
        Ok(Self { widths, mean, weights })
    }

    /// The predicted score; of widths that it does not know those nearest below count.
    pub fn predict(&self, submodel: &Submodel) -> f64 {
        let of = |(layer, width): (&Vec<f64>, &usize)| {
            let at = self.widths.partition_point(|w| w <= width).saturating_sub(1);
            layer.get(at).copied().unwrap_or_default()
        };
        self.mean + self.weights.iter().zip(submodel.widths()).map(of).sum::<f64>()
    }

    /// What each layer adds at each width: `[layer][width]`.
    pub fn weights(&self) -> &[Vec<f64>] {
        &self.weights
    }
}
