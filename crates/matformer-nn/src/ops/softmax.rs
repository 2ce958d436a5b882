//! Softmax over the keys that each query sees, composed of a backend's own operations: the reference of its
//! kernels.

use burn::backend::{
    Backend, TensorMetadata, get_device_settings,
    tensor::{BoolTensor, FloatTensor, IntTensor},
};
use burn::tensor::{Shape, Slice};

use super::precision::{stored_as, wide};

/// Scaled scores in f32, with minus infinity for masked keys.
fn visible<B: Backend>(scores: FloatTensor<B>, seen: IntTensor<B>, scale: f64) -> FloatTensor<B> {
    let scores = B::float_mul_scalar(wide::<B>(scores), (scale as f32).into());
    let hidden = hidden::<B>(scores.shape().dims(), seen);
    B::float_mask_fill(scores, hidden, f32::NEG_INFINITY.into())
}

/// The keys that each query does not see, in the shape of the scores.
fn hidden<B: Backend>(scores: [usize; 4], seen: IntTensor<B>) -> BoolTensor<B> {
    let device = seen.device();
    let settings = get_device_settings::<B>(&device);
    let [_, _, stacked, keys] = scores;
    let [rows, queries, _] = seen.shape().dims();
    let edge = |i: usize| {
        let places = [0..rows, 0..queries, i..i + 1].map(Slice::from);
        let edge =
            B::int_reshape(B::int_slice(seen.clone(), &places), Shape::new([rows, 1, queries, 1]));
        let edge = B::int_expand(edge, Shape::new([rows, stacked / queries, queries, keys]));
        B::int_reshape(edge, Shape::new([rows, 1, stacked, keys]))
    };
    let key = B::int_arange(0..keys as i64, &device, settings.int_dtype);
    let key = B::int_reshape(key, Shape::new([1, 1, 1, keys]));
    let key = B::int_expand(key, Shape::new([rows, 1, stacked, keys]));
    let before = B::int_lower(key.clone(), edge(0), settings.bool_dtype);
    let behind = B::int_greater_equal(key, edge(1), settings.bool_dtype);
    B::bool_expand(B::bool_or(before, behind), Shape::new(scores))
}

pub(super) fn forward<B: Backend>(
    scores: FloatTensor<B>,
    seen: IntTensor<B>,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dtype = scores.dtype();
    let scores = visible::<B>(scores, seen, scale);
    let max = B::float_max_dim(scores.clone(), 3);
    let p = B::float_exp(B::float_sub(scores, max.clone()));
    let sum = B::float_sum_dim(p.clone(), 3);
    let lse = B::float_add(B::float_log(sum.clone()), max);
    (stored_as::<B>(B::float_div(p, sum), dtype), lse)
}

pub(super) fn backward<B: Backend>(
    scores: FloatTensor<B>,
    seen: IntTensor<B>,
    lse: FloatTensor<B>,
    delta: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let dtype = scores.dtype();
    let p = B::float_exp(B::float_sub(visible::<B>(scores, seen, scale), lse));
    let from_mean = B::float_sub(wide::<B>(grad), delta);
    let ds = B::float_mul_scalar(B::float_mul(p.clone(), from_mean), (scale as f32).into());
    (stored_as::<B>(p, dtype), stored_as::<B>(ds, dtype))
}
