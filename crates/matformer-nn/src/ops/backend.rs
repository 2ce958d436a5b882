//! The backend extension behind the ops: one trait, composed default bodies.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

use super::{
    AdamWStep, AttentionSpec, Divergence, FfnSpec, adamw, attention, cross_entropy,
    divergence::{self, Operands},
    layer_norm, linear, nested_ffn, rms_norm, rope,
};

/// The operations that this crate adds to a Burn backend.
///
/// Shapes and meaning are those of the functions of [`ops`](super) with the same names; each
/// forward method returns what its backward method needs beside its result.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub trait NnBackend: Backend {
    /// [`attention`](super::attention()): the output `[tokens, heads·head_dim]`, and of each query
    /// and head the log of the sum of exponentials, as the same backend's backward reads it.
    #[fusion(default)]
    fn gqa(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::forward::<Self>(q, k, v, &spec)
    }

    /// Gradients of [`NnBackend::gqa`] with respect to q, k and v.
    #[fusion(default)]
    fn gqa_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::backward::<Self>([q, k, v], out, lse, grad, &spec)
    }

    /// [`cross_entropy`](super::cross_entropy()): nats per token `[tokens]` and the log of each
    /// token's sum of exponentials `[tokens, 1]`.
    #[fusion(default)]
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cross_entropy::forward::<Self>(hidden, weight, targets)
    }

    /// [`NnBackend::cross_entropy`] where gradients will be asked for: its two results, and from a
    /// backend that would otherwise make the logits twice, the gradients of hidden and weight for
    /// a gradient of one at every token.
    #[fusion(default)]
    fn cross_entropy_ahead(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let (nats, lse) = cross_entropy::forward::<Self>(hidden, weight, targets);
        vec![nats, lse]
    }

    /// The gradients that [`NnBackend::cross_entropy_ahead`] gave, for a gradient that is the same
    /// at every token; nothing for another.
    #[fusion(default)]
    fn cross_entropy_scaled(
        d_hidden: FloatTensor<Self>,
        d_weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let _ = (d_hidden, d_weight, grad);
        Vec::new()
    }

    /// Gradients of [`NnBackend::cross_entropy`] with respect to hidden and weight.
    #[fusion(default)]
    fn cross_entropy_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cross_entropy::backward::<Self>(hidden, weight, targets, lse, grad)
    }

    /// [`divergence`](super::divergence()): `[n]`.
    #[fusion(default)]
    fn divergence(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        divergence::forward::<Self>(&Operands { hidden, weight, teacher, teacher_weight }, &rule)
    }

    /// As [`NnBackend::cross_entropy_ahead`]: the divergences, and perhaps the gradients of hidden
    /// and weight.
    #[fusion(default)]
    fn divergence_ahead(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        rule: Divergence,
    ) -> Vec<FloatTensor<Self>> {
        vec![Self::divergence(hidden, weight, teacher, teacher_weight, rule)]
    }

    /// Gradients of [`NnBackend::divergence`] with respect to hidden and weight.
    #[fusion(default)]
    fn divergence_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: Divergence,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let operands = Operands { hidden, weight, teacher, teacher_weight };
        divergence::backward::<Self>(&operands, grad, &rule)
    }

    /// [`nested_ffn`](super::nested_ffn()) with a gate: `down(silu(gate(x)) · up(x))`, ring by
    /// ring: outputs stacked in the order of the blocks, then what `up` and `gate` gave, flattened
    /// in the order in which the same backend's backward reads it.
    #[fusion(default)]
    fn gated_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        nested_ffn::gated_forward::<Self>(x, up, gate, down, &spec)
    }

    /// Gradients of [`NnBackend::gated_ffn`] with respect to x, up, gate and down; rows of the
    /// matrices beyond the widest block get exactly zero.
    #[fusion(default)]
    #[allow(clippy::too_many_arguments)] // The macro takes tensors one by one.
    fn gated_ffn_backward(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        down: FloatTensor<Self>,
        saved_up: FloatTensor<Self>,
        saved_gate: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        nested_ffn::gated_backward::<Self>(x, [up, gate, down], [saved_up, saved_gate], grad, &spec)
    }

    /// [`nested_ffn`](super::nested_ffn()) without a gate: `down(gelu(up(x) + bias))` (exact
    /// GELU); the second bias, whole at every width, is the caller's to add. Then what `up` and
    /// its bias gave, flattened ring by ring.
    #[fusion(default)]
    fn plain_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        nested_ffn::plain_forward::<Self>(x, up, bias, down, &spec)
    }

    /// Gradients of [`NnBackend::plain_ffn`] with respect to x, up, bias and down.
    #[fusion(default)]
    fn plain_ffn_backward(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        down: FloatTensor<Self>,
        saved_up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        nested_ffn::plain_backward::<Self>(x, [up, bias, down], saved_up, grad, &spec)
    }

    /// The gated activation `silu(gate) · up`, elementwise.
    #[fusion(default)]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        nested_ffn::swiglu::<Self>(gate, up)
    }

    /// Gradients of [`NnBackend::swiglu`] with respect to gate and up, and what it gave.
    #[fusion(default)]
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        nested_ffn::swiglu_backward::<Self>(gate, up, grad)
    }

    /// [`linear`](super::linear()).
    #[fusion(default)]
    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::forward::<Self>(x, weight)
    }

    /// Gradients of [`NnBackend::project`] with respect to x and weight.
    #[fusion(default)]
    fn project_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::backward::<Self>(x, weight, grad)
    }

    /// [`rms_norm`](super::rms_norm()): its result and each row's factor `[rows, 1]`.
    #[fusion(default)]
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::forward::<Self>(x, weight, eps)
    }

    /// Gradients of [`NnBackend::rms_norm`] with respect to x and weight.
    #[fusion(default)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rms_norm::backward::<Self>(x, weight, scale, grad)
    }

    /// [`layer_norm`](super::layer_norm()), by a name of its own: its result, each row's mean `[rows, 1]` and its factor
    /// `[rows, 1]`.
    #[fusion(default)]
    fn standardize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::forward::<Self>(x, weight, bias, eps)
    }

    /// Gradients of [`NnBackend::standardize`] with respect to x, weight and bias.
    #[fusion(default)]
    fn standardize_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        layer_norm::backward::<Self>(x, weight, [mean, scale], grad)
    }

    /// [`RopeTable::rotate`](super::RopeTable::rotate) by angles with cosines and sines
    /// `[table rows, head_dim / 2]`, which repeat down the rows of x; or back again, which is its
    /// gradient.
    #[fusion(default)]
    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        rope::rotate::<Self>(x, cos, sin, back)
    }
}

/// Operations of the optimizer's step, which have no gradients.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda"))
)]
pub trait StepBackend: Backend {
    /// [`adamw`](super::adamw()): values, first and second moments after the step.
    #[fusion(default)]
    fn adamw(
        values: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adamw::composed_step::<Self>(values, grad, first, second, &step)
    }

    /// [`sum_of_squares`](super::sum_of_squares()): `[1]`.
    #[fusion(default)]
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        adamw::composed_sum_of_squares::<Self>(x)
    }
}

// One backend behind wgpu and CUDA: the device says which.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn_cubecl::CubeBackend;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NnBackend for CubeBackend {}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl StepBackend for CubeBackend {}
