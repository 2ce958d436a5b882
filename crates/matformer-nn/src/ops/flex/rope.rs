//! Rotary embedding in one pass over memory.

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::kernel::{Values, tensor, vectorised, zeros};

/// Rows of one task.
const CHUNK: usize = 64;

vectorised! {
    /// Rotates one head: pairs (x[i], x[half + i]) by angle i.
    fn rotate_head(x: &[f32], cos: &[f32], sin: &[f32], sign: f32, out: &mut [f32]) {
        let half = cos.len();
        let ((a, b), (left, right)) = (x.split_at(half), out.split_at_mut(half));
        let (b, sin, left, right) = (&b[..half], &sin[..half], &mut left[..half], &mut right[..half]);
        for i in 0..half {
            let s = sin[i] * sign;
            left[i] = a[i] * cos[i] - b[i] * s;
            right[i] = b[i] * cos[i] + a[i] * s;
        }
    }
}

pub(super) fn rotate(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, back: bool) -> FlexTensor {
    let ([n, d], [table, half]) = (x.shape().dims(), cos.shape().dims());
    let [x, cos, sin] = [x, cos, sin].map(Values::of);
    let sign = if back { -1.0 } else { 1.0 };
    let mut out = zeros(n * d);
    out.par_chunks_mut(CHUNK * d.max(1))
        .zip(x.get().par_chunks(CHUNK * d.max(1)))
        .enumerate()
        .for_each(|(chunk, (out, x))| {
            for (i, (out, x)) in out.chunks_mut(d).zip(x.chunks(d)).enumerate() {
                let at = (chunk * CHUNK + i) % table * half;
                let (cos, sin) = (&cos.get()[at..at + half], &sin.get()[at..at + half]);
                for (out, x) in out.chunks_mut(2 * half).zip(x.chunks(2 * half)) {
                    rotate_head(x, cos, sin, sign, out);
                }
            }
        });
    tensor(out, &[n, d])
}
