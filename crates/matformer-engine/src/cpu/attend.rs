//! Attention of a query head over what a slot holds.

use matformer_nn::math::exp;

#[cfg(target_arch = "x86_64")]
use super::{
    avx2, avx512,
    levels::{AVX2, AVX512},
};
use super::{
    dot::{LANES, ahead_by, dots, sum},
    levels::vectorised,
    load::F32,
};

/// Keys that a query is multiplied with at a time.
const KEYS: usize = 4;

vectorised! {
    /// Attention of one query head: softmax of its scaled products with keys, then the sum of values so weighted,
    /// added to `out`. Keys and values of a position begin `stride` after those of the one before.
    fn attend(
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        stride: usize,
        scale: f32,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let head_dim = query.len();
        let n = keys.len().div_ceil(stride);
        let key = |i: usize| &keys[i * stride..i * stride + head_dim];
        let ahead_by = ahead_by(KEYS * stride * size_of::<f32>());
        scores.clear();
        while scores.len() + KEYS <= n {
            let rows: [_; KEYS] = std::array::from_fn(|i| key(scores.len() + i));
            let found = dots::<F32, LEVEL, KEYS, 1>(rows, [query], [query], ahead_by);
            scores.extend(found.map(|[product]| product * scale));
        }
        while scores.len() < n {
            let [[product]] = dots::<F32, LEVEL, 1, 1>([key(scores.len())], [query], [query], ahead_by);
            scores.push(product * scale);
        }
        normalise(scores);
        weigh::<LEVEL>(scores, values, stride, out);
    }
}

vectorised! {
    /// Softmax of the scores from `start` to before `end`; the others become 0.
    fn softmax(scores: &mut [f32], start: usize, end: usize) {
        scores[..start].fill(0.0);
        scores[end..].fill(0.0);
        normalise(&mut scores[start..end]);
    }
}

/// Softmax.
#[inline(always)]
fn normalise(scores: &mut [f32]) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, score) in largest.iter_mut().zip(chunk) {
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let largest = largest.iter().chain(rest).fold(f32::NEG_INFINITY, |max, score| max.max(*score));
    scores.iter_mut().for_each(|score| *score = exp(*score - largest));
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, score) in lanes.iter_mut().zip(chunk) {
            *lane += score;
        }
    }
    let factor = 1.0 / (sum(lanes) + rest.iter().sum::<f32>());
    scores.iter_mut().for_each(|score| *score *= factor);
}

/// `out += Σ weights[i]·values[i]`, where a value begins `stride` after the one before.
#[inline(always)]
fn weigh<const LEVEL: u8>(weights: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
    let done = match LEVEL {
        // SAFETY: the processor has what they need.
        #[cfg(target_arch = "x86_64")]
        AVX512 => unsafe { avx512::weigh(weights, values, stride, out) },
        #[cfg(target_arch = "x86_64")]
        AVX2 => unsafe { avx2::weigh(weights, values, stride, out) },
        _ => 0,
    };
    let width = out.len();
    if done == width {
        return;
    }
    for (weight, value) in weights.iter().zip(values.chunks(stride)) {
        for (out, v) in out[done..].iter_mut().zip(&value[done..width]) {
            *out += weight * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole registers and what is left of them, more and fewer keys than go together.
    #[test]
    fn attention_is_the_weighted_sum_of_values() {
        for head_dim in [5, 8, 20, 64, 72] {
            for n in [1, 3, 4, 21] {
                let stride = 2 * head_dim + 3;
                let number = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
                let len = (n - 1) * stride + head_dim;
                let query: Vec<f32> = (0..head_dim).map(|i| 3.0 * number(i + 7)).collect();
                let [keys, values] =
                    [3, 5].map(|from| (from..from + len).map(number).collect::<Vec<f32>>());
                let mut found = vec![1.0; head_dim];
                attend(&query, &keys, &values, stride, 0.5, &mut vec![9.0], &mut found);
                let score = |i: usize| {
                    let key = keys[i * stride..].iter().zip(&query);
                    (0.5 * key.map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>()).exp()
                };
                let scores: Vec<f64> = (0..n).map(score).collect();
                for (column, found) in found.iter().enumerate() {
                    let of = |i: usize| scores[i] * f64::from(values[i * stride + column]);
                    let expected = 1.0 + (0..n).map(of).sum::<f64>() / scores.iter().sum::<f64>();
                    let off = (f64::from(*found) - expected).abs();
                    assert!(off < 1e-5, "{head_dim} {n} {column}: {found} for {expected}");
                }
            }
        }
    }
}
