//! Dot products of a few rows of a matrix with a few inputs: what decoding spends its time on. Chosen at run time:
//! plain code, or registers of AVX2, or of AVX-512 with VNNI.

use matformer_nn::{
    math::exp,
    ops::Gate,
    packed::{BLOCK, BLOCK_BYTES},
};

#[cfg(any(target_arch = "x86_64", test))]
use super::levels::PLAIN;
#[cfg(target_arch = "x86_64")]
use super::{
    avx2, avx512,
    levels::{AVX2, AVX512},
};
use super::{
    inputs::Inputs,
    levels::vectorised,
    load::{Bf16, F32, Load},
    ring::Ring,
};

/// Numbers that are multiplied side by side.
pub(super) const LANES: usize = 16;
/// Rows of the matrix that go through the inputs together: with four inputs, as many sums as half the registers.
const ROWS: usize = 2;
/// Bytes between what is computed with and what is asked for, at least.
const AHEAD: usize = 4096;

/// Rows of a matrix in one of the formats, row-major: numbers, or blocks of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    F32(&'a [f32]),
    Bf16(&'a [[u8; 2]]),
    Q8(&'a [[u8; BLOCK_BYTES]]),
}

vectorised! {
    /// `out[row][i] += rows[row] · inputs[i]` in the columns and for the inputs of each ring, which begins and ends at
    /// multiples of [`BLOCK`] or the end of the row. `out` is `[rows, stride]`. Rows are read once, from one end to
    /// the other.
    fn products(
        rows: Rows<'_>,
        cols: usize,
        inputs: &Inputs,
        rings: &[Ring],
        out: &mut [f32],
        stride: usize,
    ) {
        at_level::<LEVEL>(rows, cols, inputs, rings, out, stride);
    }
}

vectorised! {
    /// The values of rows in f32.
    fn widen(rows: Rows<'_>, out: &mut [f32]) {
        match rows {
            Rows::F32(values) => out.copy_from_slice(values),
            Rows::Bf16(values) => {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = Bf16::widen(*value);
                }
            }
            Rows::Q8(blocks) => {
                for (out, block) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
                    let scale = half(u16::from_le_bytes([block[0], block[1]]));
                    for (out, value) in out.iter_mut().zip(&block[2..]) {
                        *out = f32::from(*value as i8) * scale;
                    }
                }
            }
        }
    }
}

vectorised! {
    /// The activations of a block's neurons, where the products with `up` were: `act(gate)·up`, or without a gate
    /// the exact GELU of up.
    fn gated(act: Option<Gate>, gate: &[f32], up: &mut [f32]) {
        match act {
            Some(Gate::Silu) => {
                for (u, g) in up.iter_mut().zip(gate) {
                    *u *= g / (1.0 + exp(-g));
                }
            }
            // (1 + tanh z)/2 = σ(2z)
            Some(Gate::GeluTanh) => {
                for (u, g) in up.iter_mut().zip(gate) {
                    let twice = 1.595_769_2 * (g + 0.044_715 * g * g * g);
                    *u *= g / (1.0 + exp(-twice));
                }
            }
            None => {
                for u in up {
                    *u *= 0.5 * (1.0 + libm::erff(*u * std::f32::consts::FRAC_1_SQRT_2));
                }
            }
        }
    }
}

/// The same at one level, which the processor has.
#[inline(always)]
fn at_level<const LEVEL: u8>(
    rows: Rows<'_>,
    cols: usize,
    inputs: &Inputs,
    rings: &[Ring],
    out: &mut [f32],
    stride: usize,
) {
    match rows {
        Rows::F32(rows) => of_format::<F32, LEVEL>(rows, cols, inputs, rings, out, stride),
        Rows::Bf16(rows) => of_format::<Bf16, LEVEL>(rows, cols, inputs, rings, out, stride),
        Rows::Q8(rows) => of_format::<Q8, LEVEL>(rows, cols / BLOCK, inputs, rings, out, stride),
    }
}

/// How the rows of a format are multiplied.
trait Format {
    type Unit;

    /// `R` rows of the matrix, `[from, to)` of each, with inputs `i` to before `i + M`. What lies `ahead_by` bytes
    /// ahead is asked for.
    fn dots<const LEVEL: u8, const R: usize, const M: usize>(
        rows: [&[Self::Unit]; R],
        inputs: &Inputs,
        i: usize,
        ring: Ring,
        ahead_by: usize,
    ) -> [[f32; M]; R];
}

#[inline(always)]
fn of_format<F: Format, const LEVEL: u8>(
    rows: &[F::Unit],
    row_units: usize,
    inputs: &Inputs,
    rings: &[Ring],
    out: &mut [f32],
    stride: usize,
) {
    let ahead_by = ahead_by(ROWS * row_units * size_of::<F::Unit>());
    let groups = rows.chunks(ROWS * row_units).zip(out.chunks_mut(ROWS * stride));
    for (rows, out) in groups {
        if rows.len() == ROWS * row_units {
            let rows = std::array::from_fn(|r| &rows[r * row_units..(r + 1) * row_units]);
            of_rows::<F, LEVEL, ROWS>(rows, inputs, rings, out, stride, ahead_by);
        } else {
            for (row, out) in rows.chunks_exact(row_units).zip(out.chunks_mut(stride)) {
                of_rows::<F, LEVEL, 1>([row], inputs, rings, out, stride, ahead_by);
            }
        }
    }
}

#[inline(always)]
fn of_rows<F: Format, const LEVEL: u8, const R: usize>(
    rows: [&[F::Unit]; R],
    inputs: &Inputs,
    rings: &[Ring],
    out: &mut [f32],
    stride: usize,
    ahead_by: usize,
) {
    for ring in rings.iter().copied() {
        let mut i = 0;
        while i < ring.inputs {
            i = match ring.inputs - i {
                1 => add(F::dots::<LEVEL, R, 1>(rows, inputs, i, ring, ahead_by), i, out, stride),
                2 | 3 => {
                    add(F::dots::<LEVEL, R, 2>(rows, inputs, i, ring, ahead_by), i, out, stride)
                }
                _ => add(F::dots::<LEVEL, R, 4>(rows, inputs, i, ring, ahead_by), i, out, stride),
            };
        }
    }
}

/// How many bytes ahead to ask for weights where rows that are read together have `group` bytes: the same place of
/// later rows, or of long rows a later place. Measured: with this the products read memory as fast as anything does.
#[inline(always)]
pub(super) fn ahead_by(group: usize) -> usize {
    if group == 0 || group > 4 * AHEAD { AHEAD } else { AHEAD.next_multiple_of(group) }
}

/// Adds the dot products of inputs from `i` on; returns the next.
#[inline(always)]
fn add<const R: usize, const M: usize>(
    found: [[f32; M]; R],
    i: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    for (r, found) in found.iter().enumerate() {
        for (m, found) in found.iter().enumerate() {
            out[r * stride + i + m] += found;
        }
    }
    i + M
}

vectorised! {
    /// The sum of squares.
    fn squares(values: &[f32]) -> f32 {
        let (chunks, rest) = values.as_chunks::<LANES>();
        let mut lanes = [0f32; LANES];
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v * v);
        }
        sum(lanes) + rest.iter().map(|v| v * v).sum::<f32>()
    }
}

/// The sum of all lanes, in pairs.
#[inline(always)]
pub(super) fn sum(mut lanes: [f32; LANES]) -> f32 {
    let mut span = LANES / 2;
    while span > 0 {
        for i in 0..span {
            lanes[i] += lanes[i + span];
        }
        span /= 2;
    }
    lanes[0]
}

/// The products of rows with inputs, all of one length; `sorted` are the inputs as whole registers of the rows' format
/// read them. What lies `ahead_by` bytes ahead is asked for.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub(super) fn dots<L: Load, const LEVEL: u8, const R: usize, const M: usize>(
    rows: [&[L::Unit]; R],
    inputs: [&[f32]; M],
    sorted: [&[f32]; M],
    ahead_by: usize,
) -> [[f32; M]; R] {
    #[cfg(target_arch = "x86_64")]
    if LEVEL != PLAIN {
        // SAFETY: the processor has what it needs.
        let (mut found, width) = unsafe {
            if LEVEL == AVX512 {
                (avx512::dots::<L, R, M>(rows, sorted, ahead_by), 2 * avx512::WIDTH)
            } else {
                (avx2::dots::<L, R, M>(rows, sorted, ahead_by), 2 * avx2::WIDTH)
            }
        };
        let whole = inputs[0].len() / width * width;
        if whole < inputs[0].len() {
            let rest =
                plain_dots::<L, R, M>(rows.map(|r| &r[whole..]), inputs.map(|x| &x[whole..]));
            for (found, rest) in found.iter_mut().flatten().zip(rest.iter().flatten()) {
                *found += rest;
            }
        }
        return found;
    }
    plain_dots::<L, R, M>(rows, inputs)
}

/// The same by plain code.
#[inline(always)]
fn plain_dots<L: Load, const R: usize, const M: usize>(
    rows: [&[L::Unit]; R],
    inputs: [&[f32]; M],
) -> [[f32; M]; R] {
    let mut found = [[0f32; M]; R];
    for (row, found) in rows.iter().zip(&mut found) {
        for (x, found) in inputs.iter().zip(found) {
            let mut lanes = [0f32; LANES];
            let ((w, w_rest), (x, x_rest)) = (row.as_chunks::<LANES>(), x.as_chunks::<LANES>());
            for (w, x) in w.iter().zip(x) {
                for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
                    *lane += L::widen(*w) * x;
                }
            }
            let rest: f32 = w_rest.iter().zip(x_rest).map(|(w, x)| L::widen(*w) * x).sum();
            *found = sum(lanes) + rest;
        }
    }
    found
}

impl<L: Load> Format for L {
    type Unit = L::Unit;

    #[inline(always)]
    fn dots<const LEVEL: u8, const R: usize, const M: usize>(
        rows: [&[L::Unit]; R],
        inputs: &Inputs,
        i: usize,
        ring: Ring,
        ahead_by: usize,
    ) -> [[f32; M]; R] {
        let columns = ring.from..ring.to;
        let mut x = [&[0f32][..0]; M];
        let mut sorted = x;
        for m in 0..M {
            x[m] = &inputs.row(i + m)[columns.clone()];
            sorted[m] = &L::sorted(inputs, i + m)[columns.clone()];
        }
        dots::<L, LEVEL, R, M>(rows.map(|row| &row[columns.clone()]), x, sorted, ahead_by)
    }
}

struct Q8;

impl Format for Q8 {
    type Unit = [u8; BLOCK_BYTES];

    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    fn dots<const LEVEL: u8, const R: usize, const M: usize>(
        rows: [&[Self::Unit]; R],
        inputs: &Inputs,
        i: usize,
        ring: Ring,
        ahead_by: usize,
    ) -> [[f32; M]; R] {
        let blocks = ring.from / BLOCK..ring.to.div_ceil(BLOCK);
        let rows = rows.map(|row| &row[blocks.clone()]);
        #[cfg(target_arch = "x86_64")]
        match LEVEL {
            // SAFETY: the processor has what they need.
            AVX512 => return unsafe { avx512::q8_dots(rows, inputs, i, blocks.start, ahead_by) },
            AVX2 => return unsafe { avx2::q8_dots(rows, inputs, i, blocks.start, ahead_by) },
            _ => {}
        }
        let mut found = [[0f32; M]; R];
        for (row, found) in rows.iter().zip(&mut found) {
            for (m, found) in found.iter_mut().enumerate() {
                let x = inputs.rounded_row(i + m).part(blocks.clone());
                for ((block, q), by) in row.iter().zip(x.blocks).zip(x.scales) {
                    let products = block[2..].iter().zip(q);
                    let sum: i32 = products.map(|(w, q)| i32::from(*w as i8) * i32::from(*q)).sum();
                    *found += sum as f32 * half(u16::from_le_bytes([block[0], block[1]])) * by;
                }
            }
        }
        found
    }
}

/// An f16 as f32, in three operations: `f16::to_f32` looks for the processor's own at each call.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    // Shifted into place, the exponent is 112 too low: also right for subnormal numbers.
    const SHIFT: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7FFF) << 13) * SHIFT;
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests;
