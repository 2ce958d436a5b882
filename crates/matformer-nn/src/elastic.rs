//! The trait through which the forward pass (`walk`), and thus training, evaluation and generation, use a model.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use matformer_core::{Block, Space, Spans, Submodel};

use crate::{
    Error, Result, State,
    ops::{DistillationWeights, Divergence, divergence_of_logits},
};

/// Hidden states of a batch.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// `[tokens, d_model]`
    pub x: Tensor<2>,
    /// The rows that the tokens belong to.
    pub spans: Spans,
}

/// The context of one layer in a forward pass: everything that its two halves may need besides their input.
#[derive(Debug)]
pub struct Pass<'a, C> {
    /// Index of the layer.
    pub layer: usize,
    /// The layer's blocks, in rows of the hidden state.
    pub blocks: &'a [Block],
    /// Spans of the hidden states: those of the batch, repeated once for each copy of the batch in
    /// this layer.
    pub spans: &'a Spans,
    /// What the layers of this forward pass share.
    pub context: &'a C,
    /// KV cache and random seed of the forward pass.
    pub state: &'a mut State,
}

impl<C> Pass<'_, C> {
    /// The input of a half of a layer in the dtype that the forward pass computes in.
    ///
    /// # Shapes
    /// - x: any; output: as x
    pub fn low(&self, x: Tensor<2>) -> Tensor<2> {
        x.cast(self.state.compute())
    }
}

/// Casts the output of a half of a layer to f32, the dtype of the residual stream.
///
/// # Shapes
/// - x: any; output: as x
pub fn residual(x: Tensor<2>) -> Tensor<2> {
    x.cast(FloatDType::F32)
}

/// Hidden states after the last layer, of one submodel or of one submodel per row.
#[derive(Clone, Debug)]
pub struct Output {
    /// `[tokens, d_model]`
    pub hidden: Tensor<2>,
    /// The rows that the tokens belong to.
    pub spans: Spans,
    /// One for all rows, or one per row.
    submodels: Vec<Submodel>,
    compute: FloatDType,
}

impl Output {
    pub(crate) fn new(
        hidden: Tensor<2>,
        spans: Spans,
        submodels: Vec<Submodel>,
        compute: FloatDType,
    ) -> Self {
        Self { hidden, spans, submodels, compute }
    }

    /// An input of the head in the dtype that the forward pass computed in.
    ///
    /// # Shapes
    /// - x: any; output: as x
    pub fn low(&self, x: Tensor<2>) -> Tensor<2> {
        x.cast(self.compute)
    }

    /// The submodel that a row went through.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn submodel(&self, row: usize) -> &Submodel {
        match &self.submodels[..] {
            [one] => one,
            by_row => &by_row[row],
        }
    }

    /// The output at the last token of every row, from which generation continues.
    pub fn last(&self) -> Self {
        let rows = self.spans.rows();
        let ends = (0..rows).map(|row| self.spans.tokens_of(row..row + 1).end as i32 - 1);
        let ends = TensorData::new(ends.collect::<Vec<_>>(), [rows]);
        let ends = Tensor::<1, Int>::from_data(ends, &self.hidden.device());
        let last = |span: &matformer_core::Span| matformer_core::Span {
            start: span.start + span.len - 1,
            len: 1,
            ..*span
        };
        Self {
            hidden: self.hidden.clone().select(0, ends),
            spans: Spans::new(self.spans.iter().map(last).collect()),
            submodels: self.submodels.clone(),
            compute: self.compute,
        }
    }

    /// Other hidden states of the same tokens.
    pub fn with_hidden(self, hidden: Tensor<2>) -> Self {
        Self { hidden, ..self }
    }
}

/// Summed loss and number of targets of each row. The mean is taken once, over all rows.
#[derive(Clone, Debug)]
pub struct RowLoss {
    /// Sum of nats over the row's targets, `[rows]`.
    pub nats: Tensor<1>,
    /// Number of targets of each row, without padding.
    pub counts: Vec<usize>,
}

/// What a student learns from: an output of a teacher, which is the student's own model or another of
/// the same kind.
#[derive(Debug)]
pub struct Taught<'a, M: ?Sized> {
    /// The teacher.
    pub model: &'a M,
    /// Its output on the student's batch, detached.
    pub output: &'a Output,
}

/// An elastic transformer: anything whose layers are a mixing half and a nested feed-forward
/// half. Implement it, and [`Folder`](crate::Folder) for its files, and every part of the
/// toolkit runs on it.
pub trait Elastic {
    /// What goes in (token ids; images).
    type Input: Clone;
    /// What should come out (next tokens; labels).
    type Target: Clone;
    /// What the layers of one forward pass share (rotary table).
    type Context;

    /// Layers, widths and granularities.
    fn space(&self) -> &Space;

    /// Width of the feed-forward matrices that a layer holds.
    fn d_ff(&self, layer: usize) -> usize;

    /// The device that holds the weights.
    fn device(&self) -> Device;

    /// Embeds the input. Returns the hidden states `[tokens, d_model]` with their spans, and the
    /// context that all layers of the forward pass share. `state` has the noise of the forward pass, if any.
    ///
    /// # Errors
    /// When the input does not fit the model (a token beyond the vocabulary, a row too long).
    fn stem(&self, input: &Self::Input, state: &State) -> Result<(Hidden, Self::Context)>;

    /// The mixing half of a layer: attention with its residual.
    ///
    /// # Shapes
    /// - x: `[tokens, d_model]`, the tokens of `pass.spans`
    /// - output: as x
    fn mix(&self, x: Tensor<2>, pass: &mut Pass<'_, Self::Context>) -> Tensor<2>;

    /// The feed-forward half of a layer with its residual, at the widths of `pass.blocks`.
    ///
    /// # Shapes
    /// - x: `[tokens, d_model]`; blocks name ranges of its rows
    /// - output: `[Σ block rows, d_model]`, stacked in the order of the blocks
    fn ffn(&self, x: Tensor<2>, pass: &mut Pass<'_, Self::Context>) -> Tensor<2>;

    /// The loss of each row.
    fn loss(&self, output: &Output, target: &Self::Target) -> RowLoss;

    /// Computes the logits.
    ///
    /// # Shapes
    /// - output.hidden: `[tokens, d_model]`
    /// - output: `[tokens, vocab]` of a model that predicts at every token, `[rows, classes]` of
    ///   one that predicts once per row
    fn head(&self, output: &Output) -> Tensor<2>;

    /// Distillation loss: `temperature² · KL` between the output distributions of a teacher and a
    /// student, an output of this model, summed over the targets of each row. No gradient goes to the
    /// teacher.
    ///
    /// The default compares the outputs of [`head`](Self::head) and counts every one of their rows
    /// as a target. Override it if some targets are masked, if there are several heads, or if the
    /// logits of a batch are too large to be held at once.
    fn divergence(
        &self,
        student: &Output,
        teacher: Taught<'_, Self>,
        _: &Self::Target,
        rule: Divergence,
    ) -> RowLoss {
        let (student_logits, teacher) = (self.head(student), teacher.model.head(teacher.output));
        let [answers, _] = student_logits.dims();
        let nats = divergence_of_logits(student_logits, teacher.detach(), rule);
        if answers == student.spans.rows() {
            return RowLoss { nats, counts: vec![1; answers] };
        }
        RowLoss {
            nats: sum_by_row(nats, &student.spans),
            counts: student.spans.iter().map(|span| span.len).collect(),
        }
    }

    /// [`loss`](Self::loss) and [`divergence`](Self::divergence) of a student, weighted and added.
    ///
    /// Override it if both can be had from one product with the head.
    fn taught_loss(
        &self,
        student: &Output,
        teacher: Taught<'_, Self>,
        target: &Self::Target,
        rule: Divergence,
        weights: DistillationWeights,
    ) -> TaughtLoss {
        let RowLoss { nats, counts } = self.loss(student, target);
        let divergence = self.divergence(student, teacher, target, rule).nats;
        let total = nats.clone() * weights.cross_entropy + divergence.clone() * weights.divergence;
        TaughtLoss { total, nats, divergence, counts }
    }
}

/// What a student learns from data and from a teacher, summed over the targets of each row.
#[derive(Clone, Debug)]
pub struct TaughtLoss {
    /// The loss that is minimised, `[rows]`: `cross_entropy` times the nats plus `divergence` times the
    /// divergence, of the [`DistillationWeights`].
    pub total: Tensor<1>,
    /// Sum of nats, `[rows]`; it may have no gradient.
    pub nats: Tensor<1>,
    /// Sum of the divergences, `[rows]`; it may have no gradient.
    pub divergence: Tensor<1>,
    /// Number of targets of each row, without padding.
    pub counts: Vec<usize>,
}

/// The column of each row's largest value; the first of equal ones.
///
/// # Shapes
/// - logits: `[n, classes]`; output: n
///
/// # Errors
/// When the device cannot be read.
pub fn likeliest(logits: Tensor<2>) -> Result<Vec<u32>> {
    let n = logits.dims()[0];
    let columns: Vec<i32> = logits
        .argmax(1)
        .reshape([n])
        .try_into_vec_as()
        .map_err(|error| Error::read("the likeliest classes", error))?;
    Ok(columns.into_iter().map(|column| column as u32).collect())
}

/// Sums what each token has over the tokens of each row.
///
/// # Shapes
/// - x: `[tokens]`; output: `[rows]`
pub fn sum_by_row(x: Tensor<1>, spans: &Spans) -> Tensor<1> {
    let rows = spans.rows();
    if let Some(len) = spans.common_len() {
        return x.reshape([rows, len]).sum_dim(1).reshape([rows]);
    }
    let sum = |row| x.clone().slice([spans.tokens_of(row..row + 1)]).sum();
    Tensor::cat((0..rows).map(sum).collect(), 0)
}
