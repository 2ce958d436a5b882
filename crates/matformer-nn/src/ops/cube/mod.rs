//! Kernels for the GPU: what the composed bodies do in several launches, in one. Each is tested against its
//! composed reference; statistics are f32 whatever the tensors are stored in.
//!
//! Sums are taken in a fixed order, without atomic additions: a step computed twice is the same bits.

mod adamw;
mod glu;
mod logits;
mod norm;
mod record;
mod rope;
mod rows;
mod softmax;
pub(super) mod spec;

use burn::backend::{
    fusion::{Fusion, FusionBackend},
    ops::IntTensorOps,
};
use burn::tensor::{DType, IntDType, Shape};
use burn_cubecl::{
    CubeBackend,
    cubecl::{
        self,
        ir::{ElemType, FloatKind},
        prelude::*,
    },
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::{AdamWStep, Gate, NnBackend, NnKernels, StepBackend};
use crate::ops;

/// Units of a cube at most: what every device allows.
const UNITS: usize = 256;

/// The kind of number of a float tensor, `None` for those without a kernel.
fn elem(tensor: &CubeTensor) -> Option<ElemType> {
    match tensor.dtype {
        DType::F32 => Some(ElemType::Float(FloatKind::F32)),
        DType::F16 => Some(ElemType::Float(FloatKind::F16)),
        DType::BF16 => Some(ElemType::Float(FloatKind::BF16)),
        _ => None,
    }
}

/// As [`elem`] of each.
fn elems<const N: usize>(tensors: [&CubeTensor; N]) -> Option<[ElemType; N]> {
    let found: Vec<ElemType> = tensors.into_iter().map_while(elem).collect();
    found.try_into().ok()
}

/// A tensor without values yet, on the device of another.
fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// A tensor that may be overwritten: the tensor itself if it is not shared, otherwise a copy.
fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Whole numbers as kernels read them: i32, contiguous.
fn indices(tensor: CubeTensor) -> CubeTensor {
    match tensor.dtype {
        DType::I32 => into_contiguous(tensor),
        _ => into_contiguous(CubeBackend::int_cast(tensor, IntDType::I32)),
    }
}

/// A grid of at least `n` cubes; more than 65,535 do not fit one dimension.
fn cubes(n: usize) -> CubeCount {
    let wide = n.clamp(1, 65_535);
    CubeCount::Static(wide as u32, n.div_ceil(wide) as u32, 1)
}

/// A grid of [`UNITS`] units a cube, one for each of `n` elements.
fn elementwise(n: usize) -> (CubeCount, CubeDim) {
    (cubes(n.div_ceil(UNITS)), CubeDim::new_1d(UNITS as u32))
}

/// Units that go through a row of `d` values together: a power of two.
fn units_for(d: usize) -> usize {
    d.next_power_of_two().clamp(32, UNITS)
}

/// The sum, or with `max` the largest, of what the units of a cube hold; all of them get it.
#[cube]
fn over_cube(value: f32, #[comptime] max: bool, #[comptime] units: usize) -> f32 {
    let mut parts = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    parts[unit] = value;
    sync_cube();
    #[unroll]
    for halving in 1..comptime![units.ilog2() as usize + 1] {
        let span = comptime![units >> halving];
        if unit < span {
            let other = parts[unit + span];
            if comptime![max] {
                parts[unit] = parts[unit].max(other);
            } else {
                parts[unit] += other;
            }
        }
        sync_cube();
    }
    let found = parts[0];
    sync_cube();
    found
}

/// The sum of what the units of a cube hold; all of them get it.
#[cube]
fn sum_of_cube(value: f32, #[comptime] units: usize) -> f32 {
    over_cube(value, false, units)
}

/// `ln Σ exp(factor·x)` of the elements from `from` to before `to`, which the units of a cube go through together.
#[cube]
fn lse_of<F: Float>(
    x: &Tensor<F>,
    from: usize,
    to: usize,
    factor: f32,
    #[comptime] units: usize,
) -> f32 {
    let mut max = f32::min_value();
    let mut sum = 0f32;
    let mut i = from + UNIT_POS as usize;
    while i < to {
        let value = f32::cast_from(x[i]) * factor;
        if value > max {
            sum = sum * (max - value).exp() + 1f32;
            max = value;
        } else {
            sum += (value - max).exp();
        }
        i += units;
    }
    let top = over_cube(max, true, units);
    let all = sum_of_cube(sum * (max - top).exp(), units);
    top + all.ln()
}

impl NnBackend for CubeBackend {
    fn glu(gate: CubeTensor, up: CubeTensor, act: Gate) -> CubeTensor {
        match elems([&gate, &up]) {
            Some(kinds) => glu::forward(gate, up, act, kinds),
            None => ops::activation::glu::<Self>(gate, up, act),
        }
    }

    fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, back: bool) -> CubeTensor {
        match elem(&x) {
            Some(kind) if cos.dtype == DType::F32 => rope::rotate(x, [cos, sin], back, kind),
            _ => ops::rope::rotate::<Self>(x, cos, sin, back),
        }
    }
}

// Passes of several launches, recorded one by one.
impl<B: FusionBackend + NnBackend> NnKernels for Fusion<B> {}

impl StepBackend for CubeBackend {
    fn adamw(
        values: CubeTensor,
        grad: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        step: AdamWStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        if [&values, &grad, &first, &second].iter().all(|t| t.dtype == DType::F32) {
            adamw::step([values, first, second], grad, &step)
        } else {
            ops::adamw::composed_step::<Self>(values, grad, first, second, &step)
        }
    }

    fn sum_of_squares(x: CubeTensor) -> CubeTensor {
        match elem(&x) {
            Some(kind) => adamw::sum_of_squares(x, kind),
            None => ops::adamw::composed_sum_of_squares::<Self>(x),
        }
    }
}
