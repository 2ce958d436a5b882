//! Softmax of attention: a cube goes through the scores of a query.

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{cubes, elementwise, empty, indices, lse_of, owned, record, units_for};

/// The keys that the query of a row of scores sees: the first, and the one after the last.
#[cube]
fn seen_by<F: Float>(row: usize, scores: &Tensor<F>, seen: &Tensor<i32>) -> (usize, usize) {
    let queries = seen.shape(1);
    let batch = row / (scores.shape(1) * scores.shape(2)) % seen.shape(0);
    let at = (batch * queries + row % queries) * 2;
    (usize::cast_from(seen[at]), usize::cast_from(seen[at + 1]))
}

/// Puts probabilities where the scores were.
#[cube(launch)]
fn forward_kernel<F: Float>(
    scores: &mut Tensor<F>,
    seen: &Tensor<i32>,
    lse: &mut Tensor<f32>,
    scale: f32,
    #[comptime] units: usize,
    #[define(F)] _kind: ElemType,
) {
    let row = CUBE_POS;
    if row >= lse.len() {
        terminate!();
    }
    let keys = scores.shape(3);
    let first = row * keys;
    let (from, to) = seen_by(row, &*scores, seen);
    let total = lse_of(&*scores, first + from, first + to, scale, units);
    let mut i = UNIT_POS as usize;
    while i < keys {
        let mut p = 0f32;
        if i >= from && i < to {
            p = (f32::cast_from(scores[first + i]) * scale - total).exp();
        }
        scores[first + i] = F::cast_from(p);
        i += units;
    }
    if UNIT_POS == 0 {
        lse[row] = total;
    }
}

/// Puts probabilities where the scores were, and the gradient of the scores where that of the probabilities was.
#[cube(launch)]
fn backward_kernel<F: Float, G: Float>(
    scores: &mut Tensor<F>,
    grad: &mut Tensor<G>,
    seen: &Tensor<i32>,
    lse: &Tensor<f32>,
    delta: &Tensor<f32>,
    scale: f32,
    #[define(F, G)] _kinds: [ElemType; 2],
) {
    let i = ABSOLUTE_POS;
    if i >= scores.len() {
        terminate!();
    }
    let keys = scores.shape(3);
    let row = i / keys;
    let key = i % keys;
    let (from, to) = seen_by(row, &*scores, seen);
    let mut p = 0f32;
    let mut ds = 0f32;
    if key >= from && key < to {
        p = (f32::cast_from(scores[i]) * scale - lse[row]).exp();
        ds = p * (f32::cast_from(grad[i]) - delta[row]) * scale;
    }
    scores[i] = F::cast_from(p);
    grad[i] = G::cast_from(ds);
}

pub(super) fn forward(
    scores: CubeTensor,
    seen: CubeTensor,
    scale: f64,
    kind: ElemType,
) -> (CubeTensor, CubeTensor) {
    let (scores, seen) = (owned(scores), indices(seen));
    let [rows, kv_heads, stacked, keys] = scores.meta.shape().dims();
    let lse = empty(&scores, [rows, kv_heads, stacked, 1], DType::F32);
    let units = units_for(keys);
    record::ran("masked_softmax");
    forward_kernel::launch(
        &scores.client.clone(),
        cubes(rows * kv_heads * stacked),
        CubeDim::new_1d(units as u32),
        scores.clone().into_tensor_arg(),
        seen.into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        scale as f32,
        units,
        kind,
    );
    (scores, lse)
}

/// Of scores and the gradient of the probabilities, log-sum-exps and deltas.
pub(super) fn backward(
    scores_and_grad: [CubeTensor; 2],
    seen: CubeTensor,
    statistics: [CubeTensor; 2],
    scale: f64,
    kinds: [ElemType; 2],
) -> (CubeTensor, CubeTensor) {
    let [scores, grad] = scores_and_grad.map(owned);
    let [lse, delta] = statistics.map(into_contiguous);
    let (count, dim) = elementwise(scores.meta.shape().num_elements());
    record::ran("masked_softmax_backward");
    backward_kernel::launch(
        &scores.client.clone(),
        count,
        dim,
        scores.clone().into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        indices(seen).into_tensor_arg(),
        lse.into_tensor_arg(),
        delta.into_tensor_arg(),
        scale as f32,
        kinds,
    );
    (scores, grad)
}
