//! Products with a weight matrix, on all cores.

use burn::backend::{TensorMetadata, flex::FlexTensor};

use super::{
    kernel::{Values, tensor, zeros},
    product::{Mat, Size, Write, product},
};

const PARALLEL: Write = Write { add: false, factor: 1.0, parallel: true };

/// Fewer rows than this are a product of a vector, for which Burn's is better.
const FEWEST_ROWS: usize = 16;

/// Whether a call is worth it.
pub(super) fn fits(x: &FlexTensor) -> bool {
    x.shape()[0] >= FEWEST_ROWS
}

pub(super) fn forward(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), weight.shape().dims());
    let [x, weight] = [x, weight].map(Values::of);
    let mut y = zeros(rows * d_out);
    let (x, weight) = (Mat::rows(x.get(), d_in), Mat::rows(weight.get(), d_in));
    product(&mut y, d_out, x, weight.t(), Size { m: rows, n: d_out, k: d_in }, PARALLEL);
    tensor(y, &[rows, d_out])
}

pub(super) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), weight.shape().dims());
    let [x, weight, grad] = [x, weight, grad].map(Values::of);
    let (mut dx, mut dw) = (zeros(rows * d_in), zeros(d_out * d_in));
    let (x, grad) = (Mat::rows(x.get(), d_in), Mat::rows(grad.get(), d_out));
    let weight = Mat::rows(weight.get(), d_in);
    product(&mut dx, d_in, grad, weight, Size { m: rows, n: d_in, k: d_out }, PARALLEL);
    product(&mut dw, d_in, grad.t(), x, Size { m: d_out, n: d_in, k: rows }, PARALLEL);
    (tensor(dx, &[rows, d_in]), tensor(dw, &[d_out, d_in]))
}
