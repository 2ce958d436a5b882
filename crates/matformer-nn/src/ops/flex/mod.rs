//! Kernels for Burn's CPU backend: what the composed bodies do in many passes over memory, done
//! block by block on all cores. Each is tested against its composed reference.
//!
//! Results do not depend on the number of threads: blocks have fixed sizes, and what is summed is
//! summed in a fixed order.

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod distillation;
mod divergence;
mod ffn;
mod head;
mod kernel;
mod linear;
mod norm;
mod product;
mod rope;

use burn::backend::{Flex, flex::FlexTensor};
use burn::tensor::DType;

use super::{
    AdamWStep, AttentionSpec, CrossEntropySaved, DistillationWeights, Divergence,
    DivergenceTensors, FfnGradients, FfnSaved, FfnSpec, FfnTensors, Gate, Head, HeadGradients,
    NnBackend, NnKernels, RowBackend, StepBackend,
};
use crate::ops;

/// Whether all tensors are f32: what the kernels are written for.
fn all_f32<const N: usize>(tensors: [&FlexTensor; N]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

/// Defines methods that call the kernel if all tensors before the `;` are f32 and the `if`
/// condition holds, and the composed body otherwise.
macro_rules! kernels {
    ($(
        fn $name:ident($($float:ident),+ $(; $($arg:ident: $ty:ty),+)?) -> $out:ty
        $(, if $when:expr)? => $kernel:expr, else $composed:expr;
    )+) => {
        $(
            fn $name($($float: FlexTensor),+ $(, $($arg: $ty),+)?) -> $out {
                if all_f32([$(&$float),+]) $(&& $when)? { $kernel } else { $composed }
            }
        )+
    };
}

type Two = (FlexTensor, FlexTensor);
type Three = (FlexTensor, FlexTensor, FlexTensor);

impl NnBackend for Flex {
    fn gqa(q: FlexTensor, k: FlexTensor, v: FlexTensor, spec: AttentionSpec) -> FlexTensor {
        Self::gqa_forward(q, k, v, &spec).0
    }

    fn ffn(x: FlexTensor, weights: FfnTensors<Self>, spec: FfnSpec) -> FlexTensor {
        Self::ffn_forward(x, weights, &spec).0
    }

    fn divergence(tensors: DivergenceTensors<Self>, rule: Divergence) -> FlexTensor {
        if all_f32(tensors.all()) {
            divergence::forward(tensors, &rule)
        } else {
            ops::divergence::forward::<Self>(&tensors, &rule)
        }
    }

    fn distillation(
        tensors: DivergenceTensors<Self>,
        targets: FlexTensor,
        weights: DistillationWeights,
    ) -> FlexTensor {
        if all_f32(tensors.all()) {
            distillation::pass(tensors, targets, &weights, None).0
        } else {
            ops::distillation::forward::<Self>(&tensors, targets, &weights)
        }
    }

    kernels! {
        fn cross_entropy(hidden, weight; targets: FlexTensor) -> FlexTensor
            => cross_entropy::forward(hidden, weight, targets),
            else ops::cross_entropy::forward::<Self>(hidden, weight, targets).0;
        fn glu(gate, up; act: Gate) -> FlexTensor
            => activation::glu(gate, up, act),
            else ops::activation::glu::<Self>(gate, up, act);
        fn project(x, weight) -> FlexTensor, if linear::fits(&x)
            => linear::forward(x, weight),
            else ops::linear::forward::<Self>(x, weight);
        fn rope(x, cos, sin; back: bool) -> FlexTensor
            => rope::rotate(x, cos, sin, back),
            else ops::rope::rotate::<Self>(x, cos, sin, back);
    }
}

impl NnKernels for Flex {
    fn divergence_forward(
        tensors: DivergenceTensors<Self>,
        rule: &Divergence,
        head: Head,
    ) -> (FlexTensor, Option<HeadGradients<Self>>) {
        if all_f32(tensors.all()) {
            divergence::ahead(tensors, rule, head)
        } else {
            (ops::divergence::forward::<Self>(&tensors, rule), None)
        }
    }

    fn distillation_forward(
        tensors: DivergenceTensors<Self>,
        targets: FlexTensor,
        weights: &DistillationWeights,
        head: Head,
    ) -> (FlexTensor, Option<HeadGradients<Self>>) {
        if all_f32(tensors.all()) {
            distillation::pass(tensors, targets, weights, Some(head))
        } else {
            (ops::distillation::forward::<Self>(&tensors, targets, weights), None)
        }
    }

    fn distillation_backward(
        tensors: DivergenceTensors<Self>,
        targets: FlexTensor,
        ahead: Option<HeadGradients<Self>>,
        grad: FlexTensor,
        weights: &DistillationWeights,
        head: Head,
    ) -> HeadGradients<Self> {
        match ahead.and_then(|ahead| cross_entropy::scaled(ahead, &grad)) {
            Some(found) => found,
            None => ops::distillation::backward::<Self>(&tensors, targets, grad, weights, head),
        }
    }

    fn divergence_backward(
        tensors: DivergenceTensors<Self>,
        ahead: Option<HeadGradients<Self>>,
        grad: FlexTensor,
        rule: &Divergence,
        head: Head,
    ) -> HeadGradients<Self> {
        match ahead.and_then(|ahead| cross_entropy::scaled(ahead, &grad)) {
            Some(found) => found,
            None => ops::divergence::backward::<Self>(&tensors, grad, rule, head),
        }
    }

    fn ffn_forward(
        x: FlexTensor,
        weights: FfnTensors<Self>,
        spec: &FfnSpec,
    ) -> (FlexTensor, FfnSaved<Self>) {
        if all_f32([&x, &weights.up, &weights.inner, &weights.down]) && ffn::fits(spec) {
            ffn::forward(x, weights, spec)
        } else {
            ops::nested_ffn::forward::<Self>(x, weights, spec)
        }
    }

    fn ffn_backward(
        x: FlexTensor,
        weights: FfnTensors<Self>,
        saved: FfnSaved<Self>,
        grad: FlexTensor,
        spec: &FfnSpec,
    ) -> FfnGradients<Self> {
        if all_f32([&x, &weights.up, &weights.inner, &weights.down]) && ffn::fits(spec) {
            ffn::backward(x, weights, saved, grad, spec)
        } else {
            ops::nested_ffn::backward::<Self>(x, weights, saved, grad, spec)
        }
    }

    fn gqa_backward(
        [q, k, v]: [FlexTensor; 3],
        out: FlexTensor,
        lse: FlexTensor,
        grad: FlexTensor,
        spec: &AttentionSpec,
    ) -> Three {
        if all_f32([&q, &k, &v, &out, &grad]) {
            attention::backward([q, k, v], out, lse, grad, spec)
        } else {
            ops::attention_tiles::backward::<Self>([q, k, v], out, lse, grad, spec)
        }
    }

    kernels! {
        fn gqa_forward(q, k, v; spec: &AttentionSpec) -> Two
            => attention::forward([q, k, v], spec),
            else ops::attention_tiles::forward::<Self>(q, k, v, spec);
        fn cross_entropy_forward(hidden, weight; targets: FlexTensor, head: Head)
            -> (FlexTensor, CrossEntropySaved<Self>)
            => cross_entropy::ahead(hidden, weight, targets, head),
            else {
                let (nats, lse) = ops::cross_entropy::forward::<Self>(hidden, weight, targets);
                (nats, CrossEntropySaved { lse, ahead: None })
            };
        fn cross_entropy_backward(
            hidden, weight;
            targets: FlexTensor,
            saved: CrossEntropySaved<Self>,
            grad: FlexTensor,
            head: Head
        ) -> HeadGradients<Self>
            => cross_entropy::backward(hidden, weight, targets, saved, grad, head),
            else {
                ops::cross_entropy::backward::<Self>(hidden, weight, targets, saved.lse, grad, head)
            };
        fn project_backward(x, weight, grad) -> Two
            => linear::backward(x, weight, grad),
            else ops::linear::backward::<Self>(x, weight, grad);
    }
}

impl RowBackend for Flex {
    kernels! {
        fn glu_backward(gate, up, grad; act: Gate) -> Three
            => activation::glu_backward(gate, up, grad, act),
            else ops::activation::glu_backward::<Self>(gate, up, grad, act);
        fn rms_norm_forward(x, weight; eps: f64) -> Two
            => norm::forward(x, weight, eps),
            else ops::rms_norm::forward::<Self>(x, weight, eps);
        fn rms_norm_backward(x, weight, scale, grad) -> Two
            => norm::backward(x, weight, scale, grad),
            else ops::rms_norm::backward::<Self>(x, weight, scale, grad);
        fn standardize_forward(x, weight, bias; eps: f64) -> Three
            => norm::layer_forward(x, weight, bias, eps),
            else ops::layer_norm::forward::<Self>(x, weight, bias, eps);
    }

    fn standardize_backward(
        x: FlexTensor,
        weight: FlexTensor,
        mean: FlexTensor,
        scale: FlexTensor,
        grad: FlexTensor,
    ) -> Three {
        if all_f32([&x, &weight, &grad]) {
            norm::layer_backward(x, weight, [mean, scale], grad)
        } else {
            ops::layer_norm::backward::<Self>(x, weight, mean, scale, grad)
        }
    }
}

impl StepBackend for Flex {
    kernels! {
        fn adamw(values, grad, first, second; step: AdamWStep) -> Three
            => adamw::step(values, grad, first, second, &step),
            else ops::adamw::composed_step::<Self>(values, grad, first, second, &step);
        fn sum_of_squares(x) -> FlexTensor
            => adamw::sum_of_squares(x),
            else ops::adamw::composed_sum_of_squares::<Self>(x);
    }
}
