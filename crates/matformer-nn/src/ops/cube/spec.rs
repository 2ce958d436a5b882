//! Shapes and dtypes of what kernels return, which a lazy graph has to know before they run.

use burn::backend::fusion::custom::TensorSpec;
use burn::tensor::{DType, Shape};

/// The dtype of statistics of a tensor: as [`wide`](crate::ops::precision::wide) makes it.
fn statistics(of: &TensorSpec) -> DType {
    match of.dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    }
}

/// One value for each row.
fn per_row(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::new([x.shape[0], 1]), statistics(x))
}

/// Output and factor of RMSNorm.
pub(in crate::ops) fn rms_forward(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _eps: &f64,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), per_row(x))
}

/// Gradients of RMSNorm.
pub(in crate::ops) fn rms_backward(
    x: &TensorSpec,
    weight: &TensorSpec,
    _scale: &TensorSpec,
    _grad: &TensorSpec,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), weight.clone())
}

/// Output, mean and factor of layer norm.
pub(in crate::ops) fn layer_forward(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _bias: &TensorSpec,
    _eps: &f64,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), per_row(x), per_row(x))
}

/// Gradients of layer norm.
pub(in crate::ops) fn layer_backward(
    x: &TensorSpec,
    weight: &TensorSpec,
    _mean: &TensorSpec,
    _scale: &TensorSpec,
    _grad: &TensorSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), weight.clone(), weight.clone())
}

/// One sum.
pub(in crate::ops) fn sum_of_squares(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::new([1]), statistics(x))
}

/// Values and moments after a step.
pub(in crate::ops) fn adamw(
    values: &TensorSpec,
    _grad: &TensorSpec,
    first: &TensorSpec,
    second: &TensorSpec,
    _step: &crate::ops::AdamWStep,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (values.clone(), first.clone(), second.clone())
}
