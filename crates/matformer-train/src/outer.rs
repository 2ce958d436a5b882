//! The outer optimizer of a run whose ranks make rounds of steps by themselves ([`Rounds`]).

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorData},
};
use matformer_exchange::Exchange;

use crate::{
    Optimizer, Result, Rounds,
    optimizer::{Cut, Moments},
    ranks::Bucket,
};

/// What the outer optimizer has of a parameter.
#[derive(Debug, Default)]
pub(crate) struct OuterState {
    /// Its momentum, flat; none before the first outer step, and in a run without momentum.
    pub(crate) momentum: Option<Tensor<1>>,
    /// What this rank has done since the last outer step; none if it has not touched the parameter.
    round: Option<Round>,
}

/// A parameter that this rank has changed since the last outer step.
#[derive(Debug)]
struct Round {
    /// Its values before, flat.
    anchor: Tensor<1>,
    /// Elements from the first that have made a step, in the order of [`Cut`]. The others are as they were, and
    /// the outer step does not move them either: not even by its momentum.
    moved: usize,
}

impl OuterState {
    /// What a checkpoint has, which is written between two rounds.
    pub(crate) fn saved(momentum: Option<Tensor<1>>) -> Self {
        Self { momentum, round: None }
    }

    /// Notes that a step will change the first `prefix` elements of a parameter, which has these values.
    pub(crate) fn moves(&mut self, values: &Tensor<1>, prefix: usize) {
        let round = self.round.get_or_insert_with(|| Round { anchor: values.clone(), moved: 0 });
        round.moved = round.moved.max(prefix);
    }
}

/// Of what the mean over the ranks is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Weights,
    First,
    Second,
    Average,
}

/// Means over all ranks, by the path of the parameter.
type Means = BTreeMap<(String, What), Tensor<1>>;

impl Optimizer {
    /// Whether this rank has made no step since the last outer step.
    pub(crate) fn is_between_rounds(&self) -> bool {
        self.moments.values().all(|moments| moments.outer.round.is_none())
    }

    /// The means over all ranks of what they have changed since the last outer step.
    pub(crate) fn means<M: Module>(&self, exchange: &Exchange, model: &M) -> Result<RoundMeans> {
        let bucket = Bucket::new(exchange, Means::new());
        let mut gather = Gather { optimizer: self, path: Vec::new(), bucket };
        model.visit(&mut gather);
        gather.bucket.sums().map(RoundMeans)
    }

    /// The outer step: the same on all ranks.
    pub(crate) fn outer_step<M: Module>(
        &mut self,
        model: M,
        RoundMeans(means): RoundMeans,
        rule: OuterRule,
    ) -> M {
        model.map(&mut OuterStep { optimizer: self, path: Vec::new(), means, rule })
    }
}

/// How far an outer step goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OuterRule {
    pub(crate) rounds: Rounds,
    /// The length of the round as a part of `rounds.every`. The last round of a run may be short: it takes this part
    /// of the momentum alone, because all of it, gathered in longer rounds, would throw the weights far off.
    pub(crate) share: f64,
}

/// What the ranks bring to an outer step.
pub(crate) struct RoundMeans(Means);

struct Gather<'a> {
    optimizer: &'a Optimizer,
    path: Vec<String>,
    bucket: Bucket<'a, Means>,
}

impl ModuleVisitor for Gather<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let Some(moments) = self.optimizer.moments.get(&path) else {
            return;
        };
        let Moments { first, second, average, outer, .. } = moments;
        let Some(Round { moved, .. }) = outer.round else {
            return;
        };
        let values = param.val().inner();
        let cut = Cut::of(&path, &values.dims());
        let flat = values.reshape(first.dims());
        let prefix = |t: &Tensor<1>| cut.split(t.clone(), moved).0;
        let parts = [
            (What::Weights, Some(prefix(&flat))),
            (What::First, Some(prefix(first))),
            (What::Second, second.as_ref().map(prefix)),
            // All of it follows the weights.
            (What::Average, average.clone()),
        ];
        let world = self.bucket.world() as f32;
        for (what, part) in parts {
            let Some(part) = part else { continue };
            let (key, device) = ((path.clone(), what), part.device());
            self.bucket.push(part, move |mut sum, means| {
                sum.iter_mut().for_each(|value| *value /= world);
                let n = sum.len();
                means.insert(key, Tensor::from_data(TensorData::new(sum, [n]), &device));
            });
        }
    }
}

struct OuterStep<'a> {
    optimizer: &'a mut Optimizer,
    path: Vec<String>,
    means: Means,
    rule: OuterRule,
}

impl ModuleMapper for OuterStep<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(moments) = self.optimizer.moments.get_mut(&path) else {
            return param;
        };
        let Some(Round { anchor, moved }) = moments.outer.round.take() else {
            return param;
        };
        let mut mean = |what| self.means.remove(&(path.clone(), what));
        let Some(weights) = mean(What::Weights) else {
            return param;
        };
        let (first, second, average) = (mean(What::First), mean(What::Second), mean(What::Average));
        let OuterRule { rounds, share } = self.rule;
        param.map(|old| {
            let (require_grad, autodiff) = (old.is_require_grad(), old.is_autodiff());
            let shape = old.dims();
            let cut = Cut::of(&path, &shape);
            // New values of the elements that have moved; the others stay.
            let replace = |old: &mut Tensor<1>, new: Tensor<1>| {
                *old = match cut.split(old.clone(), moved).1 {
                    None => new,
                    Some(rest) => cut.join(vec![new, rest]),
                };
            };
            let delta = cut.split(anchor, moved).0 - weights.clone();
            let mut new = weights;
            if rounds.outer_learning_rate != 1.0 {
                new = new + delta.clone() * (1.0 - rounds.outer_learning_rate);
            }
            let mut values = old.inner().reshape(moments.first.dims());
            if rounds.outer_momentum > 0.0 {
                let momentum = moments.outer.momentum.get_or_insert_with(|| values.zeros_like());
                let before = cut.split(momentum.clone(), moved).0;
                let now = before * rounds.outer_momentum.powf(share) + delta;
                // Nesterov: a look ahead along the momentum.
                let ahead = rounds.outer_learning_rate * rounds.outer_momentum * share;
                new = new - now.clone() * ahead;
                replace(momentum, now);
            }
            replace(&mut values, new);
            if let Some(first) = first {
                replace(&mut moments.first, first);
            }
            if let (Some(old), Some(second)) = (&mut moments.second, second) {
                replace(old, second);
            }
            moments.average = average.or(moments.average.take());
            let new = values.reshape(shape);
            if autodiff { new.autodiff().set_require_grad(require_grad) } else { new }
        })
    }
}
