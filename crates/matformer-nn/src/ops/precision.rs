//! Low precision: products of matrices run in the dtype of their factors, statistics always in f32.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{DType, FloatDType};

/// A tensor in f32 if it is stored in fewer bits: what norms, softmaxes and losses compute in.
pub(super) fn wide<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    match t.dtype() {
        DType::F16 | DType::BF16 => B::float_cast(t, FloatDType::F32),
        _ => t,
    }
}

/// A result in the dtype of what it was made from.
pub(super) fn stored_as<B: Backend>(t: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if t.dtype() == dtype { t } else { B::float_cast(t, dtype.into()) }
}
