//! One handwritten gradient per op, for every backend: each calls the backend's own backward.

use burn::backend::AutodiffBackend;
use burn::backend::{
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};

use super::{AttentionSpec, Divergence, FfnSpec, NnBackend};

/// Hands each parent that wants one its gradient.
macro_rules! register {
    ($backend:ty, $parents:expr, $grads:expr, [$($found:expr),+]) => {
        for (parent, grad) in $parents.into_iter().zip([$($found),+]) {
            if let Some(node) = parent {
                $grads.register::<$backend>(node.id, grad);
            }
        }
    };
}

/// Puts `$op` on the tape: `$result` is tracked, `$state` is kept for its backward pass.
macro_rules! track {
    ($op:expr, $checkpoint:ty, $nodes:expr, $result:expr, $state:expr) => {
        match $op.prepare::<$checkpoint>($nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish($state, $result),
            OpsKind::UnTracked(prep) => prep.finish($result),
        }
    };
}

/// Ops that only a forward or backward pass of another op calls: gradients are first order.
macro_rules! first_order {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        $(
            #[allow(clippy::too_many_arguments)]
            fn $name($($arg: $ty),*) -> $out {
                $(let _ = $arg;)*
                unreachable!("gradients of this op are first order only")
            }
        )*
    };
}

#[derive(Debug)]
struct AttentionOp;

impl<B: NnBackend> Backward<B, 3> for AttentionOp {
    /// q, k, v, out, lse, spec
    type State = ([FloatTensor<B>; 3], FloatTensor<B>, FloatTensor<B>, AttentionSpec);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([q, k, v], out, lse, spec) = ops.state;
        let (dq, dk, dv) = B::gqa_backward(q, k, v, out, lse, grad, spec);
        register!(B, ops.parents, grads, [dq, dk, dv]);
    }
}

#[derive(Debug)]
struct CrossEntropyOp;

impl<B: NnBackend> Backward<B, 2> for CrossEntropyOp {
    /// hidden, weight, targets, lse, and what the backend made ahead
    type State = ([FloatTensor<B>; 2], IntTensor<B>, FloatTensor<B>, Vec<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([hidden, weight], targets, lse, ahead) = ops.state;
        let (dh, dw) = match scaled::<B>(ahead, &grad) {
            Some(scaled) => scaled,
            None => B::cross_entropy_backward(hidden, weight, targets, lse, grad),
        };
        register!(B, ops.parents, grads, [dh, dw]);
    }
}

/// The gradients that a forward pass made ahead, if it did and they can be scaled to `grad`.
fn scaled<B: NnBackend>(
    mut ahead: Vec<FloatTensor<B>>,
    grad: &FloatTensor<B>,
) -> Option<(FloatTensor<B>, FloatTensor<B>)> {
    let (d_weight, d_hidden) = (ahead.pop()?, ahead.pop()?);
    let mut scaled = B::cross_entropy_scaled(d_hidden, d_weight, grad.clone());
    let (d_weight, d_hidden) = (scaled.pop()?, scaled.pop()?);
    Some((d_hidden, d_weight))
}

#[derive(Debug)]
struct DivergenceOp;

impl<B: NnBackend> Backward<B, 2> for DivergenceOp {
    /// hidden, weight, teacher, teacher's weight, and what the backend made ahead
    type State = ([FloatTensor<B>; 4], Vec<FloatTensor<B>>, Divergence);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([hidden, weight, teacher, teacher_weight], ahead, rule) = ops.state;
        let (dh, dw) = match scaled::<B>(ahead, &grad) {
            Some(scaled) => scaled,
            None => B::divergence_backward(hidden, weight, teacher, teacher_weight, grad, rule),
        };
        register!(B, ops.parents, grads, [dh, dw]);
    }
}

#[derive(Debug)]
struct GatedFfnOp;

impl<B: NnBackend> Backward<B, 4> for GatedFfnOp {
    /// x, up, gate, down, saved up, saved gate
    type State = ([FloatTensor<B>; 6], FfnSpec);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([x, up, gate, down, saved_up, saved_gate], spec) = ops.state;
        let (dx, du, dg, dd) =
            B::gated_ffn_backward(x, up, gate, down, saved_up, saved_gate, grad, spec);
        register!(B, ops.parents, grads, [dx, du, dg, dd]);
    }
}

#[derive(Debug)]
struct PlainFfnOp;

impl<B: NnBackend> Backward<B, 4> for PlainFfnOp {
    /// x, up, bias, down, saved up
    type State = ([FloatTensor<B>; 5], FfnSpec);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([x, up, bias, down, saved_up], spec) = ops.state;
        let (dx, du, db, dd) = B::plain_ffn_backward(x, up, bias, down, saved_up, grad, spec);
        register!(B, ops.parents, grads, [dx, du, db, dd]);
    }
}

#[derive(Debug)]
struct RmsNormOp;

impl<B: NnBackend> Backward<B, 2> for RmsNormOp {
    /// x, weight, scale
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [x, weight, scale] = ops.state;
        let (dx, dw) = B::rms_norm_backward(x, weight, scale, grad);
        register!(B, ops.parents, grads, [dx, dw]);
    }
}

#[derive(Debug)]
struct LayerNormOp;

impl<B: NnBackend> Backward<B, 3> for LayerNormOp {
    /// x, weight, mean, scale
    type State = [FloatTensor<B>; 4];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [x, weight, mean, scale] = ops.state;
        let (dx, dw, db) = B::standardize_backward(x, weight, mean, scale, grad);
        register!(B, ops.parents, grads, [dx, dw, db]);
    }
}

#[derive(Debug)]
struct LinearOp;

impl<B: NnBackend> Backward<B, 2> for LinearOp {
    /// x, weight
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [x, weight] = ops.state;
        let (dx, dw) = B::project_backward(x, weight, grad);
        register!(B, ops.parents, grads, [dx, dw]);
    }
}

#[derive(Debug)]
struct RopeOp;

impl<B: NnBackend> Backward<B, 1> for RopeOp {
    /// cos, sin, back
    type State = ([FloatTensor<B>; 2], bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let ([cos, sin], back) = ops.state;
        register!(B, ops.parents, grads, [B::rope(grad, cos, sin, !back)]);
    }
}

impl<B: NnBackend, C: CheckpointStrategy> NnBackend for Autodiff<B, C> {
    fn gqa(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [q.node(), k.node(), v.node()];
        let qkv = [q.into_primitive(), k.into_primitive(), v.into_primitive()];
        let [q, k, v] = qkv.clone();
        let (out, lse) = B::gqa(q, k, v, spec.clone());
        let lse_out = Self::from_inner(lse.clone());
        let state = (qkv, out.clone(), lse, spec);
        (track!(AttentionOp, C, nodes, out, state), lse_out)
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        match CrossEntropyOp.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => {
                let (nats, lse) = B::cross_entropy(hidden, weight, targets);
                (prep.finish(nats), Self::from_inner(lse))
            }
            OpsKind::Tracked(prep) => {
                let (h, w) = (hidden.clone(), weight.clone());
                let mut ahead = B::cross_entropy_ahead(h, w, targets.clone());
                let gradients = ahead.split_off(2);
                let [nats, lse] = match <[_; 2]>::try_from(ahead) {
                    Ok(both) => both,
                    Err(_) => unreachable!("nats and log-sum-exp come first"),
                };
                let state = ([hidden, weight], targets, lse.clone(), gradients);
                (prep.finish(state, nats), Self::from_inner(lse))
            }
        }
    }

    fn divergence(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let [h, w, t, tw] = [hidden, weight, teacher, teacher_weight].map(|t| t.into_primitive());
        match DivergenceOp.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(prep) => prep.finish(B::divergence(h, w, t, tw, rule)),
            OpsKind::Tracked(prep) => {
                let state = [&h, &w, &t, &tw].map(Clone::clone);
                let mut ahead = B::divergence_ahead(h, w, t, tw, rule);
                let gradients = ahead.split_off(1);
                let nats = ahead.pop().unwrap_or_else(|| unreachable!("divergences come first"));
                prep.finish((state, gradients, rule), nats)
            }
        }
    }

    fn gated_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), up.node(), gate.node(), down.node()];
        let [x, up, gate, down] = [x, up, gate, down].map(|t| t.into_primitive());
        let (y, u, g) =
            B::gated_ffn(x.clone(), up.clone(), gate.clone(), down.clone(), spec.clone());
        let saved = (Self::from_inner(u.clone()), Self::from_inner(g.clone()));
        (track!(GatedFfnOp, C, nodes, y, ([x, up, gate, down, u, g], spec)), saved.0, saved.1)
    }

    fn plain_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), up.node(), bias.node(), down.node()];
        let [x, up, bias, down] = [x, up, bias, down].map(|t| t.into_primitive());
        let (y, u) = B::plain_ffn(x.clone(), up.clone(), bias.clone(), down.clone(), spec.clone());
        let saved = Self::from_inner(u.clone());
        (track!(PlainFfnOp, C, nodes, y, ([x, up, bias, down, u], spec)), saved)
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (y, scale) = B::rms_norm(x.clone(), weight.clone(), eps);
        let scale_out = Self::from_inner(scale.clone());
        (track!(RmsNormOp, C, nodes, y, [x, weight, scale]), scale_out)
    }

    fn standardize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive());
        let (y, mean, scale) = B::standardize(x.clone(), weight.clone(), bias, eps);
        let saved = [&mean, &scale].map(|t| Self::from_inner(t.clone()));
        let y = track!(LayerNormOp, C, nodes, y, [x, weight, mean, scale]);
        let [mean, scale] = saved;
        (y, mean, scale)
    }

    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|t| t.into_primitive());
        let y = B::project(x.clone(), weight.clone());
        track!(LinearOp, C, nodes, y, [x, weight])
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
        track!(RopeOp, C, nodes, y, ([cos, sin], back))
    }

    first_order! {
        swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
        swiglu_backward(
            gate: FloatTensor<Self>, up: FloatTensor<Self>, grad: FloatTensor<Self>
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
        project_backward(
            x: FloatTensor<Self>, weight: FloatTensor<Self>, grad: FloatTensor<Self>
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
        rms_norm_backward(
            x: FloatTensor<Self>, weight: FloatTensor<Self>, scale: FloatTensor<Self>,
            grad: FloatTensor<Self>
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
        standardize_backward(
            x: FloatTensor<Self>, weight: FloatTensor<Self>, mean: FloatTensor<Self>,
            scale: FloatTensor<Self>, grad: FloatTensor<Self>
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
        gqa_backward(
            q: FloatTensor<Self>, k: FloatTensor<Self>, v: FloatTensor<Self>,
            out: FloatTensor<Self>, lse: FloatTensor<Self>, grad: FloatTensor<Self>,
            spec: AttentionSpec
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
        cross_entropy_ahead(
            hidden: FloatTensor<Self>, weight: FloatTensor<Self>, targets: IntTensor<Self>
        ) -> Vec<FloatTensor<Self>>;
        cross_entropy_scaled(
            d_hidden: FloatTensor<Self>, d_weight: FloatTensor<Self>, grad: FloatTensor<Self>
        ) -> Vec<FloatTensor<Self>>;
        cross_entropy_backward(
            hidden: FloatTensor<Self>, weight: FloatTensor<Self>, targets: IntTensor<Self>,
            lse: FloatTensor<Self>, grad: FloatTensor<Self>
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
        divergence_ahead(
            hidden: FloatTensor<Self>, weight: FloatTensor<Self>, teacher: FloatTensor<Self>,
            teacher_weight: FloatTensor<Self>, rule: Divergence
        ) -> Vec<FloatTensor<Self>>;
        divergence_backward(
            hidden: FloatTensor<Self>, weight: FloatTensor<Self>, teacher: FloatTensor<Self>,
            teacher_weight: FloatTensor<Self>, grad: FloatTensor<Self>, rule: Divergence
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
        gated_ffn_backward(
            x: FloatTensor<Self>, up: FloatTensor<Self>, gate: FloatTensor<Self>,
            down: FloatTensor<Self>, saved_up: FloatTensor<Self>, saved_gate: FloatTensor<Self>,
            grad: FloatTensor<Self>, spec: FfnSpec
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
        plain_ffn_backward(
            x: FloatTensor<Self>, up: FloatTensor<Self>, bias: FloatTensor<Self>,
            down: FloatTensor<Self>, saved_up: FloatTensor<Self>, grad: FloatTensor<Self>,
            spec: FfnSpec
        ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    }
}
