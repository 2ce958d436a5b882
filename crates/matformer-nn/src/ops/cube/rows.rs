//! Which of the passes over rows have a kernel: those of f32, f16 and bf16.

use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::{elem, elems, glu, logits, norm, softmax};
use crate::ops::{self, Divergence, Gate, RowBackend};

impl RowBackend for CubeBackend {
    fn rms_norm_forward(x: CubeTensor, weight: CubeTensor, eps: f64) -> (CubeTensor, CubeTensor) {
        match elems([&x, &weight]) {
            Some(kinds) => norm::rms_forward(x, weight, eps, kinds),
            None => ops::rms_norm::forward::<Self>(x, weight, eps),
        }
    }

    fn rms_norm_backward(
        x: CubeTensor,
        weight: CubeTensor,
        scale: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        match elems([&x, &weight, &grad]) {
            Some(kinds) => norm::rms_backward(x, weight, scale, grad, kinds),
            None => ops::rms_norm::backward::<Self>(x, weight, scale, grad),
        }
    }

    fn standardize_forward(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        eps: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match elems([&x, &weight, &bias]) {
            Some(kinds) => norm::layer_forward(x, weight, bias, eps, kinds),
            None => ops::layer_norm::forward::<Self>(x, weight, bias, eps),
        }
    }

    fn standardize_backward(
        x: CubeTensor,
        weight: CubeTensor,
        mean: CubeTensor,
        scale: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match elems([&x, &weight, &grad]) {
            Some(kinds) => norm::layer_backward(x, weight, [mean, scale], grad, kinds),
            None => ops::layer_norm::backward::<Self>(x, weight, mean, scale, grad),
        }
    }

    fn glu_backward(
        gate: CubeTensor,
        up: CubeTensor,
        grad: CubeTensor,
        act: Gate,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match elems([&gate, &up, &grad]) {
            Some(kinds) => glu::backward(gate, up, grad, act, kinds),
            None => ops::activation::glu_backward::<Self>(gate, up, grad, act),
        }
    }

    fn masked_softmax(
        scores: CubeTensor,
        seen: CubeTensor,
        scale: f64,
    ) -> (CubeTensor, CubeTensor) {
        match elem(&scores) {
            Some(kind) => softmax::forward(scores, seen, scale, kind),
            None => ops::softmax::forward::<Self>(scores, seen, scale),
        }
    }

    fn masked_softmax_backward(
        scores: CubeTensor,
        seen: CubeTensor,
        lse: CubeTensor,
        delta: CubeTensor,
        grad: CubeTensor,
        scale: f64,
    ) -> (CubeTensor, CubeTensor) {
        match elems([&scores, &grad]) {
            Some(kinds) => softmax::backward([scores, grad], seen, [lse, delta], scale, kinds),
            None => ops::softmax::backward::<Self>(scores, seen, lse, delta, grad, scale),
        }
    }

    fn logit_nats(logits: CubeTensor, targets: CubeTensor) -> (CubeTensor, CubeTensor) {
        match elem(&logits) {
            Some(kind) => logits::nats(logits, targets, kind),
            None => ops::cross_entropy::of_logits::<Self>(logits, targets),
        }
    }

    fn logit_nats_backward(
        logits: CubeTensor,
        targets: CubeTensor,
        lse: CubeTensor,
        grad: CubeTensor,
    ) -> CubeTensor {
        match elem(&logits) {
            Some(kind) => logits::nats_backward(logits, targets, [lse, grad], kind),
            None => ops::cross_entropy::gradient_of_logits::<Self>(logits, targets, lse, grad),
        }
    }

    fn logit_divergence(student: CubeTensor, teacher: CubeTensor, rule: Divergence) -> CubeTensor {
        match elems([&student, &teacher]) {
            Some(kinds) => logits::divergence([student, teacher], &rule, kinds),
            None => ops::divergence::of_logits::<Self>(student, teacher, &rule),
        }
    }

    fn logit_divergence_backward(
        student: CubeTensor,
        teacher: CubeTensor,
        grad: CubeTensor,
        rule: Divergence,
    ) -> CubeTensor {
        match elems([&student, &teacher]) {
            Some(kinds) => logits::divergence_backward([student, teacher], grad, &rule, kinds),
            None => ops::divergence::gradient_of_logits::<Self>(student, teacher, grad, &rule),
        }
    }
}
