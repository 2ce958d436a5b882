//! Root-mean-square norm.

use burn::backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};

use super::{
    NnBackend,
    precision::{stored_as, wide},
};

/// `x / √(mean(x²) + eps) · weight` over the last dimension (Zhang and Sennrich 2019).
///
/// # Shapes
/// - x: `[rows, d]`
/// - weight: `[d]`
/// - output: `[rows, d]`
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NnBackend>::rms_norm(x, weight, eps))
}

/// The weight as a row `[1, d]` that broadcasts.
pub(super) fn row<B: Backend>(weight: FloatTensor<B>) -> FloatTensor<B> {
    let d = weight.shape()[0];
    B::float_reshape(weight, Shape::new([1, d]))
}

pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    eps: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (dtype, x, weight) = (x.dtype(), wide::<B>(x), wide::<B>(weight));
    let square = B::float_mul(x.clone(), x.clone());
    let mean = B::float_mean_dim(square, 1); // [rows, 1]
    let scale = B::float_recip(B::float_sqrt(B::float_add_scalar(mean, (eps as f32).into())));
    let y = B::float_mul(B::float_mul(x, scale.clone()), row::<B>(weight));
    (stored_as::<B>(y, dtype), scale)
}

pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    scale: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let d = weight.shape()[0];
    let [of_x, of_weight] = [x.dtype(), weight.dtype()];
    let [x, weight, grad] = [x, weight, grad].map(wide::<B>);
    let normed = B::float_mul(x, scale.clone()); // [rows, d]
    let dw = B::float_sum_dim(B::float_mul(grad.clone(), normed.clone()), 0);
    let gw = B::float_mul(grad, row::<B>(weight));
    // dx = scale·(g·w − n·mean(g·w·n)), n = x·scale
    let mean = B::float_mean_dim(B::float_mul(gw.clone(), normed.clone()), 1);
    let dx = B::float_mul(B::float_sub(gw, B::float_mul(normed, mean)), scale);
    let dw = B::float_reshape(dw, Shape::new([d]));
    (stored_as::<B>(dx, of_x), stored_as::<B>(dw, of_weight))
}
