//! Cross-entropy in chunks of rows: logits of one chunk at a time.

use burn::backend::Flex;
use burn::backend::{TensorMetadata, flex::FlexTensor, ops::IntTensorOps};
use rayon::prelude::*;

use super::{
    head::HeadValues,
    kernel::{Values, probabilities, scale_by, softmax_terms, tensor, values_mut, zeros},
    product::{Mat, Size, Write, product},
};
use crate::ops::{CrossEntropySaved, Head, HeadGradients};

/// Rows of one chunk, at least and at most: every chunk reads the whole vocabulary's weights, and
/// twice more for its gradients.
const ROWS: std::ops::RangeInclusive<usize> = 128..=256;
/// Maximum number of logits per chunk (16 MiB), unless the minimum number of rows needs more.
const LOGITS: usize = 1 << 22;

/// Rows of one chunk.
pub(super) fn chunk(tokens: usize, vocab: usize) -> usize {
    (LOGITS / vocab.max(1)).clamp(*ROWS.start(), *ROWS.end()).min(tokens)
}

/// Number of values scaled by one task.
const SCALED: usize = 1 << 16;

pub(super) fn ids(targets: FlexTensor) -> Vec<usize> {
    let data = burn::tensor::read_sync(Flex::int_into_data(targets));
    match data {
        Ok(data) => data.iter::<i64>().map(|id| id as usize).collect(),
        Err(e) => unreachable!("host memory is readable: {e}"),
    }
}

/// What one pass over the logits finds: nats and log of the sum of exponentials of each token, and for a
/// gradient of one at every token those of hidden and weight, if they are wanted.
struct Pass {
    nats: Vec<f32>,
    lse: Vec<f32>,
    gradients: Option<HeadValues>,
}

pub(super) fn forward(hidden: FlexTensor, weight: FlexTensor, targets: FlexTensor) -> FlexTensor {
    let tokens = targets.shape().num_elements();
    tensor(pass(hidden, weight, targets, None).nats, &[tokens])
}

/// Computes the loss in nats. With the log-sum-exp, it also computes the gradients for an output gradient of one at
/// every token, so that logits are computed once per step instead of twice.
pub(super) fn ahead(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    head: Head,
) -> (FlexTensor, CrossEntropySaved<Flex>) {
    let [of_hidden, of_weight] = [&hidden, &weight].map(|t| t.shape().to_vec());
    let tokens = targets.shape().num_elements();
    let Pass { nats, lse, gradients } = pass(hidden, weight, targets, Some(head));
    let ahead = gradients.map(|found| found.into_tensors(&of_hidden, &of_weight));
    (tensor(nats, &[tokens]), CrossEntropySaved { lse: tensor(lse, &[tokens, 1]), ahead })
}

/// The factor of a gradient that is the same at every token.
fn uniform(grad: &[f32]) -> Option<f32> {
    let factor = grad.first().copied().unwrap_or(0.0);
    grad.iter().all(|g| *g == factor).then_some(factor)
}

/// Gradients of hidden and, if it is trained, weight.
pub(super) fn backward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    saved: CrossEntropySaved<Flex>,
    grad: FlexTensor,
    head: Head,
) -> HeadGradients<Flex> {
    match saved.ahead.and_then(|ahead| scaled(ahead, &grad)) {
        Some(found) => found,
        None => again([hidden, weight], targets, saved.lse, Values::of(grad), head),
    }
}

/// Scales gradients that were computed for an output gradient of one to `grad`; `None` if `grad` differs between
/// tokens.
pub(super) fn scaled(ahead: HeadGradients<Flex>, grad: &FlexTensor) -> Option<HeadGradients<Flex>> {
    let factor = uniform(Values::of(grad.clone()).get())?;
    let scaled = |mut t: FlexTensor| {
        values_mut(&mut t).par_chunks_mut(SCALED).for_each(|part| scale_by(part, factor));
        t
    };
    Some(HeadGradients { hidden: scaled(ahead.hidden), weight: ahead.weight.map(scaled) })
}

fn pass(hidden: FlexTensor, weight: FlexTensor, targets: FlexTensor, wanted: Option<Head>) -> Pass {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let (mut nats, mut lse) = (vec![0.0; tokens], vec![0.0; tokens]);
    let mut found = wanted.map(|head| HeadValues::zeros(head, tokens, vocab, d));
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
                if wanted.is_some() {
                    scale_by(logits, 1.0 / sum);
                    logits[*id] -= 1.0;
                }
            });
        if let Some(found) = &mut found {
            found.add(first, &logits, h, w, [rows, vocab, d]);
        }
    }
    Pass { nats, lse, gradients: found }
}

/// The gradients for another gradient at each token: from the logits, computed again.
fn again(
    [hidden, weight]: [FlexTensor; 2],
    targets: FlexTensor,
    lse: FlexTensor,
    grad: Values,
    head: Head,
) -> HeadGradients<Flex> {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let lse = Values::of(lse);
    let mut found = HeadValues::zeros(head, tokens, vocab, d);
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
        found.add(first, &logits, h, w, [rows, vocab, d]);
    }
    found.into_tensors(&[tokens, d], &[vocab, d])
}
