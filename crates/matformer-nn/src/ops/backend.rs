//! The backend extension behind the ops: traits with composed default bodies.

use burn::backend::{
    Backend, backend_extension,
    tensor::{FloatTensor, IntTensor},
};

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::cube::spec;
use super::{
    AdamWStep, AttentionSpec, DistillationWeights, Divergence, FfnSpec, Gate, Head, HeadGradients,
    RowBackend, activation, adamw, attention_tiles,
    cross_entropy::{self, CrossEntropySaved},
    distillation,
    divergence::{self, DivergenceTensors},
    linear,
    nested_ffn::{self, FfnGradients, FfnSaved, FfnTensors},
    rope,
};

/// The operations that this crate adds to a Burn backend.
///
/// Shapes and meaning are those of the functions of [`ops`](super) with the same names. Names
/// differ where [`Backend`] already has a method of that name: `gqa` is `attention`, `project` is
/// `linear`, `standardize` is `layer_norm`. `ffn` is short for `nested_ffn`.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub trait NnBackend: RowBackend {
    /// [`attention`](super::attention()): `[tokens, heads·head_dim]`.
    #[fusion(default)]
    fn gqa(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self> {
        attention_tiles::forward::<Self>(q, k, v, &spec).0
    }

    /// [`cross_entropy`](super::cross_entropy()): nats per token `[tokens]`.
    #[fusion(default)]
    fn cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        cross_entropy::forward::<Self>(hidden, weight, targets).0
    }

    /// [`divergence`](super::divergence()): `[n]`.
    #[fusion(default)]
    fn divergence(
        #[extension_type] tensors: DivergenceTensors<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        divergence::forward::<Self>(&tensors, &rule)
    }

    /// [`distillation`](super::distillation()): loss, cross-entropy and divergence, `[3, n]`. Only the
    /// loss has a gradient.
    #[fusion(default)]
    fn distillation(
        #[extension_type] tensors: DivergenceTensors<Self>,
        targets: IntTensor<Self>,
        weights: DistillationWeights,
    ) -> FloatTensor<Self> {
        distillation::forward::<Self>(&tensors, targets, &weights)
    }

    /// [`nested_ffn`](super::nested_ffn()): outputs stacked in the order of the blocks. The bias of
    /// down, whole at every width, is the caller's to add.
    #[fusion(default)]
    fn ffn(
        x: FloatTensor<Self>,
        #[extension_type] weights: FfnTensors<Self>,
        spec: FfnSpec,
    ) -> FloatTensor<Self> {
        nested_ffn::forward::<Self>(x, weights, &spec).0
    }

    /// The gated activation `act(gate) · up`, elementwise.
    #[fusion(dtype = gate, shape = gate)]
    fn glu(gate: FloatTensor<Self>, up: FloatTensor<Self>, act: Gate) -> FloatTensor<Self> {
        activation::glu::<Self>(gate, up, act)
    }

    /// [`linear`](super::linear()) with a matrix of floats.
    #[fusion(default)]
    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        linear::forward::<Self>(x, weight)
    }

    /// [`rms_norm`](super::rms_norm()).
    #[fusion(default)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        Self::rms_norm_forward(x, weight, eps).0
    }

    /// [`layer_norm`](super::layer_norm()).
    #[fusion(default)]
    fn standardize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        Self::standardize_forward(x, weight, bias, eps).0
    }

    /// [`RopeTable::rotate`](super::RopeTable::rotate) with a table of cosines and sines
    /// `[table rows, head_dim / 2]`, repeated along the rows of x. With `back`, rotates by the
    /// negative angle, which is the gradient of the rotation.
    #[fusion(dtype = x, shape = x)]
    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        rope::rotate::<Self>(x, cos, sin, back)
    }
}

/// Forward and backward passes of the operations of [`NnBackend`], from which gradients are built.
/// A forward pass also returns the tensors that its backward pass needs.
///
/// Implemented by the backends that run kernels. `Autodiff` calls these methods but does not
/// implement the trait, so there are no second-order gradients.
///
/// In every backward pass `grad` is the gradient of the output, in the shape of the output.
pub trait NnKernels: NnBackend {
    /// [`NnBackend::gqa`], and the log-sum-exp of the scores of each query and head, in a layout
    /// private to the backend: `[rows, kv_heads, group·q_len, 1]` in the composed body,
    /// `[tokens·heads]` on Flex.
    fn gqa_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: &AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention_tiles::forward::<Self>(q, k, v, spec)
    }

    /// Gradients of q, k and v. `out` and `lse` are those of the forward pass.
    fn gqa_backward(
        qkv: [FloatTensor<Self>; 3],
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: &AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention_tiles::backward::<Self>(qkv, out, lse, grad, spec)
    }

    /// [`NnBackend::cross_entropy`], and what its backward pass needs.
    fn cross_entropy_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        head: Head,
    ) -> (FloatTensor<Self>, CrossEntropySaved<Self>) {
        let _ = head; // used by backends that override both methods
        let (nats, lse) = cross_entropy::forward::<Self>(hidden, weight, targets);
        (nats, CrossEntropySaved { lse, ahead: None })
    }

    /// Gradients of hidden and, if it is trained, weight.
    fn cross_entropy_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        saved: CrossEntropySaved<Self>,
        grad: FloatTensor<Self>,
        head: Head,
    ) -> HeadGradients<Self> {
        cross_entropy::backward::<Self>(hidden, weight, targets, saved.lse, grad, head)
    }

    /// [`NnBackend::divergence`], and the student's gradients for an output gradient of 1 at every row,
    /// if the backend computes them in the forward pass.
    fn divergence_forward(
        tensors: DivergenceTensors<Self>,
        rule: &Divergence,
        head: Head,
    ) -> (FloatTensor<Self>, Option<HeadGradients<Self>>) {
        let _ = head; // used by backends that override both methods
        (divergence::forward::<Self>(&tensors, rule), None)
    }

    /// Gradients of the student; the teacher has none.
    fn divergence_backward(
        tensors: DivergenceTensors<Self>,
        ahead: Option<HeadGradients<Self>>,
        grad: FloatTensor<Self>,
        rule: &Divergence,
        head: Head,
    ) -> HeadGradients<Self> {
        let _ = ahead; // used by backends that override both methods
        divergence::backward::<Self>(&tensors, grad, rule, head)
    }

    /// [`NnBackend::distillation`], and the student's gradients for a gradient of 1 at every row's loss,
    /// if the backend computes them in the forward pass.
    fn distillation_forward(
        tensors: DivergenceTensors<Self>,
        targets: IntTensor<Self>,
        weights: &DistillationWeights,
        head: Head,
    ) -> (FloatTensor<Self>, Option<HeadGradients<Self>>) {
        let _ = head; // used by backends that override both methods
        (distillation::forward::<Self>(&tensors, targets, weights), None)
    }

    /// Gradients of the student; the teacher has none. `grad` is that of the loss, `[n]`.
    fn distillation_backward(
        tensors: DivergenceTensors<Self>,
        targets: IntTensor<Self>,
        ahead: Option<HeadGradients<Self>>,
        grad: FloatTensor<Self>,
        weights: &DistillationWeights,
        head: Head,
    ) -> HeadGradients<Self> {
        let _ = ahead; // used by backends that override both methods
        distillation::backward::<Self>(&tensors, targets, grad, weights, head)
    }

    /// [`NnBackend::ffn`], and the activations that its backward pass needs.
    fn ffn_forward(
        x: FloatTensor<Self>,
        weights: FfnTensors<Self>,
        spec: &FfnSpec,
    ) -> (FloatTensor<Self>, FfnSaved<Self>) {
        nested_ffn::forward::<Self>(x, weights, spec)
    }

    /// Gradients of x and the weights; exactly zero beyond the widest block.
    fn ffn_backward(
        x: FloatTensor<Self>,
        weights: FfnTensors<Self>,
        saved: FfnSaved<Self>,
        grad: FloatTensor<Self>,
        spec: &FfnSpec,
    ) -> FfnGradients<Self> {
        nested_ffn::backward::<Self>(x, weights, saved, grad, spec)
    }

    /// Gradients of x and weight.
    fn project_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        linear::backward::<Self>(x, weight, grad)
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
    #[fusion(meta = spec::adamw)]
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
    #[fusion(meta = spec::sum_of_squares)]
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        adamw::composed_sum_of_squares::<Self>(x)
    }
}
