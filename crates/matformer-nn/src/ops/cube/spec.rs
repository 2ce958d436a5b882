//! Shapes and dtypes of what kernels return, which a lazy graph has to know before they run.

use burn::backend::fusion::custom::TensorSpec;
use burn::tensor::{DType, Shape};

use crate::ops::{AdamWStep, Divergence, Gate};

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
pub(in crate::ops) fn rms_norm_forward(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _eps: &f64,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), per_row(x))
}

/// Gradients of RMSNorm.
pub(in crate::ops) fn rms_norm_backward(
    x: &TensorSpec,
    weight: &TensorSpec,
    _scale: &TensorSpec,
    _grad: &TensorSpec,
) -> (TensorSpec, TensorSpec) {
    (x.clone(), weight.clone())
}

/// Output, mean and factor of layer norm.
pub(in crate::ops) fn standardize_forward(
    x: &TensorSpec,
    _weight: &TensorSpec,
    _bias: &TensorSpec,
    _eps: &f64,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), per_row(x), per_row(x))
}

/// Gradients of layer norm.
pub(in crate::ops) fn standardize_backward(
    x: &TensorSpec,
    weight: &TensorSpec,
    _mean: &TensorSpec,
    _scale: &TensorSpec,
    _grad: &TensorSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), weight.clone(), weight.clone())
}

/// Gradients of a gated activation, and its output.
pub(in crate::ops) fn glu_backward(
    gate: &TensorSpec,
    up: &TensorSpec,
    _grad: &TensorSpec,
    _act: &Gate,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (gate.clone(), up.clone(), gate.clone())
}

/// Probabilities and log-sum-exps.
pub(in crate::ops) fn masked_softmax(
    scores: &TensorSpec,
    _seen: &TensorSpec,
    _scale: &f64,
) -> (TensorSpec, TensorSpec) {
    let mut shape = scores.shape.clone();
    shape[3] = 1;
    (scores.clone(), TensorSpec::new(shape, statistics(scores)))
}

/// Probabilities, and the gradient of the scores.
pub(in crate::ops) fn masked_softmax_backward(
    scores: &TensorSpec,
    _seen: &TensorSpec,
    _lse: &TensorSpec,
    _delta: &TensorSpec,
    grad: &TensorSpec,
    _scale: &f64,
) -> (TensorSpec, TensorSpec) {
    (scores.clone(), grad.clone())
}

/// Nats and log-sum-exps.
pub(in crate::ops) fn logit_nats(
    logits: &TensorSpec,
    _targets: &TensorSpec,
) -> (TensorSpec, TensorSpec) {
    (per_row(logits), per_row(logits))
}

/// One divergence for each row.
pub(in crate::ops) fn logit_divergence(
    student: &TensorSpec,
    _teacher: &TensorSpec,
    _rule: &Divergence,
) -> TensorSpec {
    per_row(student)
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
    _step: &AdamWStep,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    (values.clone(), first.clone(), second.clone())
}
