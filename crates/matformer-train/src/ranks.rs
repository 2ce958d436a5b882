//! What the ranks of a run do to a step: each computes its share of the rows, gradients are summed,
//! and weights stay equal.

use std::{
    hash::{DefaultHasher, Hasher},
    ops::Range,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Tensor, TensorData},
};
use matformer_exchange::{Exchange, Fact};
use matformer_nn::{BatchPart, Elastic, params};
use serde_json::Value;

use crate::{Batch, Batches, Error, Result, RunOptions, TrainConfig};

/// Values that are summed in one call. Larger parameters are summed alone.
const BUCKET: usize = 1 << 22;

/// Rows of one training batch: those of one forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The batch.
    pub(crate) index: u64,
    rows: Range<usize>,
    /// Rows of the whole batch.
    of: usize,
}

impl Pass {
    /// Reads them.
    pub(crate) fn read<M: Elastic>(&self, model: &M, from: &dyn Batches<M>) -> Result<Batch<M>> {
        let Self { index, rows, .. } = self;
        let batch = match self.part() {
            None => from.train(model, *index),
            Some(_) => from.train_rows(model, *index, rows.clone()),
        };
        batch.map_err(|source| Error::Batch { index: *index, source })
    }

    /// Their place in the batch, if they are not all of it.
    pub(crate) fn part(&self) -> Option<BatchPart> {
        let Self { rows, of, .. } = self;
        (rows.len() < *of).then_some(BatchPart { first: rows.start, of: *of })
    }
}

/// The passes of a rank over `batches` batches of `rows` rows from number `first`: all rows in order,
/// divided as evenly as they can be. One rank makes a pass over each whole batch.
pub(crate) fn passes(exchange: &Exchange, first: u64, batches: u64, rows: usize) -> Vec<Pass> {
    let (all, world) = (u128::from(batches) * rows as u128, exchange.world() as u128);
    let bound = |rank: usize| all * rank as u128 / world;
    let (from, to) = (bound(exchange.rank()), bound(exchange.rank() + 1));
    let of_batch = |batch: u64| {
        let start = u128::from(batch) * rows as u128;
        let place = |row: u128| (row.max(start) - start).min(rows as u128) as usize;
        Pass { index: first + batch, rows: place(from)..place(to), of: rows }
    };
    (0..batches).map(of_batch).filter(|pass| !pass.rows.is_empty()).collect()
}

/// The share of the rows of a step that a rank computes.
pub(crate) fn share(exchange: &Exchange, batches: u64, rows: usize) -> f64 {
    let own: usize = passes(exchange, 0, batches, rows).iter().map(|pass| pass.rows.len()).sum();
    own as f64 / (batches as f64 * rows as f64)
}

/// Checks that a step has a row for each rank.
///
/// # Errors
/// [`Error::Config`] if it has fewer, or if `tokens_per_step` is not a whole number of batches.
pub fn check_ranks<M: Elastic>(
    config: &TrainConfig,
    batches: &dyn Batches<M>,
    exchange: &Exchange,
) -> Result<()> {
    let per_step = config.batches_per_step(batches.targets_per_batch())?;
    let (rows, world) = (u128::from(per_step) * batches.rows() as u128, exchange.world());
    if rows >= world as u128 {
        return Ok(());
    }
    let expected = format!("at least {world} rows, one for each rank: they are {rows}");
    let found = config.tokens_per_step.to_string();
    Err(Error::Config { field: "tokens_per_step", found, expected })
}

/// The gradients over the rows of all ranks, which have gradients for the same parameters: the sums,
/// in the order of the model's parameters.
pub(crate) fn sum_gradients<M: Module>(
    exchange: &Exchange,
    model: &M,
    grads: GradientsParams,
) -> Result<GradientsParams> {
    if exchange.is_alone() {
        return Ok(grads);
    }
    let bucket = Bucket::new(exchange, GradientsParams::new());
    let mut visit = Sums { grads, bucket };
    model.visit(&mut visit);
    visit.bucket.sums()
}

/// Tensors whose sums over all ranks are taken many at a time, and put into a `T`.
pub(crate) struct Bucket<'a, T> {
    exchange: &'a Exchange,
    sums: T,
    values: Vec<f32>,
    waiting: Vec<Waiting<T>>,
    error: Option<Error>,
}

/// Takes the sum of a tensor into a `T`.
type Register<T> = dyn FnOnce(Vec<f32>, &mut T);

/// A tensor in the bucket.
struct Waiting<T> {
    len: usize,
    register: Box<Register<T>>,
}

impl<'a, T> Bucket<'a, T> {
    /// An empty bucket.
    pub(crate) fn new(exchange: &'a Exchange, sums: T) -> Self {
        Self { exchange, sums, values: Vec::new(), waiting: Vec::new(), error: None }
    }

    /// Number of ranks.
    pub(crate) fn world(&self) -> usize {
        self.exchange.world()
    }

    /// Adds a tensor; `register` gets the sum of its values.
    pub(crate) fn push<const D: usize>(
        &mut self,
        tensor: Tensor<D>,
        register: impl FnOnce(Vec<f32>, &mut T) + 'static,
    ) {
        let len = tensor.dims().iter().product();
        match tensor.try_into_vec_as::<f32>() {
            Ok(values) => self.values.extend(values),
            // The others wait for as many values.
            Err(error) => {
                self.values.resize(self.values.len() + len, f32::NAN);
                self.error
                    .get_or_insert(matformer_nn::Error::read("what ranks exchange", error).into());
            }
        }
        self.waiting.push(Waiting { len, register: Box::new(register) });
        if self.values.len() >= BUCKET {
            self.flush();
        }
    }

    /// Sums what is in the bucket.
    fn flush(&mut self) {
        self.exchange.sum_f32(&mut self.values);
        let mut rest = &self.values[..];
        for Waiting { len, register } in self.waiting.drain(..) {
            let (values, others) = rest.split_at(len);
            register(values.to_vec(), &mut self.sums);
            rest = others;
        }
        self.values.clear();
    }

    /// All sums.
    pub(crate) fn sums(mut self) -> Result<T> {
        self.flush();
        match self.error {
            None => Ok(self.sums),
            Some(error) => Err(error),
        }
    }
}

struct Sums<'a> {
    grads: GradientsParams,
    bucket: Bucket<'a, GradientsParams>,
}

impl ModuleVisitor for Sums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let (id, device, shape) = (param.id, grad.device(), grad.dims());
        self.bucket.push(grad, move |values, sums| {
            sums.register::<D>(id, Tensor::from_data(TensorData::new(values, shape), &device));
        });
    }
}

/// What must be equal on all ranks before a run begins: the version, the data and all settings.
pub fn facts(config: &TrainConfig, data_hash: impl ToString) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("the version", env!("CARGO_PKG_VERSION")),
        Fact::new("the hash of the data", data_hash),
    ];
    flatten("train".to_owned(), &serde_json::to_value(config).unwrap_or_default(), &mut facts);
    facts
}

/// What must be equal on all ranks when a run goes on after step `step`, beside its weights.
pub(crate) fn facts_at(options: &RunOptions, step: u64) -> Vec<Fact> {
    let mut facts = facts(&options.config, &options.manifest.provenance.data_hash);
    facts.push(Fact::new("the number of steps made", step));
    flatten(String::new(), &options.configured, &mut facts);
    facts
}

/// Adds a fact for each value of a table: `train.seed`.
fn flatten(key: String, value: &Value, facts: &mut Vec<Fact>) {
    let Value::Object(fields) = value else {
        return facts.push(Fact::new(format!("`{key}`"), value));
    };
    for (name, value) in fields {
        let dot = if key.is_empty() { "" } else { "." };
        flatten(format!("{key}{dot}{name}"), value, facts);
    }
}

/// A hash of all weights, to compare those of ranks of one version.
pub(crate) fn hash_of<M: Module>(model: &M) -> Result<Fact> {
    let mut hasher = DefaultHasher::new();
    params::read(model, |path, data| {
        hasher.write(path.as_bytes());
        hasher.write(data.as_bytes());
        Ok(())
    })?;
    Ok(Fact::new("the hash of the weights", format!("{:016x}", hasher.finish())))
}

#[cfg(test)]
mod tests {
    use matformer_exchange::threads;

    use super::*;

    #[test]
    fn the_ranks_of_a_step_take_every_row_once() {
        for (batches, rows, world) in [(1, 8, 2), (3, 5, 4), (2, 3, 6), (4, 1, 3), (1, 7, 1)] {
            let ranks = threads(world);
            let of_ranks: Vec<Vec<Pass>> =
                ranks.iter().map(|rank| passes(rank, 10, batches, rows)).collect();
            let all = of_ranks.iter().flatten();
            let taken: Vec<(u64, usize)> =
                all.flat_map(|pass| pass.rows.clone().map(|row| (pass.index, row))).collect();
            let expected: Vec<(u64, usize)> =
                (10..10 + batches).flat_map(|b| (0..rows).map(move |row| (b, row))).collect();
            assert_eq!(taken, expected);
            let counts =
                of_ranks.iter().map(|rank| rank.iter().map(|p| p.rows.len()).sum::<usize>());
            let counts: Vec<usize> = counts.collect();
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
        let whole = passes(&Exchange::local(), 4, 2, 6);
        assert!(whole.iter().all(|pass| pass.part().is_none()) && whole.len() == 2);
        let half = &passes(&threads(2)[1], 4, 1, 6)[0];
        assert_eq!(half.part(), Some(BatchPart { first: 3, of: 6 }));
    }
}
