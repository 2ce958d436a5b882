//! Shared by the kernels: slices of tensors, vectorised loops.

use burn::backend::{
    TensorMetadata,
    flex::{FlexTensor, Layout},
};
use burn::tensor::{Bytes, DType, Shape};
use rayon::prelude::*;

use super::product::Mat;

/// The values of a tensor in row-major order; copies only if the tensor is not stored that way.
pub(super) struct Values(FlexTensor);

impl Values {
    pub(super) fn of(t: FlexTensor) -> Self {
        Self(if t.is_contiguous() { t } else { t.to_contiguous() })
    }

    pub(super) fn get(&self) -> &[f32] {
        match self.0.as_slice() {
            Some(values) => values,
            None => unreachable!("a contiguous tensor is a slice"),
        }
    }
}

/// A rank-2 tensor with contiguous rows. Slices of rows and columns are used without a copy; other
/// layouts are made contiguous.
pub(super) struct Rows {
    t: FlexTensor,
    row: usize,
}

impl Rows {
    pub(super) fn of(t: FlexTensor) -> Self {
        let [_, cols] = t.shape().dims();
        match *t.layout().strides() {
            [row, 1] if row.unsigned_abs() >= cols && row > 0 => Self { row: row as usize, t },
            _ => Self { t: t.to_contiguous(), row: cols },
        }
    }

    pub(super) fn mat(&self) -> Mat<'_> {
        Mat::rows(&self.t.storage()[self.t.layout().start_offset()..], self.row)
    }
}

/// The values of a tensor in row-major order, mutable; copies if the tensor is shared or not stored that way.
pub(super) fn values_mut(t: &mut FlexTensor) -> &mut [f32] {
    let n = t.shape().num_elements();
    if !t.is_contiguous() || t.layout().start_offset() != 0 || t.storage::<f32>().len() != n {
        // Also where it is a part of a larger one.
        *t = tensor(Values::of(t.clone()).get().to_vec(), &t.shape().to_vec());
    }
    t.storage_mut()
}

/// A tensor out of row-major values.
pub(super) fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// Values below which one core is as quick as all: 256 KiB.
const FEW: usize = 1 << 16;

/// Zero-filled vector. Large ones are written in parallel, so that page faults are spread over all
/// cores.
pub(super) fn zeros(n: usize) -> Vec<f32> {
    if n <= FEW {
        return vec![0.0; n];
    }
    let mut values = Vec::with_capacity(n);
    values.spare_capacity_mut()[..n].par_chunks_mut(FEW).for_each(|part| {
        part.fill(std::mem::MaybeUninit::new(0.0));
    });
    // SAFETY: all n were written.
    unsafe { values.set_len(n) };
    values
}

/// Compiles a function for the baseline instruction set and for AVX2, and selects one at run time.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(super) use vectorised;

pub(super) use crate::math::exp;

/// Partial sums and maxima side by side: the compiler may then use vector registers, and the
/// order of the sum is fixed.
pub(super) const LANES: usize = 16;

/// Sum in lanes.
#[inline(always)]
pub(super) fn lane_sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += f(*v);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Sum of products in lanes.
#[inline(always)]
pub(super) fn lane_dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = ca.remainder().iter().zip(cb.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in ca.zip(cb) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Largest value; NaN if there is one.
#[inline(always)]
fn lane_max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(f32::NEG_INFINITY, |m, v| larger(m, *v));
    for chunk in chunks {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *v);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

vectorised! {
    /// Turns logits into `exp(logit − max)`; returns the maximum and the sum.
    fn softmax_terms(row: &mut [f32]) -> (f32, f32) {
        let max = lane_max(row);
        for v in row.iter_mut() {
            *v = exp(*v - max);
        }
        (max, lane_sum(row, |v| v))
    }
}

vectorised! {
    /// The log of the sum of exponentials.
    fn log_sum_exp(row: &[f32]) -> f32 {
        let max = lane_max(row);
        max + lane_sum(row, |v| exp(v - max)).ln()
    }
}

vectorised! {
    /// Turns logits into `exp(logit − lse)·factor`.
    fn probabilities(row: &mut [f32], lse: f32, factor: f32) {
        for v in row.iter_mut() {
            *v = exp(*v - lse) * factor;
        }
    }
}

vectorised! {
    fn scale_by(values: &mut [f32], factor: f32) {
        for v in values.iter_mut() {
            *v *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exp() {
        for i in -8600..8800 {
            let x = i as f32 / 100.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found} against {expected}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn lanes_see_every_element() {
        for n in [0, 1, 15, 16, 17, 50] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let sum: f32 = values.iter().sum();
            assert_eq!(lane_sum(&values, |v| v), sum);
            let squares: f32 = values.iter().map(|v| v * v).sum();
            assert_eq!(lane_dot(&values, &values), squares);
            assert_eq!(lane_max(&values), values.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
        let mut values = [1.0; 40];
        values[17] = f32::NAN;
        assert!(lane_max(&values).is_nan());
    }
}
