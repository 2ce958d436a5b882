//! The gated activation and its gradient, one pass over memory each.

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::kernel::{Values, exp, tensor, vectorised, zeros};

/// Elements of one task.
const CHUNK: usize = 1 << 14;

vectorised! {
    /// `silu(gate)·up`
    fn swiglu_chunk(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp(-g)) * u;
        }
    }
}

vectorised! {
    /// Gate and up become their gradients; the gradient of the activation becomes the activation.
    fn swiglu_backward_in_place(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
        let n = gate.len();
        let (up, grad) = (&mut up[..n], &mut grad[..n]);
        for i in 0..n {
            let s = 1.0 / (1.0 + exp(-gate[i]));
            let silu = gate[i] * s;
            let (u, dh) = (up[i], grad[i]);
            grad[i] = silu * u;
            up[i] = dh * silu;
            gate[i] = dh * u * (s + silu * (1.0 - s));
        }
    }
}

vectorised! {
    /// Writes dgate, dup and the activation itself.
    fn swiglu_backward_chunk(inputs: [&[f32]; 3], outputs: [&mut [f32]; 3]) {
        let [gate, up, grad] = inputs;
        let [d_gate, d_up, h] = outputs;
        let n = gate.len();
        let (up, grad) = (&up[..n], &grad[..n]);
        let (d_gate, d_up, h) = (&mut d_gate[..n], &mut d_up[..n], &mut h[..n]);
        for i in 0..n {
            let s = 1.0 / (1.0 + exp(-gate[i]));
            let silu = gate[i] * s;
            h[i] = silu * up[i];
            d_up[i] = grad[i] * silu;
            d_gate[i] = grad[i] * up[i] * (s + silu * (1.0 - s));
        }
    }
}

/// Φ(u), the standard normal's distribution function, and e^(−u²/2).
///
/// erfc as in Abramowitz and Stegun 7.1.26, within 1.5e-7; the smaller tail is what is computed, so
/// that it keeps its digits.
#[inline(always)]
fn normal(u: f32) -> (f32, f32) {
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * u.abs());
    let e = exp(-0.5 * u * u);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    let tail = 0.5 * p * t * e;
    (if u < 0.0 { tail } else { 1.0 - tail }, e)
}

vectorised! {
    /// Adds the bias to `u` and writes gelu(u).
    fn gelu_chunk(u: &mut [f32], bias: &[f32], out: &mut [f32]) {
        for ((u, b), out) in u.iter_mut().zip(bias).zip(out) {
            *u += b;
            *out = *u * normal(*u).0;
        }
    }
}

vectorised! {
    /// What GELU was given becomes its gradient; the gradient of the activation becomes the
    /// activation.
    fn gelu_backward_in_place(u: &mut [f32], grad: &mut [f32]) {
        // 1/√(2π)
        const DENSITY: f32 = 0.398_942_3;
        for (u, grad) in u.iter_mut().zip(grad) {
            let (cdf, e) = normal(*u);
            let h = *u * cdf;
            *u = *grad * (cdf + *u * (DENSITY * e));
            *grad = h;
        }
    }
}

pub(super) fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let shape = gate.shape().to_vec();
    let (gate, up) = (Values::of(gate), Values::of(up));
    let mut out = zeros(gate.get().len());
    out.par_chunks_mut(CHUNK)
        .zip(gate.get().par_chunks(CHUNK).zip(up.get().par_chunks(CHUNK)))
        .for_each(|(out, (gate, up))| swiglu_chunk(gate, up, out));
    tensor(out, &shape)
}

pub(super) fn swiglu_backward(
    gate: FlexTensor,
    up: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let shape = gate.shape().to_vec();
    let [gate, up, grad] = [gate, up, grad].map(Values::of);
    let mut outputs = [(); 3].map(|()| zeros(gate.get().len()));
    let [d_gate, d_up, h] = &mut outputs;
    let inputs = gate.get().par_chunks(CHUNK).zip(up.get().par_chunks(CHUNK));
    d_gate
        .par_chunks_mut(CHUNK)
        .zip(d_up.par_chunks_mut(CHUNK).zip(h.par_chunks_mut(CHUNK)))
        .zip(inputs.zip(grad.get().par_chunks(CHUNK)))
        .for_each(|((d_gate, (d_up, h)), ((gate, up), grad))| {
            swiglu_backward_chunk([gate, up, grad], [d_gate, d_up, h]);
        });
    let [d_gate, d_up, h] = outputs.map(|values| tensor(values, &shape));
    (d_gate, d_up, h)
}
