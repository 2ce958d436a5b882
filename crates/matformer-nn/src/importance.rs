//! Importance of feed-forward neurons: what it is measured by, and the order that follows from it.

use std::{collections::HashMap, fmt, str::FromStr};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Folder, Result,
    convert::permuted,
    params::{self, nested_axis, nested_layer},
};

/// Sums of feed-forward activations, filled by a forward pass whose [`State`](crate::State) has it.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    layers: Vec<Option<Sums>>,
}

/// Sums over the tokens of one layer, `[d_ff]` each.
#[derive(Clone, Debug)]
struct Sums {
    tokens: usize,
    absolute: Tensor<1>,
    squared: Tensor<1>,
}

impl Tap {
    /// A tap that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the activations of some tokens of a layer.
    ///
    /// # Shapes
    /// - activations: `[tokens, d_ff]`: what `down` is applied to
    pub fn add(&mut self, layer: usize, activations: Tensor<2>) {
        let [tokens, d_ff] = activations.dims();
        let sum = |x: Tensor<2>| x.sum_dim(0).reshape([d_ff]);
        let (absolute, squared) =
            (sum(activations.clone().abs()), sum(activations.clone() * activations));
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        let before = self.layers[layer].take();
        self.layers[layer] = Some(match before {
            None => Sums { tokens, absolute, squared },
            Some(sums) => Sums {
                tokens: sums.tokens + tokens,
                absolute: sums.absolute + absolute,
                squared: sums.squared + squared,
            },
        });
    }

    /// What it has seen, layer by layer.
    ///
    /// # Errors
    /// When a device cannot be read, or one of the `n_layers` layers added nothing: its model does
    /// not run its [`NestedFfn`](crate::NestedFfn) with [`forward_in`](crate::NestedFfn::forward_in).
    pub fn read(self, n_layers: usize) -> Result<Vec<Activations>> {
        let mut layers = self.layers;
        layers.resize(n_layers, None);
        let of = |(layer, sums): (usize, Option<Sums>)| {
            let path = format!("layers.{layer}.ffn");
            let sums = sums.ok_or_else(|| Error::read(&path, "it adds nothing to the tap"))?;
            let values = |x: Tensor<1>| -> Result<Vec<f64>> {
                let values: Vec<f32> =
                    x.try_into_vec_as().map_err(|error| Error::read(&path, error))?;
                Ok(values.into_iter().map(f64::from).collect())
            };
            Ok(Activations {
                tokens: sums.tokens,
                absolute: values(sums.absolute)?,
                squared: values(sums.squared)?,
            })
        };
        layers.into_iter().enumerate().map(of).collect()
    }
}

/// Sums of the activations of a layer's feed-forward neurons over some tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Activations {
    /// How many tokens.
    pub tokens: usize,
    /// Of each neuron, the sum of |activation|.
    pub absolute: Vec<f64>,
    /// Of each neuron, the sum of activation².
    pub squared: Vec<f64>,
}

impl Activations {
    /// Adds those of other tokens of the same layer.
    pub fn add(&mut self, other: &Self) {
        let add = |to: &mut Vec<f64>, from: &[f64]| {
            to.resize(from.len(), 0.0);
            to.iter_mut().zip(from).for_each(|(sum, x)| *sum += x);
        };
        self.tokens += other.tokens;
        add(&mut self.absolute, &other.absolute);
        add(&mut self.squared, &other.squared);
    }
}

/// How the importance of a feed-forward neuron is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// Mean absolute activation.
    Activation,
    /// Root of the mean squared activation: the best of these in docs/results/elastify.md, ordered only and trained.
    #[default]
    Rms,
    /// Mean absolute activation times the norm of the neuron's column of `down`: the mean norm of
    /// what it adds to the hidden state.
    Contribution,
    /// Root of the mean squared activation times the norm of the neuron's column of `down`.
    RmsContribution,
    /// Product of the norms of the neuron's rows of `up` and `gate` and its column of `down`; needs
    /// no data.
    Weights,
}

impl Importance {
    /// Every score.
    pub const ALL: [Self; 5] =
        [Self::Activation, Self::Rms, Self::Contribution, Self::RmsContribution, Self::Weights];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Rms => "rms",
            Self::Contribution => "contribution",
            Self::RmsContribution => "rms-contribution",
            Self::Weights => "weights",
        }
    }

    /// Whether it is measured on data.
    pub fn needs_data(self) -> bool {
        self != Self::Weights
    }

    fn score(self, activations: Option<&Activations>, norms: &Norms) -> Vec<f64> {
        let n = norms.down.len();
        let mean = |sums: &dyn Fn(&Activations) -> &[f64]| -> Vec<f64> {
            let found = activations.filter(|a| sums(a).len() == n);
            found.map_or(vec![0.0; n], |a| {
                sums(a).iter().map(|x| x / a.tokens.max(1) as f64).collect()
            })
        };
        let absolute = || mean(&|a| &a.absolute);
        let rms = || mean(&|a| &a.squared).into_iter().map(f64::sqrt).collect::<Vec<f64>>();
        let times = |a: Vec<f64>, b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect();
        match self {
            Self::Activation => absolute(),
            Self::Rms => rms(),
            Self::Contribution => times(absolute(), &norms.down),
            Self::RmsContribution => times(rms(), &norms.down),
            Self::Weights => times(norms.rows.clone(), &norms.down),
        }
    }
}

impl fmt::Display for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Importance {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|score| score.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(|score| format!("`{score}`"));
            format!("expected {}", known.join(", "))
        })
    }
}

/// Norms of the weights of each neuron of a layer.
#[derive(Clone, Debug, Default)]
struct Norms {
    /// Of its column of `down`.
    down: Vec<f64>,
    /// Product of the norms of its rows of `up` and `gate`.
    rows: Vec<f64>,
}

/// The neurons of every layer, the most important first. `activations` are those of every layer, or
/// none for a score that needs no data. Neurons of equal score keep their order.
///
/// # Errors
/// When a tensor cannot be read from its device.
pub fn order<M: Folder>(
    model: &M,
    activations: &[Activations],
    importance: Importance,
) -> Result<Vec<Vec<usize>>> {
    let norms = norms(model)?;
    let of = |(layer, norms): (usize, &Norms)| {
        let scores = importance.score(activations.get(layer), norms);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
    };
    Ok(norms.iter().enumerate().map(of).collect())
}

fn norms<M: Folder>(model: &M) -> Result<Vec<Norms>> {
    let mut layers = vec![Norms::default(); model.space().n_layers];
    params::read(model, |path, data| {
        let Some(layer) = nested_layer(path).filter(|_| !path.ends_with("up_bias")) else {
            return Ok(());
        };
        let shape = data.shape().to_vec();
        let values: Vec<f32> =
            data.convert::<f32>().try_into_vec().map_err(|error| Error::read(path, error))?;
        let (axis, cols) = (nested_axis(path), shape[1]);
        let mut squares = vec![0.0; shape[axis]];
        for (i, value) in values.iter().enumerate() {
            squares[if axis == 0 { i / cols } else { i % cols }] += f64::from(*value).powi(2);
        }
        let found: Vec<f64> = squares.into_iter().map(f64::sqrt).collect();
        let layer = &mut layers[layer];
        if axis == 1 {
            layer.down = found;
        } else if layer.rows.is_empty() {
            layer.rows = found;
        } else {
            layer.rows.iter_mut().zip(found).for_each(|(product, norm)| *product *= norm);
        }
        Ok(())
    })?;
    Ok(layers)
}

/// The same model with the neurons of each layer in the given order. Its widest submodel computes
/// what it did, up to rounding; narrower ones keep the neurons that come first.
///
/// # Errors
/// When an order is not a permutation of a layer's neurons, or a tensor cannot be read.
pub fn reordered<M: Folder>(model: &M, orders: &[Vec<usize>]) -> Result<M> {
    let by_layer: HashMap<usize, &[usize]> =
        orders.iter().enumerate().map(|(layer, order)| (layer, &order[..])).collect();
    for layer in 0..model.space().n_layers {
        let (n, mut seen) =
            (model.d_ff(layer), by_layer.get(&layer).map_or(vec![], |o| o.to_vec()));
        seen.sort_unstable();
        if !seen.into_iter().eq(0..n) {
            let path = format!("layers.{layer}.ffn");
            return Err(Error::read(&path, format!("no order of its {n} neurons")));
        }
    }
    permuted(model, |path| Some((by_layer[&nested_layer(path)?], nested_axis(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_read_back_as_they_print() {
        for score in Importance::ALL {
            assert_eq!(score.to_string().parse(), Ok(score));
        }
        assert!("size".parse::<Importance>().unwrap_err().contains("`rms`"));
    }

    #[test]
    fn neurons_are_ordered_by_score() {
        let norms = Norms { down: vec![1.0, 10.0, 1.0], rows: vec![5.0, 1.0, 9.0] };
        let activations = Activations {
            tokens: 2,
            absolute: vec![4.0, 1.0, 6.0],
            squared: vec![32.0, 2.0, 18.0],
        };
        let scores = |importance: Importance| importance.score(Some(&activations), &norms);
        assert_eq!(scores(Importance::Activation), [2.0, 0.5, 3.0]);
        assert_eq!(scores(Importance::Rms), [4.0, 1.0, 3.0]);
        assert_eq!(scores(Importance::Contribution), [2.0, 5.0, 3.0]);
        assert_eq!(scores(Importance::RmsContribution), [4.0, 10.0, 3.0]);
        assert_eq!(Importance::Weights.score(None, &norms), [5.0, 10.0, 9.0]);
    }
}
