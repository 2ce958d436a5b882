//! What matrices are multiplied with.

use std::ops::Range;

use matformer_nn::packed::BLOCK;

use super::levels::vectorised;
#[cfg(target_arch = "x86_64")]
use super::{
    avx2, avx512,
    levels::{AVX2, AVX512},
};

/// Lanes in which the products of a block are added up, of four values each.
const SUMS: usize = BLOCK / 4;

/// Inputs as the products with a format read them, `[inputs, cols]`; `cols` is a multiple of [`BLOCK`], padded
/// with zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
    /// The same in the order that registers of bf16 have: of each two registers the values at even places, then those
    /// at odd ones.
    #[cfg(target_arch = "x86_64")]
    even_odd: Vec<f32>,
    /// The same rounded to signed bytes in blocks.
    rounded: Vec<[i8; BLOCK]>,
    /// The scale of each block.
    scales: Vec<f32>,
    /// What the sums of each block begin with where 128 is added to the weights: -128 times the rounded values.
    begins: Vec<[i32; SUMS]>,
}

/// What products read beside the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Values,
    EvenOdd,
    Rounded,
}

/// An input, rounded to blocks.
#[derive(Clone, Copy)]
pub(super) struct RoundedRow<'a> {
    pub(super) blocks: &'a [[i8; BLOCK]],
    pub(super) scales: &'a [f32],
    pub(super) begins: &'a [[i32; SUMS]],
}

impl RoundedRow<'_> {
    /// Some blocks of it.
    pub(super) fn part(self, blocks: Range<usize>) -> Self {
        Self {
            blocks: &self.blocks[blocks.clone()],
            scales: &self.scales[blocks.clone()],
            begins: &self.begins[blocks],
        }
    }
}

impl Inputs {
    /// Takes rows of `width` values.
    pub(crate) fn set(&mut self, values: &[f32], width: usize, form: Form) {
        self.cols = width.next_multiple_of(BLOCK);
        self.values.clear();
        if width == self.cols {
            self.values.extend_from_slice(values);
        } else {
            for row in values.chunks_exact(width.max(1)) {
                self.values.extend_from_slice(row);
                self.values.resize(self.values.len() + self.cols - width, 0.0);
            }
        }
        #[cfg(target_arch = "x86_64")]
        if form == Form::EvenOdd {
            self.even_odd.resize(self.values.len(), 0.0);
            sort_even_odd(&self.values, &mut self.even_odd);
        }
        let round = form == Form::Rounded;
        let blocks = if round { self.values.len() / BLOCK } else { 0 };
        self.rounded.resize(blocks, [0; BLOCK]);
        self.scales.resize(blocks, 0.0);
        self.begins.resize(blocks, [0; SUMS]);
        if round {
            round_blocks(&self.values, &mut self.rounded, &mut self.scales, &mut self.begins);
        }
    }

    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// What registers of bf16 are multiplied with; plain code takes the values as they are.
    pub(super) fn even_odd_row(&self, i: usize) -> &[f32] {
        #[cfg(target_arch = "x86_64")]
        let sorted = &self.even_odd;
        #[cfg(not(target_arch = "x86_64"))]
        let sorted = &self.values;
        &sorted[i * self.cols..(i + 1) * self.cols]
    }

    pub(super) fn rounded_row(&self, i: usize) -> RoundedRow<'_> {
        let blocks = self.cols / BLOCK;
        let all = RoundedRow { blocks: &self.rounded, scales: &self.scales, begins: &self.begins };
        all.part(i * blocks..(i + 1) * blocks)
    }
}

#[cfg(target_arch = "x86_64")]
vectorised! {
    /// The values of each two registers, those at even places first. Plain code reads none of them.
    fn sort_even_odd(values: &[f32], to: &mut [f32]) {
        match LEVEL {
            AVX512 => sort_by::<{ avx512::WIDTH }>(values, to),
            AVX2 => sort_by::<{ avx2::WIDTH }>(values, to),
            _ => {}
        }
    }
}

/// The same for registers of `W` values.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sort_by<const W: usize>(values: &[f32], to: &mut [f32]) {
    for (from, to) in values.chunks_exact(2 * W).zip(to.chunks_exact_mut(2 * W)) {
        let (even, odd) = to.split_at_mut(W);
        for ((pair, even), odd) in from.as_chunks::<2>().0.iter().zip(even).zip(odd) {
            [*even, *odd] = *pair;
        }
    }
}

vectorised! {
    /// Each block's values over its scale, as whole numbers from −127 to 127.
    fn round_blocks(
        values: &[f32],
        rounded: &mut [[i8; BLOCK]],
        scales: &mut [f32],
        begins: &mut [[i32; SUMS]],
    ) {
        let blocks = values.as_chunks::<BLOCK>().0.iter().zip(rounded);
        for (((values, rounded), scale), begins) in blocks.zip(scales).zip(begins) {
            let largest = values.iter().fold(0f32, |max, v| max.max(v.abs()));
            *scale = largest / 127.0;
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            for (q, v) in rounded.iter_mut().zip(values) {
                *q = (v * inverse).round_ties_even() as i8;
            }
            for (begin, q) in begins.iter_mut().zip(rounded.as_chunks::<4>().0) {
                *begin = -128 * q.iter().map(|q| i32::from(*q)).sum::<i32>();
            }
        }
    }
}
