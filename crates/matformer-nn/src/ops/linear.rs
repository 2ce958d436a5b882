//! A product with a weight matrix.

use burn::backend::{Backend, Dispatch, tensor::FloatTensor};
use burn::tensor::{FloatDType, Tensor};

use super::NnBackend;
use crate::Weight;

/// `x · weightᵀ`, in the dtype of x.
///
/// # Shapes
/// - x: `[rows, d_in]`
/// - weight: `[d_out, d_in]`
/// - output: `[rows, d_out]`
pub fn linear(x: Tensor<2>, weight: &Weight) -> Tensor<2> {
    let [d_out, d_in] = weight.shape();
    let weight = weight.part(d_out, d_in, &x.device()).cast(FloatDType::from(x.dtype()));
    let y = <Dispatch as NnBackend>::project(x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(y)
}

pub(super) fn forward<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(x, B::float_transpose(weight))
}

/// Gradients of x and weight.
pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dx = B::float_matmul(grad.clone(), weight);
    (dx, B::float_matmul(B::float_transpose(grad), x))
}
