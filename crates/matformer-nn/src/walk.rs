//! The forward pass of training, evaluation, generation and serving, which differ in the plan and
//! the spans that they pass.

use std::ops::Range;

use burn::tensor::{FloatDType, Tensor};
use matformer_core::{Plan, Spans, Submodel, Unit};

use crate::{Elastic, Error, Output, Pass, Result, RowLoss, State};

/// Hidden states after the last layer, for every submodel of a plan.
#[derive(Clone, Debug)]
pub struct Walked {
    hidden: Tensor<2>, // [hidden rows, d_model]: the last layer's blocks, stacked
    outputs: Vec<Range<usize>>,
    unit: Unit,
    spans: Spans, // of the batch
    submodels: Vec<Submodel>,
    compute: FloatDType,
}

impl Walked {
    /// Output of submodel `i` of the plan. For [`Plan::rows`] this is row `i` alone, so a target of
    /// the whole batch does not fit it: use [`all`](Self::all).
    ///
    /// # Panics
    /// If the plan has no such submodel.
    pub fn of(&self, i: usize) -> Output {
        let range = self.outputs[i].clone();
        let [n, d_model] = self.hidden.dims();
        let hidden = if range == (0..n) {
            self.hidden.clone()
        } else {
            self.hidden.clone().slice([range, 0..d_model])
        };
        let spans = match self.unit {
            Unit::Batch => self.spans.clone(),
            Unit::Row => self.spans.select(i..i + 1),
        };
        Output::new(hidden, spans, vec![self.submodels[i].clone()], self.compute)
    }

    /// Output for the whole batch, of [`Plan::rows`] or of a plan with one submodel; of the latter
    /// it is the same as [`of`](Self::of)`(0)`.
    ///
    /// # Panics
    /// If the plan takes the batch through several submodels.
    pub fn all(&self) -> Output {
        if self.unit == Unit::Batch {
            assert_eq!(self.hidden.dims()[0], self.spans.tokens(), "one submodel's output");
            return self.of(0);
        }
        let (hidden, spans) = (self.hidden.clone(), self.spans.clone());
        Output::new(hidden, spans, self.submodels.clone(), self.compute)
    }
}

/// The stage of a forward pass that [`walk_through`] reports to its callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The stem, before the first layer.
    Stem,
    /// Attention, or whatever else mixes positions.
    Mix,
    /// The feed-forward block.
    Ffn,
}

/// Walks a batch through all submodels of a plan.
///
/// Submodels with the same widths in the first layers share the computation of these layers. With a
/// KV cache in `state`, each row attends to the tokens in its slot, and the new tokens are written
/// to it.
///
/// # Errors
/// When the plan is for another model or batch, or the batch does not fit the cache. The state is
/// then unchanged.
pub fn walk<M: Elastic>(
    model: &M,
    input: &M::Input,
    plan: &Plan,
    state: &mut State,
) -> Result<Walked> {
    walk_through(model, input, plan, state, &mut |_, _| Ok(()))
}

/// As [`walk`], calling `after(layer, part)` after the stem and after each half of a layer has been
/// submitted to the device. For the stem, `layer` is 0.
///
/// # Errors
/// As [`walk`], and what `after` returns. After an error of `after` the slots of a cache have their
/// old lengths, but the positions of the batch may have been overwritten.
pub fn walk_through<M: Elastic, E: From<Error>>(
    model: &M,
    input: &M::Input,
    plan: &Plan,
    state: &mut State,
    after: &mut dyn FnMut(usize, Part) -> Result<(), E>,
) -> Result<Walked, E> {
    check_layers(model, plan)?;
    let (hidden, context) = model.stem(input, state)?;
    after(0, Part::Stem)?;
    let spans = hidden.spans;
    check_rows(plan, &spans, state)?;
    let mut x = hidden.x; // [copies · tokens, d_model]
    let mut copies = spans.clone(); // the rows that x holds
    for layer in 0..plan.n_layers() {
        if copies.rows() != spans.rows() * plan.copies(layer) {
            copies = spans.repeat(plan.copies(layer));
        }
        let blocks = plan.hidden_blocks(layer, &spans);
        let pass = &mut Pass { layer, blocks: &blocks, spans: &copies, context: &context, state };
        x = model.mix(x, pass);
        after(layer, Part::Mix)?;
        x = model.ffn(x, pass);
        after(layer, Part::Ffn)?;
    }
    if let Some(cache) = state.cache_mut() {
        cache.keep(&spans);
    }
    let (outputs, submodels) = (plan.hidden_outputs(&spans), plan.submodels().to_vec());
    let (unit, compute) = (plan.unit(), state.compute());
    Ok(Walked { hidden: x, outputs, unit, spans, submodels, compute })
}

/// Loss of every submodel of a walked plan, row by row: the head runs once per distinct output.
pub fn row_losses<M: Elastic>(model: &M, walked: &Walked, target: &M::Target) -> Vec<RowLoss> {
    if walked.unit == Unit::Row {
        let all = model.loss(&walked.all(), target);
        return (0..walked.outputs.len())
            .map(|i| RowLoss {
                nats: all.nats.clone().narrow(0, i, 1),
                counts: all.counts.get(i).copied().into_iter().collect(),
            })
            .collect();
    }
    let mut done: Vec<(Range<usize>, RowLoss)> = Vec::new();
    (0..walked.outputs.len())
        .map(|i| {
            let range = &walked.outputs[i];
            if let Some((_, loss)) = done.iter().find(|(r, _)| r == range) {
                return loss.clone();
            }
            let loss = model.loss(&walked.of(i), target);
            done.push((range.clone(), loss.clone()));
            loss
        })
        .collect()
}

fn check_layers<M: Elastic>(model: &M, plan: &Plan) -> Result<()> {
    let expected = model.space().n_layers;
    if plan.n_layers() != expected {
        return Err(Error::PlanLayers { found: plan.n_layers(), expected });
    }
    for layer in 0..expected {
        let (width, d_ff) = (plan.max_width(layer), model.d_ff(layer));
        if width > d_ff {
            return Err(Error::PlanWidth { layer, width, d_ff });
        }
    }
    Ok(())
}

/// Whether plan, batch and cache fit each other.
fn check_rows(plan: &Plan, spans: &Spans, state: &State) -> Result<()> {
    if plan.unit() == Unit::Row && plan.submodels().len() != spans.rows() {
        return Err(Error::PlanRows { found: spans.rows(), expected: plan.submodels().len() });
    }
    if spans.rows() == 0 {
        return Err(Error::EmptyRow { row: 0 });
    }
    if let Some(row) = spans.iter().position(|span| span.len == 0) {
        return Err(Error::EmptyRow { row });
    }
    let Some(cache) = state.cache() else {
        return match spans.iter().position(|span| span.slot.is_some()) {
            Some(row) => Err(Error::NoCache { row }),
            None => Ok(()),
        };
    };
    // A slot holds the keys and values of one row, and those of two submodels differ.
    if let Some(layer) = (0..plan.n_layers()).find(|layer| plan.copies(*layer) > 1) {
        return Err(Error::PlanCache { layer, copies: plan.copies(layer) });
    }
    cache.check(spans)
}
