//! What a model offers to the walk, and through it to training, evaluation and generation.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use matformer_core::{Block, Space};

use crate::{Result, State};

/// Hidden states of a batch.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// `[rows·seq, d_model]`
    pub x: Tensor<2>,
    /// Rows of the batch.
    pub rows: usize,
    /// Positions of each row.
    pub seq: usize,
}

/// Loss of each row as a sum and a count: divided once, at the end.
#[derive(Clone, Debug)]
pub struct RowLoss {
    /// Sum of nats over the row's targets, `[rows]`.
    pub nats: Tensor<1>,
    /// Targets of each row, padding left out.
    pub counts: Vec<usize>,
}

/// An elastic transformer: anything whose layers are a mixing half and a nested feed-forward
/// half. Implement it, and [`Folder`](crate::Folder) for its files, and every part of the
/// toolkit runs on it.
pub trait Elastic: Module {
    /// What goes in (token ids; images).
    type Input: Clone;
    /// What should come out (next tokens; labels).
    type Target: Clone;
    /// What the layers of one walk share (positions).
    type Context;

    /// Layers, widths and granularities.
    fn space(&self) -> &Space;

    /// Width of the feed-forward matrices that a layer holds.
    fn d_ff(&self, layer: usize) -> usize;

    /// The stem: input to hidden states, and what the layers need to know of it.
    ///
    /// # Errors
    /// When the input does not fit the model (a token beyond the vocabulary, a row too long).
    fn stem(&self, input: &Self::Input, state: &State) -> Result<(Hidden, Self::Context)>;

    /// The mixing half of a layer: attention with its residual.
    ///
    /// # Shapes
    /// - x: `[units·seq, d_model]`, where units is a multiple of the batch's rows
    /// - output: as x
    fn mix(&self, layer: usize, x: Tensor<2>, ctx: &Self::Context, state: &mut State) -> Tensor<2>;

    /// The feed-forward half of a layer with its residual, at the widths of `blocks`.
    ///
    /// # Shapes
    /// - x: `[rows, d_model]`; blocks name ranges of its rows
    /// - output: `[Σ block rows, d_model]`, stacked in the order of the blocks
    fn ffn(&self, layer: usize, x: Tensor<2>, ctx: &Self::Context, blocks: &[Block]) -> Tensor<2>;

    /// The head's loss of one copy of the batch.
    ///
    /// # Shapes
    /// - hidden: `[rows·seq, d_model]`, as the last layer left it
    fn loss(&self, hidden: Tensor<2>, target: &Self::Target) -> RowLoss;

    /// The head's output.
    ///
    /// # Shapes
    /// - hidden: `[n, d_model]`, as the last layer left it
    /// - output: `[n, vocab or classes]`
    fn head(&self, hidden: Tensor<2>) -> Tensor<2>;

    /// Which hidden rows the loss counts: 1 where it does, 0 where it does not; all if `None`.
    ///
    /// # Shapes
    /// - output: `[rows·seq]`
    fn counted(&self, _: &Self::Target) -> Option<Tensor<1>> {
        None
    }

    /// The device that holds the weights.
    fn device(&self) -> Device {
        self.devices().into_iter().next().unwrap_or_default()
    }
}
