//! RMSNorm and its gradient, row by row.

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::kernel::{Values, lane_sum, tensor, vectorised};

/// Rows of one task. Weight gradients are summed per task, then over tasks in order.
const CHUNK: usize = 64;

vectorised! {
    /// Writes `x·scale·weight` and returns scale = 1/√(mean(x²) + eps).
    fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> f32 {
        let scale = 1.0 / (lane_sum(x, |v| v * v) / x.len() as f32 + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * w;
        }
        scale
    }
}

vectorised! {
    /// dx = scale·(g·w − x·scale²·mean(g·w·x)); adds g·x·scale to dw.
    fn norm_row_backward(inputs: [&[f32]; 3], scale: f32, dx: &mut [f32], dw: &mut [f32]) {
        let [x, weight, grad] = inputs;
        let n = x.len();
        let (weight, grad, dx, dw) = (&weight[..n], &grad[..n], &mut dx[..n], &mut dw[..n]);
        for i in 0..n {
            dx[i] = grad[i] * weight[i] * x[i];
        }
        let mean = lane_sum(dx, |v| v) / n as f32;
        let along = scale * scale * scale * mean;
        for i in 0..n {
            dx[i] = grad[i] * weight[i] * scale - x[i] * along;
            dw[i] += grad[i] * x[i] * scale;
        }
    }
}

pub(super) fn forward(x: FlexTensor, weight: FlexTensor, eps: f64) -> (FlexTensor, FlexTensor) {
    let [rows, d] = x.shape().dims();
    let (x, weight) = (Values::of(x), Values::of(weight));
    let (mut out, mut scale) = (vec![0.0; rows * d], vec![0.0; rows]);
    out.par_chunks_mut(CHUNK * d)
        .zip(x.get().par_chunks(CHUNK * d))
        .zip(scale.par_chunks_mut(CHUNK))
        .for_each(|((out, x), scale)| {
            let rows = out.chunks_mut(d).zip(x.chunks(d));
            for ((out, x), scale) in rows.zip(scale) {
                *scale = norm_row(x, weight.get(), eps as f32, out);
            }
        });
    (tensor(out, &[rows, d]), tensor(scale, &[rows, 1]))
}

pub(super) fn backward(
    x: FlexTensor,
    weight: FlexTensor,
    scale: FlexTensor,
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor) {
    let [rows, d] = x.shape().dims();
    let [x, weight, scale, grad] = [x, weight, scale, grad].map(Values::of);
    let mut dx = vec![0.0; rows * d];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(CHUNK * d)
        .zip(x.get().par_chunks(CHUNK * d).zip(grad.get().par_chunks(CHUNK * d)))
        .zip(scale.get().par_chunks(CHUNK))
        .map(|((dx, (x, grad)), scale)| {
            let mut dw = vec![0.0; d];
            let rows = dx.chunks_mut(d).zip(x.chunks(d).zip(grad.chunks(d)));
            for ((dx, (x, grad)), scale) in rows.zip(scale) {
                norm_row_backward([x, weight.get(), grad], *scale, dx, &mut dw);
            }
            dw
        })
        .collect();
    let mut dw = vec![0.0; d];
    for part in parts {
        dw.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    (tensor(dx, &[rows, d]), tensor(dw, &[d]))
}
