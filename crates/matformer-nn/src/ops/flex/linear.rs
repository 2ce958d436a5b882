//! Products with a weight matrix, on all cores.

use burn::backend::{TensorMetadata, flex::FlexTensor};

use super::{
    kernel::{Rows, Values, tensor, zeros},
    product::{Mat, Size, Write, product},
};

/// Products of numbers below which a call stays on one core: about 20 µs.
const FEW: usize = 1 << 20;

/// Whether a call is worth it: for a single row Burn's product of a vector is better.
pub(super) fn fits(x: &FlexTensor) -> bool {
    x.shape()[0] > 1
}

/// The weight may be a view of some columns.
pub(super) fn forward(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
    let ([rows, d_in], [d_out, _]) = (x.shape().dims(), weight.shape().dims());
    let [x, weight] = [x, weight].map(Rows::of);
    let mut y = zeros(rows * d_out);
    let write = Write { parallel: rows * d_in * d_out >= FEW, ..Write::PARALLEL };
    let size = Size { m: rows, n: d_out, k: d_in };
    product(&mut y, d_out, x.mat(), weight.mat().t(), size, write);
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
    product(&mut dx, d_in, grad, weight, Size { m: rows, n: d_in, k: d_out }, Write::PARALLEL);
    product(&mut dw, d_in, grad.t(), x, Size { m: d_out, n: d_in, k: rows }, Write::PARALLEL);
    (tensor(dx, &[rows, d_in]), tensor(dw, &[d_out, d_in]))
}
