//! Products with a weight matrix, on all cores.

use burn::backend::{TensorMetadata, flex::FlexTensor};

use super::kernel::{Mat, Size, Values, Write, product, tensor, zeros};

const PARALLEL: Write = Write { add: false, factor: 1.0, parallel: true };

/// Fewer rows than this are a product of a vector, for which Burn's is better.
const FEWEST_ROWS: usize = 16;

/// Whether a call is worth it.
pub(super) fn fits(x: &FlexTensor) -> bool {
    x.shape()[0] >= FEWEST_ROWS
}

pub(super) fn forward(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let ([n, k], [_, m]) = (x.shape().dims(), weight.shape().dims());
    let [x, weight] = [x, weight].map(Values::of);
    let mut y = zeros(n * m);
    let (x, weight) = (Mat::rows(x.get(), k), Mat::rows(weight.get(), m));
    product(&mut y, m, x, weight, Size { m: n, n: m, k }, PARALLEL);
    tensor(y, &[n, m])
}

pub(super) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let ([n, k], [_, m]) = (x.shape().dims(), weight.shape().dims());
    let [x, weight, grad] = [x, weight, grad].map(Values::of);
    let (mut dx, mut dw) = (zeros(n * k), zeros(k * m));
    let (x, grad) = (Mat::rows(x.get(), k), Mat::rows(grad.get(), m));
    let weight = Mat::rows(weight.get(), m);
    product(&mut dx, k, grad, weight.t(), Size { m: n, n: k, k: m }, PARALLEL);
    product(&mut dw, m, x.t(), grad, Size { m: k, n: m, k: n }, PARALLEL);
    (tensor(dx, &[n, k]), tensor(dw, &[k, m]))
}
