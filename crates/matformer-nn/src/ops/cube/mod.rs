//! Kernels for the GPU: what the composed bodies do in several launches, in one. Each is tested against its
//! composed reference; statistics are f32 whatever the tensors are stored in.
//!
//! Sums are taken in a fixed order, without atomic additions: a step computed twice is the same bits.

mod adamw;
mod lazy;
mod norm;
mod record;
mod rope;
pub(super) mod spec;

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    CubeBackend,
    cubecl::{
        self,
        ir::{ElemType, FloatKind},
        prelude::*,
    },
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use self::lazy::LazyKernels;
use super::{AdamWStep, NnBackend, StepBackend};
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

/// The sum of what the units of a cube hold; all of them get it.
#[cube]
fn sum_of_cube(value: f32, #[comptime] units: usize) -> f32 {
    let mut parts = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    parts[unit] = value;
    sync_cube();
    #[unroll]
    for halving in 1..comptime![units.ilog2() as usize + 1] {
        let span = comptime![units >> halving];
        if unit < span {
            let other = parts[unit + span];
            parts[unit] += other;
        }
        sync_cube();
    }
    let sum = parts[0];
    sync_cube();
    sum
}

impl NnBackend for CubeBackend {
    fn rms_norm(x: CubeTensor, weight: CubeTensor, eps: f64) -> CubeTensor {
        Self::rms_forward(x, weight, eps).0
    }

    fn standardize(x: CubeTensor, weight: CubeTensor, bias: CubeTensor, eps: f64) -> CubeTensor {
        Self::layer_forward(x, weight, bias, eps).0
    }

    fn rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, back: bool) -> CubeTensor {
        match elem(&x) {
            Some(kind) if cos.dtype == DType::F32 => rope::rotate(x, [cos, sin], back, kind),
            _ => ops::rope::rotate::<Self>(x, cos, sin, back),
        }
    }
}

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
