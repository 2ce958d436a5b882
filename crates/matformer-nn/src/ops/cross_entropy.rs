//! Cross-entropy straight from hidden states: never more logits in memory than one chunk.

use std::ops::Range;

use burn::backend::{
    Backend, Dispatch, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{IndexingUpdateOp, Int, Shape, Slice, Tensor};

use super::{
    Head, HeadGradients, NnBackend, RowBackend,
    head::HeadSum,
    nested_ffn::{cat, rows_of},
    precision::{stored_as, wide},
};

/// Logits held at a time, in elements, where that are more than [`FEWEST`] rows: products that fill a GPU. In
/// tests fewer, so that they have several chunks.
const CHUNK_ELEMENTS: usize = if cfg!(test) { 1 << 21 } else { 1 << 25 };

/// Rows of a chunk at least: each reads the whole head, and adds to all of its gradient.
const FEWEST: usize = if cfg!(test) { 16 } else { 512 };

/// Tensors saved for the backward pass.
#[derive(Clone, Debug)]
pub struct CrossEntropySaved<B: Backend> {
    /// Log-sum-exp of each token's logits, `[tokens, 1]`.
    pub lse: FloatTensor<B>,
    /// Gradients for an output gradient of 1 at every token, if the backend computes them in the
    /// forward pass to avoid recomputing the logits.
    pub ahead: Option<HeadGradients<B>>,
}

/// Negative log-likelihood of each target under `softmax(hidden · weightᵀ)`, in nats.
///
/// # Shapes
/// - hidden: `[tokens, d_model]`
/// - weight: `[vocab, d_model]`
/// - targets: `[tokens]`, each below vocab
/// - output: `[tokens]`
pub fn cross_entropy(hidden: Tensor<2>, weight: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let nats = <Dispatch as NnBackend>::cross_entropy(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        targets.into_dispatch(),
    );
    Tensor::from_dispatch(nats)
}

/// Row ranges whose logits fit a chunk.
pub(super) fn chunks(tokens: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let rows = (CHUNK_ELEMENTS / vocab.max(1)).max(FEWEST);
    (0..tokens).step_by(rows).map(move |at| at..(at + rows).min(tokens))
}

/// Targets of a chunk.
pub(super) fn targets_of<B: Backend>(targets: &IntTensor<B>, range: &Range<usize>) -> IntTensor<B> {
    B::int_slice(targets.clone(), &[Slice::from(range.clone())])
}

/// Logits of rows of hidden states, `[rows, vocab]`.
pub(super) fn logits<B: Backend>(
    hidden: FloatTensor<B>,
    weight: &FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_matmul(hidden, B::float_transpose(weight.clone()))
}

/// As a column `[rows, 1]`.
fn column<B: Backend>(targets: IntTensor<B>) -> IntTensor<B> {
    let rows = targets.shape()[0];
    B::int_reshape(targets, Shape::new([rows, 1]))
}

/// The reference of [`RowBackend::logit_nats`].
pub(super) fn of_logits<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let logits = wide::<B>(logits);
    let picked = B::float_gather(1, logits.clone(), column::<B>(targets)); // [rows, 1]
    let max = B::float_max_dim(logits.clone(), 1);
    let sum = B::float_sum_dim(B::float_exp(B::float_sub(logits, max.clone())), 1);
    let lse = B::float_add(B::float_log(sum), max);
    (B::float_sub(lse.clone(), picked), lse)
}

/// The reference of [`RowBackend::logit_nats_backward`]: (softmax − onehot)·grad.
pub(super) fn gradient_of_logits<B: Backend>(
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let dtype = logits.dtype();
    let p = B::float_exp(B::float_sub(wide::<B>(logits), lse));
    let spread = B::float_mul(p, grad.clone());
    let (at, less) = (column::<B>(targets), B::float_neg(grad));
    let found = B::float_scatter(1, spread, at, less, IndexingUpdateOp::Add);
    stored_as::<B>(found, dtype)
}

pub(super) fn forward<B: RowBackend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let ([tokens, _], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let of_chunk = |range: Range<usize>| {
        let logits = logits::<B>(rows_of::<B>(&hidden, &range), &weight);
        B::logit_nats(logits, targets_of::<B>(&targets, &range))
    };
    let (nats, lse) = chunks(tokens, vocab).map(of_chunk).unzip();
    (B::float_reshape(cat::<B>(nats, 0), Shape::new([tokens])), cat::<B>(lse, 0))
}

pub(super) fn backward<B: RowBackend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    head: Head,
) -> HeadGradients<B> {
    let ([tokens, _], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let grad = B::float_reshape(grad, Shape::new([tokens, 1]));
    let mut found = HeadSum::<B>::of(head);
    for range in chunks(tokens, vocab) {
        let h = rows_of::<B>(&hidden, &range);
        let d_logits = B::logit_nats_backward(
            logits::<B>(h.clone(), &weight),
            targets_of::<B>(&targets, &range),
            rows_of::<B>(&lse, &range),
            rows_of::<B>(&grad, &range),
        );
        found.add(d_logits, h, weight.clone());
    }
    found.finish(&weight)
}
