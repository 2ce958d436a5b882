//! One forward for everything: training, evaluation, generation and serving differ in the plan
//! that they pass.

use std::ops::Range;

use burn::tensor::Tensor;
use matformer_core::{Block, Plan, Unit};

use crate::{Elastic, Error, Result, RowLoss, State};

/// Hidden states behind the last layer, for every submodel of a plan.
#[derive(Clone, Debug)]
pub struct Walked {
    hidden: Tensor<2>, // [output units · rows per unit · seq, d_model]
    outputs: Vec<Range<usize>>,
    unit: Unit,
    /// Positions of each row.
    pub seq: usize,
}

impl Walked {
    /// Hidden states of submodel `i` of the plan.
    ///
    /// # Shapes
    /// - output: `[rows·seq, d_model]`; for a plan of rows, the one row that the submodel has
    pub fn of(&self, i: usize) -> Tensor<2> {
        let Range { start, end } = self.outputs[i];
        let [n, d_model] = self.hidden.dims();
        match start == 0 && end == n {
            true => self.hidden.clone(),
            false => self.hidden.clone().slice([start..end, 0..d_model]),
        }
    }

    /// All hidden states as they lie, outputs of a plan of rows in the order of the rows.
    pub fn hidden(&self) -> Tensor<2> {
        self.hidden.clone()
    }
}

/// Walks a batch through all submodels of a plan.
///
/// Shared prefixes are computed once; each layer mixes once per distinct input. With a cache in
/// `state`, positions go on where the rows stand, and the cache then holds the new ones.
///
/// # Errors
/// When the plan is for another model or batch, or the cache is full.
pub fn walk<M: Elastic>(
    model: &M,
    input: &M::Input,
    plan: &Plan,
    state: &mut State,
) -> Result<Walked> {
    check_layers(model, plan)?;
    let (hidden, ctx) = model.stem(input, state)?;
    let (rows, seq) = (hidden.rows, hidden.seq);
    if plan.unit() == Unit::Row && plan.submodels().len() != rows {
        return Err(Error::PlanRows { found: rows, expected: plan.submodels().len() });
    }
    if let Some(cache) = state.cache() {
        cache.check(seq)?;
    }
    // Hidden rows of one unit of the plan.
    let unit = match plan.unit() {
        Unit::Batch => rows * seq,
        Unit::Row => seq,
    };
    let mut x = hidden.x; // [units·unit, d_model]
    for (layer, blocks) in plan.layers().iter().enumerate() {
        x = model.mix(layer, x, &ctx, state);
        x = model.ffn(layer, x, &ctx, &in_hidden_rows(blocks, unit));
    }
    if let Some(cache) = state.cache_mut() {
        cache.advance(seq);
    }
    let outputs = plan.outputs().iter().map(|r| r.start * unit..r.end * unit).collect();
    Ok(Walked { hidden: x, outputs, unit: plan.unit(), seq })
}

/// Loss of every submodel of a walked plan, row by row: the head runs once per distinct output.
pub fn row_losses<M: Elastic>(model: &M, walked: &Walked, target: &M::Target) -> Vec<RowLoss> {
    if walked.unit == Unit::Row {
        let all = model.loss(walked.hidden(), target);
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
            let loss = model.loss(walked.of(i), target);
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

fn in_hidden_rows(blocks: &[Block], unit: usize) -> Vec<Block> {
    blocks
        .iter()
        .map(|b| Block { start: b.start * unit, end: b.end * unit, width: b.width })
        .collect()
}
