//! Layer norm.

use burn::backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor};

use super::{
    NnBackend,
    precision::{stored_as, wide},
    rms_norm::row,
};

/// `(x − mean(x)) / √(var(x) + eps) · weight + bias` over the last dimension, with the variance of
/// all d values (Ba, Kiros and Hinton 2016).
///
/// # Shapes
/// - x: `[rows, d]`
/// - weight, bias: `[d]`
/// - output: `[rows, d]`
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<2> {
    let y = <Dispatch as NnBackend>::standardize(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        eps,
    );
    Tensor::from_dispatch(y)
}

pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    eps: f64,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let dtype = x.dtype();
    let [x, weight, bias] = [x, weight, bias].map(wide::<B>);
    let mean = B::float_mean_dim(x.clone(), 1); // [rows, 1]
    let centred = B::float_sub(x, mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let scale = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, (eps as f32).into())));
    let y = B::float_mul(B::float_mul(centred, scale.clone()), row::<B>(weight));
    (stored_as::<B>(B::float_add(y, row::<B>(bias)), dtype), mean, scale)
}

pub(super) fn backward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    mean: FloatTensor<B>,
    scale: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let d = weight.shape()[0];
    let [of_x, of_weight] = [x.dtype(), weight.dtype()];
    let [x, weight, grad] = [x, weight, grad].map(wide::<B>);
    let normed = B::float_mul(B::float_sub(x, mean), scale.clone()); // [rows, d]
    let sum = |t| {
        let sum = B::float_reshape(B::float_sum_dim(t, 0), Shape::new([d]));
        stored_as::<B>(sum, of_weight)
    };
    let dw = sum(B::float_mul(grad.clone(), normed.clone()));
    let db = sum(grad.clone());
    let gw = B::float_mul(grad, row::<B>(weight));
    // dx = scale·(g·w − mean(g·w) − n·mean(g·w·n)), n = (x − mean)·scale
    let along = B::float_mean_dim(B::float_mul(gw.clone(), normed.clone()), 1);
    let level = B::float_mean_dim(gw.clone(), 1);
    let rest = B::float_sub(B::float_sub(gw, level), B::float_mul(normed, along));
    (stored_as::<B>(B::float_mul(rest, scale), of_x), dw, db)
}
