//! The nested block in pieces of rows and neurons: activations stay in the cache between
//! their products, and every product is written where it belongs.

mod backward;
mod forward;

use std::ops::Range;

use burn::backend::Flex;

use super::{kernel::Values, product::Mat};
use crate::ops::{FfnSpec, FfnTensors, Gate, groups::Group};

pub(in crate::ops::flex) use backward::backward;
pub(in crate::ops::flex) use forward::forward;

/// Hidden rows of one piece.
const ROWS: usize = 128;
/// Neurons of one piece: with [`ROWS`], gate, up and their product take 3·128 KiB.
const UNITS: usize = 256;
/// Minimum and maximum number of neurons per weight-gradient task. Each task repacks the
/// input, so tasks should be large, but there must be enough of them for all cores.
const WEIGHT_UNITS: std::ops::RangeInclusive<usize> = 64..=256;
/// Below this number of output rows (summed over the blocks), as in generation, the kernel is not
/// used.
const FEWEST_ROWS: usize = 2 * ROWS;

/// Whether to use the kernel. Depends on the spec only, so that forward and backward agree: the
/// saved layouts differ.
pub(super) fn fits(spec: &FfnSpec) -> bool {
    spec.blocks.iter().map(|b| b.end - b.start).sum::<usize>() >= FEWEST_ROWS
}

/// Sizes that a pass goes by.
#[derive(Clone, Copy)]
struct Sizes {
    d_model: usize,
    /// Length of a row of down.
    d_ff: usize,
    gate: Option<Gate>,
}

/// The weights of a call, row-major.
struct Weights {
    up: Values,
    /// The gate, or the bias of up.
    inner: Values,
    down: Values,
}

impl Weights {
    fn of(tensors: FfnTensors<Flex>) -> Self {
        let [up, inner, down] = [tensors.up, tensors.inner, tensors.down].map(Values::of);
        Self { up, inner, down }
    }

    /// Rows `units` of up, `[units, d_model]`.
    fn up(&self, units: &Range<usize>, s: Sizes) -> Mat<'_> {
        Mat::rows(&self.up.get()[units.start * s.d_model..], s.d_model)
    }

    /// Rows `units` of the gate, `[units, d_model]`.
    fn gate(&self, units: &Range<usize>, s: Sizes) -> Mat<'_> {
        Mat::rows(&self.inner.get()[units.start * s.d_model..], s.d_model)
    }

    /// Columns `units` of down, `[d_model, units]`.
    fn down(&self, units: &Range<usize>, s: Sizes) -> Mat<'_> {
        Mat::rows(&self.down.get()[units.start..], s.d_ff)
    }
}

impl Group {
    /// Elements of its activations, `[input rows, widest]`.
    fn activations(&self) -> usize {
        self.input.len() * self.widest().width
    }
}

/// Splits off the first `n` elements.
fn take<'a>(rest: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    let (first, others) = std::mem::take(rest).split_at_mut(n);
    *rest = others;
    first
}

/// Chunks of `len` elements; an endless iterator of `None` without a gate.
fn chunks(values: Option<&mut [f32]>, len: usize) -> impl Iterator<Item = Option<&mut [f32]>> {
    let mut parts = values.map(|values| values.chunks_mut(len.max(1)));
    std::iter::repeat_with(move || parts.as_mut().and_then(Iterator::next))
}
