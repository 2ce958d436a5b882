//! A product with a weight matrix.

use burn::backend::{Backend, Dispatch, tensor::FloatTensor};
use burn::tensor::Tensor;

use super::NnBackend;

/// `x · weight`.
///
/// # Shapes
/// - x: `[rows, d_in]`
/// - weight: `[d_in, d_out]`
/// - output: `[rows, d_out]`
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let y = <Dispatch as NnBackend>::project(x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(y)
}

pub(super) fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(x, weight)
}

pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dx = B::float_matmul(grad.clone(), B::float_transpose(weight));
    (dx, B::float_matmul(B::float_transpose(x), grad))
}
