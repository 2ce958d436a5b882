//! Cross-entropy in chunks of rows: logits of one chunk at a time.

use burn::backend::Flex;
use burn::backend::{TensorMetadata, flex::FlexTensor, ops::IntTensorOps};
use rayon::prelude::*;

use super::kernel::{Mat, Size, Values, Write, probabilities, product, softmax_terms, tensor};

/// Rows of one chunk: small enough that its logits stay in the cache, large enough for products.
const CHUNK: usize = 128;

const PARALLEL: Write = Write { add: false, factor: 1.0, parallel: true };

fn ids(targets: FlexTensor) -> Vec<usize> {
    let data = burn::tensor::read_sync(Flex::int_into_data(targets));
    match data {
        Ok(data) => data.iter::<i64>().map(|id| id as usize).collect(),
        Err(e) => unreachable!("host memory is readable: {e}"),
    }
}

pub(super) fn forward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let (mut nats, mut lse) = (vec![0.0; tokens], vec![0.0; tokens]);
    let mut logits = vec![0.0; CHUNK.min(tokens) * vocab];
    for first in (0..tokens).step_by(CHUNK) {
        let rows = CHUNK.min(tokens - first);
        let h = Mat::rows(&hidden.get()[first * d..], d);
        let size = Size { m: rows, n: vocab, k: d };
        product(&mut logits, vocab, h, Mat::rows(weight.get(), d).t(), size, PARALLEL);
        logits[..rows * vocab]
            .par_chunks_mut(vocab)
            .zip(&ids[first..first + rows])
            .zip(nats[first..first + rows].par_iter_mut().zip(&mut lse[first..first + rows]))
            .for_each(|((logits, id), (nats, lse))| {
                let picked = logits[*id];
                let (max, sum) = softmax_terms(logits);
                *lse = max + sum.ln();
                *nats = *lse - picked;
            });
    }
    (tensor(nats, &[tokens]), tensor(lse, &[tokens, 1]))
}

pub(super) fn backward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    lse: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let ([tokens, d], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let (hidden, weight, ids) = (Values::of(hidden), Values::of(weight), ids(targets));
    let (lse, grad) = (Values::of(lse), Values::of(grad));
    let (mut d_hidden, mut d_weight) = (vec![0.0; tokens * d], vec![0.0; vocab * d]);
    let mut logits = vec![0.0; CHUNK.min(tokens) * vocab];
    for first in (0..tokens).step_by(CHUNK) {
        let rows = CHUNK.min(tokens - first);
        let range = first..first + rows;
        let h = Mat::rows(&hidden.get()[first * d..], d);
        let w = Mat::rows(weight.get(), d);
        let size = Size { m: rows, n: vocab, k: d };
        product(&mut logits, vocab, h, w.t(), size, PARALLEL);
        // dlogits = (softmax − onehot)·grad
        logits[..rows * vocab]
            .par_chunks_mut(vocab)
            .zip(&ids[range.clone()])
            .zip(lse.get()[range.clone()].par_iter().zip(&grad.get()[range]))
            .for_each(|((logits, id), (lse, grad))| {
                probabilities(logits, *lse, *grad);
                logits[*id] -= grad;
            });
        let d_logits = Mat::rows(&logits, vocab);
        let size = Size { m: rows, n: d, k: vocab };
        product(&mut d_hidden[first * d..], d, d_logits, w, size, PARALLEL);
        let size = Size { m: vocab, n: d, k: rows };
        product(&mut d_weight, d, d_logits.t(), h, size, Write { add: true, ..PARALLEL });
    }
    (tensor(d_hidden, &[tokens, d]), tensor(d_weight, &[vocab, d]))
}
