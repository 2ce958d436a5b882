//! Cross-entropy in chunks of rows: logits of one chunk at a time.

use burn::backend::Flex;
use burn::backend::{TensorMetadata, flex::FlexTensor, ops::IntTensorOps};
use rayon::prelude::*;

use super::{
    kernel::{Values, probabilities, scale_by, softmax_terms, tensor, values_mut, zeros},
    product::{Mat, Size, Write, product},
};
use crate::ops::CrossEntropySaved;

/// Rows of one chunk, at least and at most: every chunk reads the whole vocabulary's weights, and
/// twice more for its gradients.
const ROWS: std::ops::RangeInclusive<usize> = 128..=256;
/// Logits of one chunk at most, above the fewest rows: 16 MiB.
const LOGITS: usize = 1 << 22;

/// Rows of one chunk.
pub(super) fn chunk(tokens: usize, vocab: usize) -> usize {
    (LOGITS / vocab.max(1)).clamp(*ROWS.start(), *ROWS.end()).min(tokens)
}

/// Values that one task scales.
const SCALED: usize = 1 << 16;

pub(super) fn ids(targets: FlexTensor) -> Vec<usize> {
    let data = burn::tensor::read_sync(Flex::int_into_data(targets));
    match data {
        Ok(data) => data.iter::<i64>().map(|id| id as usize).collect(),
        Err(e) => unreachable!("host memory is readable: {e}"),
    }
}

/// What one pass over the logits finds: nats and log of the sum of exponentials of each token, and
/// for a gradient of one at every token those of hidden and weight, if they are wanted.
struct Pass {
    nats: Vec<f32>,
    lse: Vec<f32>,
    gradients: Option<[Vec<f32>; 2]>,
}

pub(super) fn forward(hidden: FlexTensor, weight: FlexTensor, targets: FlexTensor) -> FlexTensor {
    let tokens = targets.shape().num_elements();
    tensor(pass(hidden, weight, targets, false).nats, &[tokens])
}

/// Nats, and with the log of the sum of exponentials the gradients of hidden and weight for a
/// gradient of one at every token: logits are computed once a step instead of twice.
pub(super) fn ahead(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
) -> (FlexTensor, CrossEntropySaved<Flex>) {
    let [of_hidden, of_weight] = [&hidden, &weight].map(|t| t.shape().to_vec());
    let tokens = targets.shape().num_elements();
    let Pass { nats, lse, gradients } = pass(hidden, weight, targets, true);
    let ahead = gradients.map(|[dh, dw]| [tensor(dh, &of_hidden), tensor(dw, &of_weight)]);
    (tensor(nats, &[tokens]), CrossEntropySaved { lse: tensor(lse, &[tokens, 1]), ahead })
}

/// The factor of a gradient that is the same at every token.
fn uniform(grad: &[f32]) -> Option<f32> {
    let factor = grad.first().copied().unwrap_or(0.0);
    grad.iter().all(|g| *g == factor).then_some(factor)
}

/// Gradients of hidden and weight.
pub(super) fn backward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    saved: CrossEntropySaved<Flex>,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    match saved.ahead.and_then(|ahead| scaled(ahead, &grad)) {
        Some(found) => found,
        None => again(hidden, weight, targets, saved.lse, Values::of(grad)),
    }
}

/// Gradients that were made for a gradient of one at every token, scaled to `grad`; `None` if that
/// is not the same at every token.
pub(super) fn scaled(
    ahead: [FlexTensor; 2],
    grad: &FlexTensor,
) -> Option<(FlexTensor, FlexTensor)> {
    let factor = uniform(Values::of(grad.clone()).get())?;
    let [dh, dw] = ahead.map(|mut t: FlexTensor| {
        values_mut(&mut t).par_chunks_mut(SCALED).for_each(|part| scale_by(part, factor));
        t
    });
    Some((dh, dw))
}

fn pass(hidden: FlexTensor, weight: FlexTensor, targets: FlexTensor, gradients: bool) -> Pass {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let (mut nats, mut lse) = (vec![0.0; tokens], vec![0.0; tokens]);
    let mut found = gradients.then(|| [zeros(tokens * d), zeros(vocab * d)]);
    let chunk = chunk(tokens, vocab);
    let mut logits = zeros(chunk * vocab);
    for first in (0..tokens).step_by(chunk.max(1)) {
        let rows = chunk.min(tokens - first);
        let (h, w) = (Mat::rows(&hidden.get()[first * d..], d), Mat::rows(weight.get(), d));
        let size = Size { m: rows, n: vocab, k: d };
        product(&mut logits, vocab, h, w.t(), size, Write::PARALLEL);
        logits[..rows * vocab]
            .par_chunks_mut(vocab)
            .zip(&ids[first..first + rows])
            .zip(nats[first..first + rows].par_iter_mut().zip(&mut lse[first..first + rows]))
            .for_each(|((logits, id), (nats, lse))| {
                let picked = logits[*id];
                let (max, sum) = softmax_terms(logits);
                *lse = max + sum.ln();
                *nats = *lse - picked;
                if gradients {
                    scale_by(logits, 1.0 / sum);
                    logits[*id] -= 1.0;
                }
            });
        if let Some([d_hidden, d_weight]) = &mut found {
            chunk_gradients(&logits, h, w, [rows, vocab, d], &mut d_hidden[first * d..], d_weight);
        }
    }
    Pass { nats, lse, gradients: found }
}

/// From the gradient of a chunk's logits to those of its hidden states and its part of weight's.
pub(super) fn chunk_gradients(
    d_logits: &[f32],
    hidden: Mat<'_>,
    weight: Mat<'_>,
    [rows, vocab, d]: [usize; 3],
    d_hidden: &mut [f32],
    d_weight: &mut [f32],
) {
    let d_logits = Mat::rows(d_logits, vocab);
    product(d_hidden, d, d_logits, weight, Size { m: rows, n: d, k: vocab }, Write::PARALLEL);
    let size = Size { m: vocab, n: d, k: rows };
    product(d_weight, d, d_logits.t(), hidden, size, Write { add: true, ..Write::PARALLEL });
}

/// The gradients for another gradient at each token: from the logits, computed again.
fn again(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    lse: FlexTensor,
    grad: Values,
) -> (FlexTensor, FlexTensor) {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let lse = Values::of(lse);
    let (mut d_hidden, mut d_weight) = (zeros(tokens * d), zeros(vocab * d));
    let chunk = chunk(tokens, vocab);
    let mut logits = zeros(chunk * vocab);
    for first in (0..tokens).step_by(chunk.max(1)) {
        let rows = chunk.min(tokens - first);
        let range = first..first + rows;
        let (h, w) = (Mat::rows(&hidden.get()[first * d..], d), Mat::rows(weight.get(), d));
        let size = Size { m: rows, n: vocab, k: d };
        product(&mut logits, vocab, h, w.t(), size, Write::PARALLEL);
        // dlogits = (softmax − onehot)·grad
        logits[..rows * vocab]
            .par_chunks_mut(vocab)
            .zip(&ids[range.clone()])
            .zip(lse.get()[range.clone()].par_iter().zip(&grad.get()[range]))
            .for_each(|((logits, id), (lse, grad))| {
                probabilities(logits, *lse, *grad);
                logits[*id] -= grad;
            });
        chunk_gradients(&logits, h, w, [rows, vocab, d], &mut d_hidden[first * d..], &mut d_weight);
    }
    (tensor(d_hidden, &[tokens, d]), tensor(d_weight, &[vocab, d]))
}
