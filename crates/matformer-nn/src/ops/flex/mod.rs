//! Kernels for Burn's CPU backend: what the composed bodies do in many passes over memory, done
//! block by block on all cores. Each is tested against its composed reference.
//!
//! Results do not depend on the number of threads: blocks have fixed sizes, and what is summed is
//! summed in a fixed order.

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod divergence;
mod ffn;
mod kernel;
mod linear;
mod norm;
mod rope;

use burn::backend::{
    Flex,
    flex::FlexTensor,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::DType;

use ffn::Between;

use crate::ops::divergence::Operands;

use super::{AdamWStep, AttentionSpec, Divergence, FfnSpec, NnBackend, StepBackend};
use crate::ops;
use kernel::tensor;

/// Whether all tensors are f32: what the kernels are written for.
fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32)
}

impl NnBackend for Flex {
    fn gqa(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&q, &k, &v]) {
            true => attention::forward([q, k, v], &spec),
            false => ops::attention::forward::<Self>(q, k, v, &spec),
        }
    }

    fn gqa_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&q, &k, &v, &out, &grad]) {
            true => attention::backward([q, k, v], out, lse, grad, &spec),
            false => ops::attention::backward::<Self>([q, k, v], out, lse, grad, &spec),
        }
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&hidden, &weight]) {
            true => cross_entropy::forward(hidden, weight, targets),
            false => ops::cross_entropy::forward::<Self>(hidden, weight, targets),
        }
    }

    fn cross_entropy_ahead(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> Vec<FloatTensor<Self>> {
        match all_f32(&[&hidden, &weight]) {
            true => cross_entropy::ahead(hidden, weight, targets),
            false => {
                let (nats, lse) = ops::cross_entropy::forward::<Self>(hidden, weight, targets);
                vec![nats, lse]
            }
        }
    }

    fn cross_entropy_scaled(
        d_hidden: FloatTensor<Self>,
        d_weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> Vec<FloatTensor<Self>> {
        cross_entropy::scaled([d_hidden, d_weight], grad)
    }

    fn cross_entropy_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&hidden, &weight, &grad]) {
            true => cross_entropy::backward(hidden, weight, targets, lse, grad),
            false => ops::cross_entropy::backward::<Self>(hidden, weight, targets, lse, grad),
        }
    }

    fn divergence(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        rule: Divergence,
    ) -> FloatTensor<Self> {
        let operands = Operands { hidden, weight, teacher, teacher_weight };
        if all_f32(&operands.all()) {
            divergence::forward(operands, &rule)
        } else {
            ops::divergence::forward::<Self>(&operands, &rule)
        }
    }

    fn divergence_ahead(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        teacher: FloatTensor<Self>,
        teacher_weight: FloatTensor<Self>,
        rule: Divergence,
    ) -> Vec<FloatTensor<Self>> {
        let operands = Operands { hidden, weight, teacher, teacher_weight };
        if all_f32(&operands.all()) {
            divergence::ahead(operands, &rule)
        } else {
            vec![ops::divergence::forward::<Self>(&operands, &rule)]
        }
    }

    fn gated_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &up, &gate, &down]) && ffn::fits(&spec) {
            true => ffn::forward(x, up, Between::Gate(gate), down, &spec),
            false => ops::nested_ffn::gated_forward::<Self>(x, up, gate, down, &spec),
        }
    }

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
        let saved = [saved_up, saved_gate];
        match all_f32(&[&x, &up, &gate, &down, &grad]) && ffn::fits(&spec) {
            true => ffn::backward(x, up, Between::Gate(gate), down, saved, grad, &spec),
            false => {
                ops::nested_ffn::gated_backward::<Self>(x, [up, gate, down], saved, grad, &spec)
            }
        }
    }

    fn plain_ffn(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        down: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &up, &bias, &down]) && ffn::fits(&spec) {
            true => {
                let (y, saved, _) = ffn::forward(x, up, Between::Bias(bias), down, &spec);
                (y, saved)
            }
            false => ops::nested_ffn::plain_forward::<Self>(x, up, bias, down, &spec),
        }
    }

    fn plain_ffn_backward(
        x: FloatTensor<Self>,
        up: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        down: FloatTensor<Self>,
        saved_up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: FfnSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &up, &bias, &down, &grad]) && ffn::fits(&spec) {
            true => {
                let saved = [saved_up, tensor(Vec::new(), &[0])];
                ffn::backward(x, up, Between::Bias(bias), down, saved, grad, &spec)
            }
            false => {
                ops::nested_ffn::plain_backward::<Self>(x, [up, bias, down], saved_up, grad, &spec)
            }
        }
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        match all_f32(&[&gate, &up]) {
            true => activation::swiglu(gate, up),
            false => ops::nested_ffn::swiglu::<Self>(gate, up),
        }
    }

    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&gate, &up, &grad]) {
            true => activation::swiglu_backward(gate, up, grad),
            false => ops::nested_ffn::swiglu_backward::<Self>(gate, up, grad),
        }
    }

    fn project(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        match all_f32(&[&x, &weight]) && linear::fits(&x) {
            true => linear::forward(x, weight),
            false => ops::linear::forward::<Self>(x, weight),
        }
    }

    fn project_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &weight, &grad]) {
            true => linear::backward(x, weight, grad),
            false => ops::linear::backward::<Self>(x, weight, grad),
        }
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &weight]) {
            true => norm::forward(x, weight, eps),
            false => ops::rms_norm::forward::<Self>(x, weight, eps),
        }
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &weight, &grad]) {
            true => norm::backward(x, weight, scale, grad),
            false => ops::rms_norm::backward::<Self>(x, weight, scale, grad),
        }
    }

    fn standardize(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &weight, &bias]) {
            true => norm::layer_forward(x, weight, bias, eps),
            false => ops::layer_norm::forward::<Self>(x, weight, bias, eps),
        }
    }

    fn standardize_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&x, &weight, &grad]) {
            true => norm::layer_backward(x, weight, [mean, scale], grad),
            false => ops::layer_norm::backward::<Self>(x, weight, [mean, scale], grad),
        }
    }

    fn rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        match all_f32(&[&x, &cos, &sin]) {
            true => rope::rotate(x, cos, sin, back),
            false => ops::rope::rotate::<Self>(x, cos, sin, back),
        }
    }
}

impl StepBackend for Flex {
    fn adamw(
        values: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match all_f32(&[&values, &grad, &first, &second]) {
            true => adamw::step(values, grad, first, second, &step),
            false => ops::adamw::composed_step::<Self>(values, grad, first, second, &step),
        }
    }

    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match all_f32(&[&x]) {
            true => adamw::sum_of_squares(x),
            false => ops::adamw::composed_sum_of_squares::<Self>(x),
        }
    }
}
