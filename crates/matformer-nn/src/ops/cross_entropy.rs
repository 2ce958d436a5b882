//! Cross-entropy straight from hidden states: never more logits in memory than one chunk.

use burn::backend::{
    Backend, Dispatch, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{IndexingUpdateOp, Int, Shape, Slice, Tensor};

use super::{Head, HeadGradients, NnBackend, head::HeadSum, nested_ffn::rows_of, precision::wide};

/// Logits held at a time, in elements.
const CHUNK_ELEMENTS: usize = 1 << 21;

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

/// Row ranges whose logits fit a chunk; at least 16 rows, so that the products stay products.
pub(super) fn chunks(tokens: usize, vocab: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let rows = (CHUNK_ELEMENTS / vocab.max(1)).max(16);
    (0..tokens).step_by(rows).map(move |at| at..(at + rows).min(tokens))
}

/// Targets of a chunk as a column `[rows, 1]`.
fn column<B: Backend>(targets: &IntTensor<B>, range: &std::ops::Range<usize>) -> IntTensor<B> {
    let part = B::int_slice(targets.clone(), &[Slice::from(range.clone())]);
    B::int_reshape(part, Shape::new([range.len(), 1]))
}

pub(super) fn forward<B: Backend>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let ([tokens, _], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (mut nats, mut lses) = (Vec::new(), Vec::new());
    for range in chunks(tokens, vocab) {
        let h = rows_of::<B>(&hidden, &range);
        let logits = wide::<B>(B::float_matmul(h, B::float_transpose(weight.clone()))); // [chunk, vocab]
        let picked = B::float_gather(1, logits.clone(), column::<B>(&targets, &range)); // [chunk, 1]
        let max = B::float_max_dim(logits.clone(), 1);
        let sum = B::float_sum_dim(B::float_exp(B::float_sub(logits, max.clone())), 1);
        let lse = B::float_add(B::float_log(sum), max);
        nats.push(B::float_sub(lse.clone(), picked));
        lses.push(lse);
    }
    let nats = B::float_reshape(B::float_cat(nats, 0), Shape::new([tokens]));
    (nats, B::float_cat(lses, 0))
}

pub(super) fn backward<B: Backend>(
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
        let g = rows_of::<B>(&grad, &range); // [chunk, 1]
        let logits = wide::<B>(B::float_matmul(h.clone(), B::float_transpose(weight.clone())));
        // dlogits = (softmax − onehot)·g
        let p = B::float_exp(B::float_sub(logits, rows_of::<B>(&lse, &range)));
        let d_logits = B::float_scatter(
            1,
            B::float_mul(p, g.clone()),
            column::<B>(&targets, &range),
            B::float_neg(g),
            IndexingUpdateOp::Add,
        );
        found.add(d_logits, h, weight.clone());
    }
    found.finish(&weight)
}
