//! The gated activation and its gradients: a unit has an element, everything between is f32.

use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{elementwise, empty, record};
use crate::ops::{
    Gate,
    activation::{CUBIC, LINEAR},
};

/// `σ(t(g))`
#[cube]
fn sigmoid_of(g: f32, #[comptime] gelu: bool) -> f32 {
    let mut t = g;
    if comptime![gelu] {
        t = (g * g * CUBIC + LINEAR) * g;
    }
    1f32 / (1f32 + (-t).exp())
}

#[cube(launch)]
fn forward_kernel<F: Float, U: Float>(
    gate: &Tensor<F>,
    up: &Tensor<U>,
    h: &mut Tensor<F>,
    #[comptime] gelu: bool,
    #[define(F, U)] _kinds: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= gate.len() {
        terminate!();
    }
    let g = f32::cast_from(gate[i]);
    h[i] = F::cast_from(sigmoid_of(g, gelu) * g * f32::cast_from(up[i]));
}

#[cube(launch)]
fn backward_kernel<F: Float, U: Float, G: Float>(
    gate: &Tensor<F>,
    up: &Tensor<U>,
    grad: &Tensor<G>,
    d_gate: &mut Tensor<F>,
    d_up: &mut Tensor<U>,
    h: &mut Tensor<F>,
    #[comptime] gelu: bool,
    #[define(F, U, G)] _kinds: [ElemType; 3],
) {
    let i = ABSOLUTE_POS;
    if i >= gate.len() {
        terminate!();
    }
    let g = f32::cast_from(gate[i]);
    let u = f32::cast_from(up[i]);
    let dh = f32::cast_from(grad[i]);
    let s = sigmoid_of(g, gelu);
    let act = s * g;
    // act'(g) = s + g·s·(1 − s)·t'(g)
    let mut slope = act * (1f32 - s);
    if comptime![gelu] {
        slope *= g * g * (3f32 * CUBIC) + LINEAR;
    }
    slope += s;
    d_gate[i] = F::cast_from(slope * u * dh);
    d_up[i] = U::cast_from(act * dh);
    h[i] = F::cast_from(act * u);
}

pub(super) fn forward(
    gate: CubeTensor,
    up: CubeTensor,
    act: Gate,
    kinds: [ElemType; 2],
) -> CubeTensor {
    let [gate, up] = [gate, up].map(into_contiguous);
    let h = empty(&gate, gate.meta.shape().clone(), gate.dtype);
    let (count, dim) = elementwise(gate.meta.shape().num_elements());
    record::ran("glu");
    forward_kernel::launch(
        &gate.client.clone(),
        count,
        dim,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        h.clone().into_tensor_arg(),
        act == Gate::GeluTanh,
        kinds,
    );
    h
}

pub(super) fn backward(
    gate: CubeTensor,
    up: CubeTensor,
    grad: CubeTensor,
    act: Gate,
    kinds: [ElemType; 3],
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [gate, up, grad] = [gate, up, grad].map(into_contiguous);
    let like = |t: &CubeTensor| empty(t, t.meta.shape().clone(), t.dtype);
    let (d_gate, d_up, h) = (like(&gate), like(&up), like(&gate));
    let (count, dim) = elementwise(gate.meta.shape().num_elements());
    record::ran("glu_backward");
    backward_kernel::launch(
        &gate.client.clone(),
        count,
        dim,
        gate.into_tensor_arg(),
        up.into_tensor_arg(),
        grad.into_tensor_arg(),
        d_gate.clone().into_tensor_arg(),
        d_up.clone().into_tensor_arg(),
        h.clone().into_tensor_arg(),
        act == Gate::GeluTanh,
        kinds,
    );
    (d_gate, d_up, h)
}
