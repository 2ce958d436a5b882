//! AdamW in one pass over memory, in place.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::kernel::{Values, lane_sum, tensor, values_mut, vectorised};
use crate::ops::AdamWStep;

/// Elements of one task. Sums of squares are added chunk by chunk, in order.
const CHUNK: usize = 1 << 14;

/// [`AdamWStep`] in single precision.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    scale: f32,
    betas: [f32; 2],
    fresh: [f32; 2],
    eps: f32,
    keep: f32,
    rate: f32,
    spread: f32,
}

impl Factors {
    fn of(s: &AdamWStep) -> Self {
        let [beta1, beta2] = s.betas;
        Self {
            scale: s.scale as f32,
            betas: [beta1 as f32, beta2 as f32],
            fresh: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            eps: s.eps as f32,
            keep: s.keep() as f32,
            rate: s.rate() as f32,
            spread: s.spread() as f32,
        }
    }
}

vectorised! {
    fn step_chunk(updated: [&mut [f32]; 3], grad: &[f32], f: Factors) {
        let [values, first, second] = updated;
        let n = values.len();
        let (first, second, grad) = (&mut first[..n], &mut second[..n], &grad[..n]);
        for i in 0..n {
            let g = grad[i] * f.scale;
            let m = first[i] * f.betas[0] + g * f.fresh[0];
            let v = second[i] * f.betas[1] + g * g * f.fresh[1];
            let root = (v * f.spread).sqrt() + f.eps;
            values[i] = values[i] * f.keep - m / root * f.rate;
            first[i] = m;
            second[i] = v;
        }
    }
}

vectorised! {
    fn squares(x: &[f32]) -> f32 {
        lane_sum(x, |v| v * v)
    }
}

pub(super) fn step(
    mut values: FlexTensor,
    grad: FlexTensor,
    mut first: FlexTensor,
    mut second: FlexTensor,
    s: &AdamWStep,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (grad, factors) = (Values::of(grad), Factors::of(s));
    let parts = [&mut values, &mut first, &mut second];
    let [p, m, v] = parts.map(|t| values_mut(t).par_chunks_mut(CHUNK));
    p.zip(m.zip(v))
        .zip(grad.get().par_chunks(CHUNK))
        .for_each(|((p, (m, v)), g)| step_chunk([p, m, v], g, factors));
    (values, first, second)
}

pub(super) fn sum_of_squares(x: FlexTensor) -> FlexTensor {
    let x = Values::of(x);
    let parts: Vec<f64> =
        x.get().par_chunks(CHUNK).map(|chunk| f64::from(squares(chunk))).collect();
    tensor(vec![parts.into_iter().sum::<f64>() as f32], &[1])
}
