//! RMSNorm, layer norm and their gradients, row by row.

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::kernel::{Values, lane_sum, tensor, vectorised, zeros};

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
    let (mut out, mut scale) = (zeros(rows * d), zeros(rows));
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
    let mut dx = zeros(rows * d);
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
    let dw = sum(parts.iter(), d);
    (tensor(dx, &[rows, d]), tensor(dw, &[d]))
}

vectorised! {
    /// Writes `(x − mean)·scale·weight + bias`; returns mean and scale = 1/√(var(x) + eps).
    fn layer_row(x: &[f32], weights: [&[f32]; 2], eps: f32, out: &mut [f32]) -> (f32, f32) {
        let [weight, bias] = weights;
        let n = x.len() as f32;
        let mean = lane_sum(x, |v| v) / n;
        let scale = 1.0 / (lane_sum(x, |v| (v - mean) * (v - mean)) / n + eps).sqrt();
        for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = (x - mean) * scale * w + b;
        }
        (mean, scale)
    }
}

vectorised! {
    /// dx = scale·(g·w − mean(g·w) − n·mean(g·w·n)) with n = (x − mean)·scale; adds g·n to dw and
    /// g to db.
    fn layer_row_backward(
        inputs: [&[f32]; 3],
        statistics: (f32, f32),
        dx: &mut [f32],
        sums: [&mut [f32]; 2],
    ) {
        let (mean, scale) = statistics;
        let [x, weight, grad] = inputs;
        let [dw, db] = sums;
        let n = x.len();
        let (weight, grad, dx) = (&weight[..n], &grad[..n], &mut dx[..n]);
        let (dw, db) = (&mut dw[..n], &mut db[..n]);
        for i in 0..n {
            dx[i] = grad[i] * weight[i];
        }
        let level = lane_sum(dx, |v| v) / n as f32;
        for i in 0..n {
            let normed = (x[i] - mean) * scale;
            dw[i] += grad[i] * normed;
            db[i] += grad[i];
            dx[i] *= normed;
        }
        let along = lane_sum(dx, |v| v) / n as f32;
        for i in 0..n {
            let normed = (x[i] - mean) * scale;
            dx[i] = scale * (grad[i] * weight[i] - level - normed * along);
        }
    }
}

pub(super) fn layer_forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    eps: f64,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [rows, d] = x.shape().dims();
    let [x, weight, bias] = [x, weight, bias].map(Values::of);
    let (mut out, mut mean, mut scale) = (zeros(rows * d), zeros(rows), zeros(rows));
    out.par_chunks_mut(CHUNK * d)
        .zip(x.get().par_chunks(CHUNK * d))
        .zip(mean.par_chunks_mut(CHUNK).zip(scale.par_chunks_mut(CHUNK)))
        .for_each(|((out, x), (mean, scale))| {
            let rows = out.chunks_mut(d).zip(x.chunks(d));
            for ((out, x), (mean, scale)) in rows.zip(mean.iter_mut().zip(scale)) {
                (*mean, *scale) = layer_row(x, [weight.get(), bias.get()], eps as f32, out);
            }
        });
    (tensor(out, &[rows, d]), tensor(mean, &[rows, 1]), tensor(scale, &[rows, 1]))
}

pub(super) fn layer_backward(
    x: FlexTensor,
    weight: FlexTensor,
    statistics: [FlexTensor; 2],
    grad: FlexTensor,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [rows, d] = x.shape().dims();
    let [x, weight, grad] = [x, weight, grad].map(Values::of);
    let [mean, scale] = statistics.map(Values::of);
    let mut dx = zeros(rows * d);
    let parts: Vec<[Vec<f32>; 2]> = dx
        .par_chunks_mut(CHUNK * d)
        .zip(x.get().par_chunks(CHUNK * d).zip(grad.get().par_chunks(CHUNK * d)))
        .zip(mean.get().par_chunks(CHUNK).zip(scale.get().par_chunks(CHUNK)))
        .map(|((dx, (x, grad)), (mean, scale))| {
            let (mut dw, mut db) = (vec![0.0; d], vec![0.0; d]);
            let rows = dx.chunks_mut(d).zip(x.chunks(d).zip(grad.chunks(d)));
            for ((dx, (x, grad)), (mean, scale)) in rows.zip(mean.iter().zip(scale)) {
                let inputs = [x, weight.get(), grad];
                layer_row_backward(inputs, (*mean, *scale), dx, [&mut dw, &mut db]);
            }
            [dw, db]
        })
        .collect();
    let [dw, db] = [0, 1].map(|i| sum(parts.iter().map(|part| &part[i]), d));
    (tensor(dx, &[rows, d]), tensor(dw, &[d]), tensor(db, &[d]))
}

/// Sums the tasks' parts of a gradient in their order.
fn sum<'a>(parts: impl Iterator<Item = &'a Vec<f32>>, d: usize) -> Vec<f32> {
    let mut total = vec![0.0; d];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    total
}
