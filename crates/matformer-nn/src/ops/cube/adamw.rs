//! A step of AdamW in one pass over memory, and the sum of squares that gradients are clipped by.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{UNITS, cubes, elementwise, empty, owned, record, sum_of_cube};
use crate::ops::AdamWStep;

/// Cubes that share a sum.
const SUMS: usize = 256;

#[cube(launch)]
#[allow(clippy::too_many_arguments)] // numbers of the step, which a kernel takes one by one
fn step_kernel(
    values: &mut Tensor<f32>,
    first: &mut Tensor<f32>,
    second: &mut Tensor<f32>,
    grad: &Tensor<f32>,
    scale: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    keep: f32,
    rate: f32,
    spread: f32,
) {
    let i = ABSOLUTE_POS;
    if i >= values.len() {
        terminate!();
    }
    let g = grad[i] * scale;
    let m = first[i] * beta1 + g * (1f32 - beta1);
    let v = second[i] * beta2 + g * g * (1f32 - beta2);
    first[i] = m;
    second[i] = v;
    values[i] = values[i] * keep - rate * m / ((v * spread).sqrt() + eps);
}

#[cube(launch)]
fn squares_kernel<F: Float>(
    x: &Tensor<F>,
    sums: &mut Tensor<f32>,
    #[comptime] units: usize,
    #[define(F)] _kind: ElemType,
) {
    let mut sum = 0f32;
    let mut i = ABSOLUTE_POS;
    let stride = sums.len() * units;
    while i < x.len() {
        let value = f32::cast_from(x[i]);
        sum += value * value;
        i += stride;
    }
    let total = sum_of_cube(sum, units);
    if UNIT_POS == 0 {
        sums[CUBE_POS] = total;
    }
}

/// Values and moments after a step; `state` is all three of them, written over where nobody else holds them.
pub(super) fn step(
    state: [CubeTensor; 3],
    grad: CubeTensor,
    step: &AdamWStep,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let grad = into_contiguous(grad);
    let [values, first, second] = state.map(owned);
    let (count, dim) = elementwise(values.meta.shape().num_elements());
    record::ran("adamw");
    step_kernel::launch(
        &values.client.clone(),
        count,
        dim,
        values.clone().into_tensor_arg(),
        first.clone().into_tensor_arg(),
        second.clone().into_tensor_arg(),
        grad.into_tensor_arg(),
        step.scale as f32,
        step.betas[0] as f32,
        step.betas[1] as f32,
        step.eps as f32,
        step.keep() as f32,
        step.rate() as f32,
        step.spread() as f32,
    );
    (values, first, second)
}

pub(super) fn sum_of_squares(x: CubeTensor, kind: ElemType) -> CubeTensor {
    let x = into_contiguous(x);
    let n = x.meta.shape().num_elements();
    let sums = empty(&x, [n.div_ceil(UNITS).clamp(1, SUMS)], DType::F32);
    record::ran("sum_of_squares");
    squares_kernel::launch(
        &x.client.clone(),
        cubes(sums.meta.shape().num_elements()),
        CubeDim::new_1d(UNITS as u32),
        x.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        UNITS,
        kind,
    );
    CubeBackend::float_sum(sums)
}
