//! Activations and their gradients, one pass over memory each.

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::kernel::{Values, exp, tensor, values_mut, vectorised, zeros};
use crate::ops::{
    Gate,
    activation::{CUBIC, LINEAR},
};

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// `t(g)` and `t'(g)` of a gate `g·σ(t(g))`.
#[inline(always)]
fn silu(g: f32) -> (f32, f32) {
    (g, 1.0)
}

#[inline(always)]
fn gelu_tanh(g: f32) -> (f32, f32) {
    let square = g * g;
    (g * (LINEAR + CUBIC * square), LINEAR + 3.0 * CUBIC * square)
}

/// `act(gate)·up`
#[inline(always)]
fn glu_of(act: impl Fn(f32) -> (f32, f32), gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
        *out = g / (1.0 + exp(-act(*g).0)) * u;
    }
}

/// Of one element: gradients of gate and up, and the activation.
#[inline(always)]
fn glu_gradients(act: impl Fn(f32) -> (f32, f32), gate: f32, up: f32, grad: f32) -> [f32; 3] {
    let (t, slope) = act(gate);
    let s = 1.0 / (1.0 + exp(-t));
    let value = gate * s;
    [grad * up * (s + value * (1.0 - s) * slope), grad * value, value * up]
}

/// Gate and up become their gradients; the gradient of the activation becomes the activation.
#[inline(always)]
fn glu_backward_of(
    act: impl Fn(f32) -> (f32, f32),
    gate: &mut [f32],
    up: &mut [f32],
    grad: &mut [f32],
) {
    let n = gate.len();
    let (up, grad) = (&mut up[..n], &mut grad[..n]);
    for i in 0..n {
        [gate[i], up[i], grad[i]] = glu_gradients(&act, gate[i], up[i], grad[i]);
    }
}

vectorised! {
    fn swiglu_chunk(gate: &[f32], up: &[f32], out: &mut [f32]) {
        glu_of(silu, gate, up, out);
    }
}

vectorised! {
    fn geglu_chunk(gate: &[f32], up: &[f32], out: &mut [f32]) {
        glu_of(gelu_tanh, gate, up, out);
    }
}

/// `act(gate)·up`
pub(super) fn glu_chunk(act: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    match act {
        Gate::Silu => swiglu_chunk(gate, up, out),
        Gate::GeluTanh => geglu_chunk(gate, up, out),
    }
}

vectorised! {
    fn swiglu_backward_in_place(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
        glu_backward_of(silu, gate, up, grad);
    }
}

vectorised! {
    fn geglu_backward_in_place(gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
        glu_backward_of(gelu_tanh, gate, up, grad);
    }
}

/// Gate and up become their gradients; the gradient of the activation becomes the activation.
pub(super) fn glu_backward_in_place(act: Gate, gate: &mut [f32], up: &mut [f32], grad: &mut [f32]) {
    match act {
        Gate::Silu => swiglu_backward_in_place(gate, up, grad),
        Gate::GeluTanh => geglu_backward_in_place(gate, up, grad),
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

pub(super) fn glu(gate: FlexTensor, up: FlexTensor, act: Gate) -> FlexTensor {
    let shape = gate.shape().to_vec();
    let (gate, up) = (Values::of(gate), Values::of(up));
    let mut out = zeros(gate.get().len());
    out.par_chunks_mut(CHUNK)
        .zip(gate.get().par_chunks(CHUNK).zip(up.get().par_chunks(CHUNK)))
        .for_each(|(out, (gate, up))| glu_chunk(act, gate, up, out));
    tensor(out, &shape)
}

/// What is given is overwritten where nobody else holds it.
pub(super) fn glu_backward(
    mut gate: FlexTensor,
    mut up: FlexTensor,
    mut grad: FlexTensor,
    act: Gate,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [g, u, h] = [&mut gate, &mut up, &mut grad].map(|t| values_mut(t).par_chunks_mut(CHUNK));
    g.zip(u.zip(h)).for_each(|(g, (u, h))| glu_backward_in_place(act, g, u, h));
    (gate, up, grad)
}
