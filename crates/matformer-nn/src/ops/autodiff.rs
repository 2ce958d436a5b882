//! One handwritten gradient per op, for every backend: each calls the backend's own backward pass.

use burn::backend::{
    Backend, TensorMetadata,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};

use burn::tensor::{Shape, Slice};

use super::{
    AttentionSpec, DistillationWeights, Divergence, FfnSpec, Head, HeadGradients, NnBackend,
    NnKernels, RowBackend,
    cross_entropy::CrossEntropySaved,
    divergence::DivergenceTensors,
    nested_ffn::{FfnSaved, FfnTensors},
};

/// Defines the backward pass of an op with `$n` inputs: from the saved state and the gradient of
/// the output to the gradients of the inputs. One that is not wanted may be `None`.
macro_rules! backward {
    ($op:ident($n:literal), $state:ty, |$kept:pat_param, $grad:ident| $grads:expr) => {
        #[derive(Debug)]
        struct $op;

        impl<B: NnKernels> Backward<B, $n> for $op {
            type State = $state;

            fn backward(
                self,
                ops: Ops<Self::State, $n>,
                grads: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let $grad = grads.consume::<B>(&ops.node);
                let $kept = ops.state;
                for (parent, grad) in ops.parents.into_iter().zip($grads) {
                    let grad: Option<FloatTensor<B>> = grad.into();
                    if let (Some(node), Some(grad)) = (parent, grad) {
                        grads.register::<B>(node.id, grad);
                    }
                }
            }
        }
    };
}

/// Runs an op. If an input requires a gradient, `$tracked` returns (saved state, output) and the op
/// is recorded; otherwise `$alone` is evaluated.
macro_rules! output {
    ($op:ident, $checkpoint:ty, $nodes:expr, $tracked:expr, $alone:expr) => {
        match $op.prepare::<$checkpoint>($nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (kept, out) = $tracked;
                prep.finish(kept, out)
            }
            OpsKind::UnTracked(prep) => prep.finish($alone),
        }
    };
}

/// State saved by attention.
#[derive(Clone, Debug)]
struct AttentionKept<B: Backend> {
    qkv: [FloatTensor<B>; 3],
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    spec: AttentionSpec,
}

backward!(AttentionOp(3), AttentionKept<B>, |kept, grad| {
    let (dq, dk, dv) = B::gqa_backward(kept.qkv, kept.out, kept.lse, grad, &kept.spec);
    [dq, dk, dv]
});

/// State saved by the cross-entropy.
#[derive(Clone, Debug)]
struct CrossEntropyKept<B: Backend> {
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    saved: CrossEntropySaved<B>,
    head: Head,
}

backward!(CrossEntropyOp(2), CrossEntropyKept<B>, |kept, grad| {
    let CrossEntropyKept { hidden, weight, targets, saved, head } = kept;
    let found = B::cross_entropy_backward(hidden, weight, targets, saved, grad, head);
    [Some(found.hidden), found.weight]
});

/// State saved by a divergence.
#[derive(Clone, Debug)]
struct DivergenceKept<B: Backend> {
    tensors: DivergenceTensors<B>,
    ahead: Option<HeadGradients<B>>,
    rule: Divergence,
    head: Head,
}

backward!(DivergenceOp(2), DivergenceKept<B>, |kept, grad| {
    let found = B::divergence_backward(kept.tensors, kept.ahead, grad, &kept.rule, kept.head);
    [Some(found.hidden), found.weight]
});

/// State saved by a distillation loss.
#[derive(Clone, Debug)]
struct DistillationKept<B: Backend> {
    tensors: DivergenceTensors<B>,
    targets: IntTensor<B>,
    ahead: Option<HeadGradients<B>>,
    weights: DistillationWeights,
    head: Head,
}

backward!(DistillationOp(2), DistillationKept<B>, |kept, grad| {
    let DistillationKept { tensors, targets, ahead, weights, head } = kept;
    let [_, n] = grad.shape().dims();
    // Of the loss alone: what it is made of has no gradient.
    let grad = B::float_slice(grad, &[Slice::from(0..1), Slice::from(0..n)]);
    let grad = B::float_reshape(grad, Shape::new([n]));
    let found = B::distillation_backward(tensors, targets, ahead, grad, &weights, head);
    [Some(found.hidden), found.weight]
});

/// State saved by the feed-forward block.
#[derive(Clone, Debug)]
struct FfnKept<B: Backend> {
    x: FloatTensor<B>,
    weights: FfnTensors<B>,
    saved: FfnSaved<B>,
    spec: FfnSpec,
}

backward!(FfnOp(4), FfnKept<B>, |kept, grad| {
    let FfnKept { x, weights, saved, spec } = kept;
    let found = B::ffn_backward(x, weights, saved, grad, &spec);
    [found.x, found.weights.up, found.weights.inner, found.weights.down]
});

// x, weight and scale
backward!(RmsNormOp(2), [FloatTensor<B>; 3], |[x, weight, scale], grad| {
    let (dx, dw) = B::rms_norm_backward(x, weight, scale, grad);
    [dx, dw]
});

// x, weight, mean and scale
backward!(LayerNormOp(3), [FloatTensor<B>; 4], |[x, weight, mean, scale], grad| {
    let (dx, dw, db) = B::standardize_backward(x, weight, mean, scale, grad);
    [dx, dw, db]
});

// x and weight
backward!(LinearOp(2), [FloatTensor<B>; 2], |[x, weight], grad| {
    let (dx, dw) = B::project_backward(x, weight, grad);
    [dx, dw]
});

/// State saved by a rotation.
#[derive(Clone, Debug)]
struct RopeKept<B: Backend> {
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    back: bool,
}

backward!(RopeOp(1), RopeKept<B>, |kept, grad| [B::rope(grad, kept.cos, kept.sin, !kept.back)]);

// Called on the backend inside, by what is recorded here.
impl<B: NnKernels, C: CheckpointStrategy> RowBackend for Autodiff<B, C> {}

/// Whether a head's gradient is wanted.
fn head<B: Backend, C: CheckpointStrategy>(weight: &FloatTensor<Autodiff<B, C>>) -> Head {
    if weight.is_tracked() { Head::Trained } else { Head::Frozen }
}

impl<B: NnKernels, C: CheckpointStrategy> NnBackend for Autodiff<B, C> {
    fn gqa(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let [q, k, v] = [q, k, v].map(|t| t.into_primitive());
        let tracked = |qkv: [FloatTensor<B>; 3], spec: AttentionSpec| {
            let [q, k, v] = qkv.clone();
            let (out, lse) = B::gqa_forward(q, k, v, &spec);
            (AttentionKept { qkv, out: out.clone(), lse, spec }, out)
        };
        output!(AttentionOp, C, nodes, tracked([q, k, v], spec), B::gqa(q, k, v, spec))
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let head = head::<B, C>(&weight);
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        let tracked = |hidden: FloatTensor<B>, weight: FloatTensor<B>, targets: IntTensor<B>| {
            let (h, w) = (hidden.clone(), weight.clone());
            let (nats, saved) = B::cross_entropy_forward(h, w, targets.clone(), head);
            (CrossEntropyKept { hidden, weight, targets, saved, head }, nats)
        };
        output!(
            CrossEntropyOp,
            C,
            nodes,
            tracked(hidden, weight, targets),
            B::cross_entropy(hidden, weight, targets)
        )
    }

    fn divergence(tensors: DivergenceTensors<Self>, rule: Divergence) -> FloatTensor<Self> {
        let DivergenceTensors { hidden, weight, teacher, teacher_weight } = tensors;
        let head = head::<B, C>(&weight);
        let nodes = [hidden.node(), weight.node()];
        let [hidden, weight, teacher, teacher_weight] =
            [hidden, weight, teacher, teacher_weight].map(|t| t.into_primitive());
        let tensors = DivergenceTensors::<B> { hidden, weight, teacher, teacher_weight };
        let tracked = |tensors: DivergenceTensors<B>| {
            let (nats, ahead) = B::divergence_forward(tensors.clone(), &rule, head);
            (DivergenceKept { tensors, ahead, rule, head }, nats)
        };
        output!(DivergenceOp, C, nodes, tracked(tensors), B::divergence(tensors, rule))
    }

    fn distillation(
        tensors: DivergenceTensors<Self>,
        targets: IntTensor<Self>,
        weights: DistillationWeights,
    ) -> FloatTensor<Self> {
        let DivergenceTensors { hidden, weight, teacher, teacher_weight } = tensors;
        let head = head::<B, C>(&weight);
        let nodes = [hidden.node(), weight.node()];
        let [hidden, weight, teacher, teacher_weight] =
            [hidden, weight, teacher, teacher_weight].map(|t| t.into_primitive());
        let tensors = DivergenceTensors::<B> { hidden, weight, teacher, teacher_weight };
        let tracked = |tensors: DivergenceTensors<B>, targets: IntTensor<B>| {
            let (all, ahead) =
                B::distillation_forward(tensors.clone(), targets.clone(), &weights, head);
            (DistillationKept { tensors, targets, ahead, weights, head }, all)
        };
        output!(
            DistillationOp,
            C,
            nodes,
            tracked(tensors, targets),
            B::distillation(tensors, targets, weights)
        )
    }

    fn ffn(x: FloatTensor<Self>, weights: FfnTensors<Self>, spec: FfnSpec) -> FloatTensor<Self> {
        let FfnTensors { up, inner, down } = weights;
        let nodes = [x.node(), up.node(), inner.node(), down.node()];
        let [x, up, inner, down] = [x, up, inner, down].map(|t| t.into_primitive());
        let weights = FfnTensors::<B> { up, inner, down };
        let tracked = |x: FloatTensor<B>, weights: FfnTensors<B>, spec: FfnSpec| {
            let (y, saved) = B::ffn_forward(x.clone(), weights.clone(), &spec);
            (FfnKept { x, weights, saved, spec }, y)
        };
        output!(FfnOp, C, nodes, tracked(x, weights, spec), B::ffn(x, weights, spec))
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|t| t.into_primitive());
        let tracked = |x: FloatTensor<B>, weight: FloatTensor<B>| {
            let (y, scale) = B::rms_norm_forward(x.clone(), weight.clone(), eps);
            ([x, weight, scale], y)
        };
        output!(RmsNormOp, C, nodes, tracked(x, weight), B::rms_norm(x, weight, eps))
    }

    fn standardize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
        let tracked = |x: FloatTensor<B>, weight: FloatTensor<B>, bias| {
            let (y, mean, scale) = B::standardize_forward(x.clone(), weight.clone(), bias, eps);
            ([x, weight, mean, scale], y)
        };
        let alone = B::standardize;
        output!(LayerNormOp, C, nodes, tracked(x, weight, bias), alone(x, weight, bias, eps))
    }

    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|t| t.into_primitive());
        let tracked = |x: FloatTensor<B>, weight: FloatTensor<B>| {
            let y = B::project(x.clone(), weight.clone());
            ([x, weight], y)
        };
        output!(LinearOp, C, nodes, tracked(x, weight), B::project(x, weight))
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let [x, cos, sin] = [x, cos, sin].map(|t| t.into_primitive());
        let y = B::rope(x, cos.clone(), sin.clone(), back);
        output!(RopeOp, C, nodes, (RopeKept { cos, sin, back }, y), y)
    }
}
