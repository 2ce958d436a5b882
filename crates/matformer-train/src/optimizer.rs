//! AdamW, and Muon for matrices of the layers, over parameters by path, aware of the rows and columns that a step
//! did not draw.

use std::{collections::BTreeMap, ops::Range};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use matformer_core::Submodel;
use matformer_nn::ops::{AdamWStep, adamw, sum_of_squares};

use crate::{Error, OptimizerRule, Outer, Result, TrainConfig, muon, outer::OuterState};

/// AdamW (Loshchilov and Hutter 2019) or Muon ([`OptimizerRule`]) with gradient clipping by global norm.
/// Hyperparameters mean the same as in `torch.optim.AdamW`.
///
/// State is keyed by parameter path, so it fits the model in any process.
#[derive(Debug)]
pub struct Optimizer {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip: f64,
    outer: Outer,
    ema: f64,
    layer_decay: f64,
    rule: OptimizerRule,
    /// Whether ranks make rounds of steps by themselves.
    rounds: bool,
    pub(crate) moments: BTreeMap<String, Moments>,
}

/// Moments of one parameter, flat.
#[derive(Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor<1>,
    /// None of a matrix that takes Muon.
    pub(crate) second: Option<Tensor<1>>,
    /// Moving average of the parameter itself, where one is kept.
    pub(crate) average: Option<Tensor<1>>,
    /// Empty where gradients are exchanged in every step.
    pub(crate) outer: OuterState,
    /// Step counts as runs `(end, steps)`: elements from the previous `end` to this one have taken
    /// `steps` updates. Counted in row-major order, in column-major order for a parameter that is
    /// cut by columns. An update always covers a prefix, so the counts never increase.
    pieces: Vec<(usize, u64)>,
}

/// How a flat, row-major parameter is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cut {
    /// Between rows.
    Rows,
    /// Between columns, for this number of rows.
    Columns(usize),
}

impl Cut {
    /// How the parameter at `path` is cut.
    pub(crate) fn of(path: &str, shape: &[usize]) -> Self {
        if matformer_nn::nested_axis(path) == 0 { Self::Rows } else { Self::Columns(shape[0]) }
    }

    /// The first `at` elements, and the others, if there are any.
    pub(crate) fn split(self, t: Tensor<1>, at: usize) -> (Tensor<1>, Option<Tensor<1>>) {
        let n = t.dims()[0];
        // Handed on, not sliced: what nobody shares is updated in place.
        if at == n {
            return (t, None);
        }
        (self.piece(t.clone(), 0..at), Some(self.piece(t, at..n)))
    }

    /// A piece, flat: elements `range` in the order that [`Moments::pieces`] counts in.
    fn piece(self, t: Tensor<1>, range: Range<usize>) -> Tensor<1> {
        match self {
            Self::Rows => t.narrow(0, range.start, range.len()),
            Self::Columns(rows) => {
                let cols = t.dims()[0] / rows;
                let piece =
                    t.reshape([rows, cols]).narrow(1, range.start / rows, range.len() / rows);
                piece.reshape([range.len()])
            }
        }
    }

    /// The way back: all pieces in their order.
    pub(crate) fn join(self, mut pieces: Vec<Tensor<1>>) -> Tensor<1> {
        if pieces.len() == 1 {
            return pieces.remove(0);
        }
        match self {
            Self::Rows => Tensor::cat(pieces, 0),
            Self::Columns(rows) => {
                let n = pieces.iter().map(|piece| piece.dims()[0]).sum::<usize>();
                let columns = |piece: Tensor<1>| {
                    let cols = piece.dims()[0] / rows;
                    piece.reshape([rows, cols])
                };
                Tensor::cat(pieces.into_iter().map(columns).collect(), 1).reshape([n])
            }
        }
    }
}

/// Moments of one parameter on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedMoments {
    /// First moments, flat.
    pub first: Vec<f32>,
    /// Second moments, flat; none of a matrix that takes Muon.
    pub second: Option<Vec<f32>>,
    /// Moving average of the parameter, flat, where one is kept.
    pub average: Option<Vec<f32>>,
    /// Momentum of the outer optimizer, flat, where there is one.
    pub outer: Option<Vec<f32>>,
    /// (end, steps) of each piece.
    pub pieces: Vec<(usize, u64)>,
}

impl Optimizer {
    /// An optimizer that has made no step.
    pub fn new(config: &TrainConfig) -> Self {
        Self {
            betas: config.betas,
            eps: config.eps,
            weight_decay: config.weight_decay,
            clip: config.clip,
            outer: config.outer,
            ema: config.ema,
            layer_decay: config.layer_decay,
            rule: config.optimizer,
            rounds: config.exchange.rounds().is_some(),
            moments: BTreeMap::new(),
        }
    }

    /// One step. `drawn` are the submodels that the gradient came through.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        grads: GradientsParams,
        norm: f64,
        learning_rate: f64,
        drawn: &[Submodel],
    ) -> M {
        let clips = self.clip > 0.0 && norm > self.clip;
        let scale = if clips { self.clip / (norm + 1e-6) } else { 1.0 };
        let widths = widest(drawn);
        let n_layers = drawn.first().map_or(0, Submodel::n_layers);
        let path = Vec::new();
        let update =
            Update { optimizer: self, path, grads, scale, learning_rate, n_layers, widths };
        model.map(&mut { update })
    }

    /// The model with the moving average of its weights, where one is kept.
    pub fn averaged<M: Module>(&self, model: M) -> M {
        model.map(&mut Average { optimizer: self, path: Vec::new() })
    }

    /// The state on the host, by parameter path.
    ///
    /// # Errors
    /// When a tensor cannot be read from its device.
    pub fn save(&self) -> Result<BTreeMap<String, SavedMoments>> {
        let read = |path: &str, t: &Tensor<1>| {
            t.try_to_vec_as::<f32>().map_err(|e| {
                Error::from(matformer_nn::Error::read(format!("moments of {path}"), e))
            })
        };
        self.moments
            .iter()
            .map(|(path, m)| {
                let kept = |t: &Option<Tensor<1>>| t.as_ref().map(|t| read(path, t)).transpose();
                let saved = SavedMoments {
                    first: read(path, &m.first)?,
                    second: kept(&m.second)?,
                    average: kept(&m.average)?,
                    outer: kept(&m.outer.momentum)?,
                    pieces: m.pieces.clone(),
                };
                Ok((path.clone(), saved))
            })
            .collect()
    }

    /// Takes over a saved state; `device` is one without gradients.
    pub fn load(&mut self, saved: BTreeMap<String, SavedMoments>, device: &Device) {
        let tensor = |values: Vec<f32>| {
            let n = values.len();
            Tensor::from_data(TensorData::new(values, [n]), device)
        };
        self.moments = saved
            .into_iter()
            .map(|(path, m)| {
                let first = tensor(m.first);
                let second = m.second.map(tensor);
                let average = m.average.map(tensor);
                let outer = OuterState::saved(m.outer.map(tensor));
                (path, Moments { first, second, average, outer, pieces: m.pieces })
            })
            .collect();
    }

    /// New values of a flat parameter of which the elements up to `prefix` make a step.
    fn update(
        &mut self,
        path: &str,
        values: Tensor<1>,
        grad: Tensor<1>,
        rate: &AdamWStep,
        (cut, prefix): (Cut, usize),
    ) -> Tensor<1> {
        let moments = self.take(path, &values, prefix, false);
        let Moments { first, second, average, outer, mut pieces } = moments;
        split_at(&mut pieces, prefix);
        let second = second.unwrap_or_else(|| values.zeros_like());
        let all = [values, grad, first, second];
        let parts: Vec<[Tensor<1>; 4]> = match pieces.len() {
            // Handed on, not sliced: what nobody shares is updated in place.
            1 => vec![all],
            _ => (0..pieces.len())
                .map(|i| {
                    let start = if i == 0 { 0 } else { pieces[i - 1].0 };
                    all.clone().map(|t| cut.piece(t, start..pieces[i].0))
                })
                .collect(),
        };
        let (mut out, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for ((end, steps), [p, g, m, v]) in pieces.iter_mut().zip(parts) {
            let [p, m, v] = if *end <= prefix {
                *steps += 1;
                adamw(p, g, m, v, AdamWStep { steps: *steps, ..*rate })
            } else {
                [p, m, v]
            };
            out.push(p);
            first.push(m);
            second.push(v);
        }
        let out = cut.join(out);
        let (first, second) = (cut.join(first), Some(cut.join(second)));
        self.keep(path, &out, Moments { first, second, average, outer, pieces });
        out
    }

    /// The same by Muon, of a matrix `[rows, cols]`.
    fn orthogonal_update(
        &mut self,
        path: &str,
        values: Tensor<1>,
        grad: Tensor<1>,
        rate: &AdamWStep,
        (cut, prefix): (Cut, usize),
        cols: usize,
    ) -> Tensor<1> {
        let n = values.dims()[0];
        let moments = self.take(path, &values, prefix, true);
        let Moments { first, average, outer, mut pieces, .. } = moments;
        split_at(&mut pieces, prefix);
        pieces.iter_mut().filter(|(end, _)| *end <= prefix).for_each(|(_, steps)| *steps += 1);
        let shape = match cut {
            Cut::Rows => [prefix / cols, cols],
            Cut::Columns(rows) => [rows, prefix / rows],
        };
        let drawn = |t: &Tensor<1>| cut.piece(t.clone(), 0..prefix).reshape(shape);
        let [p, m] = muon::step(drawn(&values), drawn(&grad), drawn(&first), rate);
        let whole = |new: Tensor<2>, old: Tensor<1>| {
            let mut pieces = vec![new.reshape([prefix])];
            if prefix < n {
                pieces.push(cut.piece(old, prefix..n));
            }
            cut.join(pieces)
        };
        let (out, first) = (whole(p, values), whole(m, first));
        self.keep(path, &out, Moments { first, second: None, average, outer, pieces });
        out
    }

    /// The moments of a parameter whose first `prefix` elements make a step, from which they are taken: new ones
    /// in its first step, and in its first by another rule, where only what follows the weights goes on.
    fn take(&mut self, path: &str, values: &Tensor<1>, prefix: usize, muon: bool) -> Moments {
        let held = self.moments.remove(path);
        let mut moments = match held {
            Some(held) if held.second.is_none() == muon => held,
            held => {
                let (average, outer) = match held {
                    None => ((self.ema > 0.0).then(|| values.clone()), OuterState::default()),
                    Some(held) => (held.average, held.outer),
                };
                let second = (!muon).then(|| values.zeros_like());
                let pieces = vec![(values.dims()[0], 0)];
                Moments { first: values.zeros_like(), second, average, outer, pieces }
            }
        };
        if self.rounds {
            moments.outer.moves(values, prefix);
        }
        moments
    }

    /// Keeps the moments behind a step that gave the values `out`.
    fn keep(&mut self, path: &str, out: &Tensor<1>, moments: Moments) {
        let Moments { average, mut pieces, .. } = moments;
        // Lower decay in the first steps, so that the random initial weights are forgotten quickly.
        let steps = pieces.first().map_or(0, |(_, steps)| *steps) as f64;
        let decay = self.ema.min((1.0 + steps) / (10.0 + steps));
        let average = average.map(|old| old * decay + out.clone() * (1.0 - decay));
        merge(&mut pieces);
        self.moments.insert(path.to_owned(), Moments { average, pieces, ..moments });
    }
}

/// Widest drawn width of each layer.
fn widest(drawn: &[Submodel]) -> Vec<usize> {
    let n_layers = drawn.first().map_or(0, Submodel::n_layers);
    (0..n_layers).map(|layer| drawn.iter().map(|s| s.widths()[layer]).max().unwrap_or(0)).collect()
}

/// Makes a piece end at `at`.
fn split_at(pieces: &mut Vec<(usize, u64)>, at: usize) {
    if at == 0 || pieces.iter().any(|(end, _)| *end == at) {
        return;
    }
    if let Some(i) = pieces.iter().position(|(end, _)| *end > at) {
        let steps = pieces[i].1;
        pieces.insert(i, (at, steps));
    }
}

/// Joins neighbouring pieces that have made the same number of steps.
fn merge(pieces: &mut Vec<(usize, u64)>) {
    pieces.dedup_by(|next, before| {
        let same = next.1 == before.1;
        if same {
            before.0 = next.0;
        }
        same
    });
}

/// Depth of a parameter for layer-wise learning-rate decay: 0 for heads and the final norm,
/// `n_layers − i` for layer `i`, `n_layers + 1` for all others (embeddings).
fn below(path: &str, n_layers: usize) -> i32 {
    let layer = matformer_nn::layer_of(path);
    let above = match layer {
        Some(layer) => n_layers.saturating_sub(layer),
        None if path.split('.').any(|part| part == "norm" || part.ends_with("head")) => 0,
        None => n_layers + 1,
    };
    above as i32
}

struct Update<'a> {
    optimizer: &'a mut Optimizer,
    path: Vec<String>,
    grads: GradientsParams,
    scale: f64,
    learning_rate: f64,
    n_layers: usize,
    /// Widest drawn width of each layer.
    widths: Vec<usize>,
}

/// Replaces the parameters by their moving averages.
struct Average<'a> {
    optimizer: &'a Optimizer,
    path: Vec<String>,
}

impl ModuleMapper for Average<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let moments = self.optimizer.moments.get(&self.path.join("."));
        match moments.and_then(|moments| moments.average.clone()) {
            None => param,
            Some(average) => param.map(|old| average.reshape(old.dims())),
        }
    }
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let path = self.path.join(".");
        let rate = AdamWStep {
            scale: self.scale,
            betas: self.optimizer.betas,
            eps: self.optimizer.eps,
            learning_rate: self.learning_rate
                * self.optimizer.layer_decay.powi(below(&path, self.n_layers)),
            weight_decay: if D >= 2 { self.optimizer.weight_decay } else { 0.0 },
            steps: 0,
        };
        param.map(|old| {
            let require_grad = old.is_require_grad();
            let autodiff = old.is_autodiff();
            let shape = old.dims();
            let n: usize = shape.iter().product();
            let axis = matformer_nn::nested_axis(&path);
            let cut = Cut::of(&path, &shape);
            let muon = self.optimizer.rule == OptimizerRule::Muon
                && D == 2
                && matformer_nn::layer_of(&path).is_some();
            let part = self.optimizer.outer == Outer::Skip || muon;
            let layer = matformer_nn::nested_layer(&path).filter(|_| part);
            let width = layer.and_then(|layer| self.widths.get(layer));
            let of_one = n / shape[axis].max(1);
            let piece = (cut, width.map_or(n, |width| (width * of_one).min(n)));
            let (values, grad) = (old.inner().reshape([n]), grad.reshape([n]));
            let new = if muon {
                self.optimizer.orthogonal_update(&path, values, grad, &rate, piece, shape[D - 1])
            } else {
                self.optimizer.update(&path, values, grad, &rate, piece)
            };
            let new = new.reshape(shape);
            if autodiff { new.autodiff().set_require_grad(require_grad) } else { new }
        })
    }
}

/// Global norm of a gradient, in double precision over the parameters' sums of squares.
///
/// # Errors
/// When the sums cannot be read from their device.
pub fn global_norm<M: Module>(model: &M, grads: &GradientsParams) -> Result<f64> {
    struct Squares<'a> {
        grads: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                self.sums.push(sum_of_squares(grad));
            }
        }
    }
    let mut squares = Squares { grads, sums: Vec::new() };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return Ok(0.0);
    }
    let sums: Vec<f32> = Tensor::cat(squares.sums, 0)
        .try_into_vec_as()
        .map_err(|e| matformer_nn::Error::read("gradient norm", e))?;
    Ok(sums.into_iter().map(f64::from).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_rows_or_columns_and_join_to_the_whole() {
        let device = Device::flex();
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let whole = Tensor::<1>::from_data(TensorData::new(values.clone(), [12]), &device);
        let numbers = |t: Tensor<1>| t.try_into_vec_as::<f32>().unwrap();
        // [3, 4]: the first two columns, then the others.
        let columns = Cut::Columns(3);
        let pieces = [0..6, 6..12].map(|range| columns.piece(whole.clone(), range));
        assert_eq!(numbers(pieces[0].clone()), [0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(numbers(columns.join(pieces.to_vec())), values);
        // [3, 4]: the first row, then the others.
        let pieces = [0..4, 4..12].map(|range| Cut::Rows.piece(whole.clone(), range));
        assert_eq!(numbers(pieces[0].clone()), values[..4]);
        assert_eq!(numbers(Cut::Rows.join(pieces.to_vec())), values);
    }

    #[test]
    fn layers_above_a_parameter_are_counted() {
        let found =
            ["head.weight", "norm.gamma", "layers.2.ffn.up", "encoder.layers.0.up", "positions"]
                .map(|path| below(path, 3));
        assert_eq!(found, [0, 0, 1, 3, 4]);
    }
}
