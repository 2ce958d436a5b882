//! The nested block in pieces of rows and width: activations stay in the cache between their
//! products, and every product is written where it belongs.

use std::ops::Range;

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::activation::{
    gelu_backward_in_place, gelu_chunk, swiglu_backward_in_place, swiglu_chunk,
};
use super::kernel::{Mat, Shared, Size, Values, Write, product, tensor, values_mut, zeros};
use crate::ops::FfnSpec;

/// Hidden rows of one piece.
const ROWS: usize = 128;
/// Width of one piece: with [`ROWS`], gate, up and their product take 3·128 KiB.
const WIDTH: usize = 256;
/// Rows of the matrices whose gradients one task writes, at least and at most: each task brings
/// the input into order again, so few large ones, but enough for the cores.
const WEIGHT_ROWS: std::ops::RangeInclusive<usize> = 64..=256;
/// Fewer input rows than this do not fill two cores: generation.
const FEWEST_ROWS: usize = 2 * ROWS;

const NEW: Write = Write { add: false, factor: 1.0, parallel: false };
const ADD: Write = Write { add: true, ..NEW };

/// Whether a call is worth pieces; the backward of a call answers as its forward did.
pub(super) fn fits(spec: &FfnSpec) -> bool {
    spec.blocks.iter().map(|b| b.end - b.start).sum::<usize>() >= FEWEST_ROWS
}

/// What stands between a block's first product and its second.
#[derive(Clone, Copy)]
pub(super) enum Between<T> {
    /// SwiGLU with this gate, `[d_ff, d_model]`.
    Gate(T),
    /// This bias, `[d_ff]`, and exact GELU.
    Bias(T),
}

impl<T> Between<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Between<U> {
        match self {
            Self::Gate(t) => Between::Gate(f(t)),
            Self::Bias(t) => Between::Bias(f(t)),
        }
    }

    fn get(&self) -> &T {
        let (Self::Gate(t) | Self::Bias(t)) = self;
        t
    }

    fn is_gate(&self) -> bool {
        matches!(self, Self::Gate(_))
    }
}

/// The weights of a call.
#[derive(Clone, Copy)]
struct Weights<'a> {
    up: &'a [f32],
    between: Between<&'a [f32]>,
    down: &'a [f32],
}

/// All blocks of one input range.
struct Group {
    input: Range<usize>,
    /// (width, first row of its output), ascending.
    members: Vec<(usize, usize)>,
    /// Where the group's activations `[input rows, widest]` start.
    saved: usize,
}

impl Group {
    fn widest(&self) -> usize {
        self.members.last().map_or(0, |(width, _)| *width)
    }

    /// First output row of the widest block.
    fn output(&self) -> usize {
        self.members.last().map_or(0, |(_, first)| *first)
    }

    /// Pieces of the width between neighbouring members, each at most `longest`.
    fn pieces(&self, longest: usize) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for (width, _) in &self.members {
            while start < *width {
                let end = (start + longest).min(*width);
                pieces.push(start..end);
                start = end;
            }
        }
        pieces
    }

    /// Runs of rows, each of one task.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.input.len();
        (0..n).step_by(ROWS).map(move |start| start..(start + ROWS).min(n))
    }
}

/// The groups of a call, the rows of its output, and the size of its saved activations.
fn groups(spec: &FfnSpec) -> (Vec<Group>, usize, usize) {
    let (mut groups, mut outputs) = (Vec::<Group>::new(), 0);
    for block in spec.blocks.iter().filter(|b| b.start < b.end) {
        let input = block.start..block.end;
        let member = (block.width, outputs);
        outputs += input.len();
        match groups.iter_mut().find(|group| group.input == input) {
            Some(group) => group.members.push(member),
            None => groups.push(Group { input, members: vec![member], saved: 0 }),
        }
    }
    let mut saved = 0;
    for group in &mut groups {
        group.members.sort_unstable();
        group.saved = saved;
        saved += group.input.len() * group.widest();
    }
    (groups, outputs, saved)
}

/// Output, and what up (with its bias) and gate gave: per distinct input `[rows, widest width]`,
/// flattened; nothing of a gate where there is none.
pub(super) fn forward(
    x: FlexTensor,
    up: FlexTensor,
    between: Between<FlexTensor>,
    down: FlexTensor,
    spec: &FfnSpec,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [_, d] = x.shape().dims();
    let [x, up, down] = [x, up, down].map(Values::of);
    let between = between.map(Values::of);
    let (groups, rows, size) = groups(spec);
    let gate_size = if between.is_gate() { size } else { 0 };
    let (mut y, mut saved_up, mut saved_gate) = (zeros(rows * d), zeros(size), zeros(gate_size));
    let pass = Forward {
        d,
        x: x.get(),
        weights: weights(&up, &between, &down),
        y: Shared::new(&mut y),
        saved: [Shared::new(&mut saved_up), Shared::new(&mut saved_gate)],
    };
    let tasks: Vec<(&Group, Range<usize>)> =
        groups.iter().flat_map(|group| group.chunks().map(move |chunk| (group, chunk))).collect();
    tasks.into_par_iter().for_each(|(group, chunk)| pass.chunk(group, &chunk));
    (tensor(y, &[rows, d]), tensor(saved_up, &[size]), tensor(saved_gate, &[gate_size]))
}

fn weights<'a>(up: &'a Values, between: &'a Between<Values>, down: &'a Values) -> Weights<'a> {
    let between = match between {
        Between::Gate(gate) => Between::Gate(gate.get()),
        Between::Bias(bias) => Between::Bias(bias.get()),
    };
    Weights { up: up.get(), between, down: down.get() }
}

struct Forward<'a> {
    d: usize,
    x: &'a [f32],
    weights: Weights<'a>,
    y: Shared,
    saved: [Shared; 2],
}

impl Forward<'_> {
    fn chunk(&self, group: &Group, chunk: &Range<usize>) {
        let (d, rows, widest) = (self.d, chunk.len(), group.widest());
        let Weights { up, between, down } = self.weights;
        let x = Mat::rows(&self.x[(group.input.start + chunk.start) * d..], d);
        let (at, len) = (group.saved + chunk.start * widest, rows * widest);
        let [saved_up, saved_gate] = self.saved;
        // SAFETY: this task alone touches this chunk's activations, and its rows of the outputs of
        // the group's blocks.
        let (u, out) = unsafe {
            let out = self.y.slice((group.output() + chunk.start) * d, rows * d);
            (saved_up.slice(at, len), out)
        };
        let mut h = vec![0.0; rows * WIDTH.min(widest)];
        for piece in group.pieces(WIDTH) {
            let (first, w) = (piece.start * d, piece.len());
            let size = Size { m: rows, n: w, k: d };
            let line = |i: usize| i * widest + piece.start..i * widest + piece.end;
            product(&mut u[piece.start..], widest, x, Mat::rows(&up[first..], d).t(), size, NEW);
            match between {
                Between::Gate(gate) => {
                    // SAFETY: as above.
                    let g = unsafe { saved_gate.slice(at, len) };
                    let gate = Mat::rows(&gate[first..], d).t();
                    product(&mut g[piece.start..], widest, x, gate, size, NEW);
                    for (i, h) in h.chunks_mut(w).take(rows).enumerate() {
                        swiglu_chunk(&g[line(i)], &u[line(i)], h);
                    }
                }
                Between::Bias(bias) => {
                    for (i, h) in h.chunks_mut(w).take(rows).enumerate() {
                        gelu_chunk(&mut u[line(i)], &bias[piece.clone()], h);
                    }
                }
            }
            let write = if piece.start == 0 { NEW } else { ADD };
            let size = Size { m: rows, n: d, k: w };
            product(out, d, Mat::rows(&h, w), Mat::rows(&down[first..], d), size, write);
            // What the widest block has summed up to here is what a narrower one gives.
            for (_, first) in group.members.iter().rev().skip(1).filter(|(w, _)| *w == piece.end) {
                // SAFETY: as above; blocks do not share output rows.
                let copy = unsafe { self.y.slice((first + chunk.start) * d, rows * d) };
                copy.copy_from_slice(out);
            }
        }
    }
}

/// Gradients of x, up, what stands between, and down. The saved activations are overwritten where
/// nobody else holds them.
pub(super) fn backward(
    x: FlexTensor,
    up: FlexTensor,
    between: Between<FlexTensor>,
    down: FlexTensor,
    [mut saved_up, mut saved_gate]: [FlexTensor; 2],
    grad: FlexTensor,
    spec: &FfnSpec,
) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
    let [n, d] = x.shape().dims();
    let [d_ff, _] = up.shape().dims();
    let shape = between.get().shape().to_vec();
    let [x, up, down, grad] = [x, up, down, grad].map(Values::of);
    let between = between.map(Values::of);
    let (groups, _, size) = groups(spec);
    let mut dx = zeros(n * d);
    let mut activations = zeros(size);
    let mut gradients = [d_ff * d, between.get().get().len(), d_ff * d].map(zeros);
    let (u, g) = (values_mut(&mut saved_up), values_mut(&mut saved_gate));
    let pass = Backward {
        d,
        x: x.get(),
        weights: weights(&up, &between, &down),
        grad: grad.get(),
        dx: Shared::new(&mut dx),
        // What up and gate gave becomes their gradients.
        saved: [Shared::new(u), Shared::new(g), Shared::new(&mut activations)],
    };
    let targets = gradients.each_mut().map(|w| Shared::new(w));
    for group in &groups {
        // One group after the other: their inputs may overlap.
        let chunks: Vec<_> = group.chunks().collect();
        chunks.into_par_iter().for_each(|chunk| pass.chunk(group, &chunk));
        pass.weight_gradients(group, targets);
    }
    let [d_up, d_between, d_down] = gradients;
    let matrix = |values| tensor(values, &[d_ff, d]);
    (tensor(dx, &[n, d]), matrix(d_up), tensor(d_between, &shape), matrix(d_down))
}

struct Backward<'a> {
    d: usize,
    x: &'a [f32],
    weights: Weights<'a>,
    grad: &'a [f32],
    dx: Shared,
    saved: [Shared; 3],
}

impl Backward<'_> {
    /// The gradient that reaches the output rows `chunk` of the widest block at a width: its own,
    /// with those of all narrower blocks at least that wide.
    fn add_narrower(&self, dy: &mut [f32], group: &Group, chunk: &Range<usize>, from: usize) {
        for (_, first) in group.members.iter().rev().skip(1).filter(|(w, _)| *w == from) {
            let start = (first + chunk.start) * self.d;
            let own = &self.grad[start..start + chunk.len() * self.d];
            dy.iter_mut().zip(own).for_each(|(sum, v)| *sum += v);
        }
    }

    /// The widest block's own gradient at output rows `chunk`.
    fn own(&self, group: &Group, chunk: &Range<usize>) -> &[f32] {
        let start = (group.output() + chunk.start) * self.d;
        &self.grad[start..start + chunk.len() * self.d]
    }

    /// Gradients of a chunk's rows of x, up and gate, and the activation, which the weights' need.
    fn chunk(&self, group: &Group, chunk: &Range<usize>) {
        let (d, rows, widest) = (self.d, chunk.len(), group.widest());
        let Weights { up, between, down } = self.weights;
        let (at, len) = (group.saved + chunk.start * widest, rows * widest);
        let [saved_up, saved_gate, activations] = self.saved;
        // SAFETY: this task alone touches this chunk's activations and its rows of dx.
        let (u, h, dx) = unsafe {
            let dx = self.dx.slice((group.input.start + chunk.start) * d, rows * d);
            (saved_up.slice(at, len), activations.slice(at, len), dx)
        };
        let shared = group.members.len() > 1;
        let mut dy = if shared { self.own(group, chunk).to_vec() } else { Vec::new() };
        let pieces = group.pieces(WIDTH);
        for piece in pieces.iter().rev() {
            self.add_narrower(&mut dy, group, chunk, piece.end);
            let dy = if shared { &dy[..] } else { self.own(group, chunk) };
            let (first, w) = (piece.start * d, piece.len());
            let size = Size { m: rows, n: w, k: d };
            let down = Mat::rows(&down[first..], d).t();
            product(&mut h[piece.start..], widest, Mat::rows(dy, d), down, size, NEW);
            let line = |i: usize| i * widest + piece.start..i * widest + piece.end;
            let size = Size { m: rows, n: d, k: w };
            match between {
                Between::Gate(gate) => {
                    // SAFETY: as above.
                    let g = unsafe { saved_gate.slice(at, len) };
                    for i in 0..rows {
                        swiglu_backward_in_place(&mut g[line(i)], &mut u[line(i)], &mut h[line(i)]);
                    }
                    let dg = Mat::rows(&g[piece.start..], widest);
                    product(dx, d, dg, Mat::rows(&gate[first..], d), size, ADD);
                }
                Between::Bias(_) => {
                    for i in 0..rows {
                        gelu_backward_in_place(&mut u[line(i)], &mut h[line(i)]);
                    }
                }
            }
            let du = Mat::rows(&u[piece.start..], widest);
            product(dx, d, du, Mat::rows(&up[first..], d), size, ADD);
        }
    }

    /// Adds the group's part to the gradients of the weights' rows up to its widest width.
    fn weight_gradients(&self, group: &Group, [d_up, d_between, d_down]: [Shared; 3]) {
        let (d, n, widest) = (self.d, group.input.len(), group.widest());
        let x = Mat::rows(&self.x[group.input.start * d..], d);
        // SAFETY: nobody writes the activations any more.
        let values = |saved: Shared| unsafe { &*saved.slice(group.saved, n * widest) };
        let [u, g, h] = self.saved;
        let all = 0..n;
        let gradients = self.by_width(group, &all);
        let own = self.own(group, &all);
        let is_gate = self.weights.between.is_gate();
        let matrices = if is_gate { 3 } else { 2 };
        let tasks: Vec<(usize, Range<usize>)> = group
            .pieces((widest / 4).clamp(*WEIGHT_ROWS.start(), *WEIGHT_ROWS.end()))
            .into_iter()
            .flat_map(|piece| (0..matrices).map(move |matrix| (matrix, piece.clone())))
            .collect();
        tasks.into_par_iter().for_each(|(matrix, piece)| {
            let wider = gradients.iter().find(|(from, _)| piece.end > *from);
            let dy = wider.map_or(own, |(_, dy)| dy);
            let (target, saved, right) = match matrix {
                0 => (d_up, u, x),
                1 => (d_down, h, Mat::rows(dy, d)),
                _ => (d_between, g, x),
            };
            let left = values(saved);
            if matrix == 0 && !is_gate {
                // SAFETY: this task alone writes these entries of the bias' gradient.
                let sums = unsafe { d_between.slice(piece.start, piece.len()) };
                for row in left.chunks(widest) {
                    sums.iter_mut().zip(&row[piece.clone()]).for_each(|(sum, v)| *sum += v);
                }
            }
            // SAFETY: this task alone writes these rows of this matrix.
            let target = unsafe { target.slice(piece.start * d, piece.len() * d) };
            let left = Mat::rows(&left[piece.start..], widest).t();
            product(target, d, left, right, Size { m: piece.len(), n: d, k: n }, ADD);
        });
    }

    /// For a group of several widths: (width of the next narrower block, gradient of the output
    /// above it), widest first.
    fn by_width(&self, group: &Group, all: &Range<usize>) -> Vec<(usize, Vec<f32>)> {
        if group.members.len() == 1 {
            return Vec::new();
        }
        let mut widths: Vec<usize> = group.members.iter().map(|(width, _)| *width).collect();
        widths.dedup();
        let mut dy = self.own(group, all).to_vec();
        let mut sums = Vec::new();
        for (i, width) in widths.iter().enumerate().rev() {
            self.add_narrower(&mut dy, group, all, *width);
            sums.push((if i == 0 { 0 } else { widths[i - 1] }, dy.clone()));
        }
        sums
    }
}
