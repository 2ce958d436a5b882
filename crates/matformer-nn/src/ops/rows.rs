//! Passes over rows, between the products of matrices: what GPUs have kernels for. The bodies composed of a
//! backend's own operations are the reference.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::cube::spec;
use super::{
    Divergence, Gate, activation, cross_entropy, divergence, layer_norm, rms_norm, softmax,
};

/// Passes that read rows and write rows. They have no gradients: forward and backward passes of
/// [`NnKernels`](super::NnKernels) are made of them.
///
/// In every backward pass `grad` is the gradient of the output, in the shape of the output. Statistics are f32
/// where the tensors have fewer bits.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda"))
)]
pub trait RowBackend: Backend {
    /// [`NnBackend::rms_norm`](super::NnBackend::rms_norm), and each row's factor `[rows, 1]`.
    #[fusion(meta = spec::rms_norm_forward)]
    fn rms_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::forward::<Self>(x, weight, eps)
    }

    /// Gradients of x and weight.
    #[fusion(meta = spec::rms_norm_backward)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::backward::<Self>(x, weight, scale, grad)
    }

    /// [`NnBackend::standardize`](super::NnBackend::standardize), each row's mean `[rows, 1]` and its factor
    /// `[rows, 1]`.
    #[fusion(meta = spec::standardize_forward)]
    fn standardize_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::forward::<Self>(x, weight, bias, eps)
    }

    /// Gradients of x, weight and bias.
    #[fusion(meta = spec::standardize_backward)]
    fn standardize_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::backward::<Self>(x, weight, mean, scale, grad)
    }

    /// Gradients of gate and up of [`NnBackend::glu`](super::NnBackend::glu), and its output.
    #[fusion(meta = spec::glu_backward)]
    fn glu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        act: Gate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        activation::glu_backward::<Self>(gate, up, grad, act)
    }

    /// Softmax of the scores that each query sees, times `scale`, and 0 for the others, in the dtype of the
    /// scores; and each query's log-sum-exp.
    ///
    /// # Shapes
    /// - scores, probabilities: `[rows, kv_heads, group·queries, keys]`
    /// - seen: `[rows or 1, queries, 2]`, the first key that a query sees and the one after its last; it sees
    ///   one at least
    /// - log-sum-exp: `[rows, kv_heads, group·queries, 1]`
    #[fusion(meta = spec::masked_softmax)]
    fn masked_softmax(
        scores: FloatTensor<Self>,
        seen: IntTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        softmax::forward::<Self>(scores, seen, scale)
    }

    /// The probabilities of [`masked_softmax`](Self::masked_softmax) once more, and the gradient of the scores:
    /// `scale·p·(grad − delta)`, where delta is `Σ p·grad` of each query, in the shape of `lse`.
    #[fusion(meta = spec::masked_softmax_backward)]
    fn masked_softmax_backward(
        scores: FloatTensor<Self>,
        seen: IntTensor<Self>,
        lse: FloatTensor<Self>,
        delta: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        softmax::backward::<Self>(scores, seen, lse, delta, grad, scale)
    }

    /// Negative log-likelihood in nats of each row's target, and the log-sum-exp of its logits.
    ///
    /// # Shapes
    /// - logits: `[rows, classes]`
    /// - targets: `[rows]`
    /// - outputs: `[rows, 1]` each
    #[fusion(meta = spec::logit_nats)]
    fn logit_nats(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cross_entropy::of_logits::<Self>(logits, targets)
    }

    /// Gradient of the logits, in their dtype; `grad` is that of the nats, `[rows, 1]`.
    #[fusion(dtype = logits, shape = logits)]
    fn logit_nats_backward(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        cross_entropy::gradient_of_logits::<Self>(logits, targets, lse, grad)
    }

    /// KL between the softmaxes of a student's and a teacher's logits divided by the rule's temperature, without
    /// its factor temperature²: `[rows, 1]`.
    ///
    /// # Shapes
    /// - student, teacher: `[rows, classes]`
    #[fusion(meta = spec::logit_divergence)]
    fn logit_divergence(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        divergence::of_logits::<Self>(student, teacher, &rule)
    }

    /// Gradient of the student's logits divided by the temperature, in their dtype; `grad` is that of the
    /// divergence, `[rows, 1]`.
    #[fusion(dtype = student, shape = student)]
    fn logit_divergence_backward(
        student: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        divergence::gradient_of_logits::<Self>(student, teacher, grad, &rule)
    }
}
