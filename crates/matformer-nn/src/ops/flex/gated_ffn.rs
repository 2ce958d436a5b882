//! The gated block in pieces of rows and width: activations stay in the cache between their
//! products, and every product is written where it belongs.

use std::ops::Range;

use burn::backend::{TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::activation::{swiglu_backward_in_place, swiglu_chunk};
use super::kernel::{Mat, Shared, Size, Values, Write, product, tensor, values_mut};
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

/// Output, and what up and gate gave: per distinct input `[rows, widest width]`, flattened.
pub(super) fn forward(
    x: FlexTensor,
    up: FlexTensor,
    gate: FlexTensor,
    down: FlexTensor,
    spec: &FfnSpec,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [_, d] = x.shape().dims();
    let [x, up, gate, down] = [x, up, gate, down].map(Values::of);
    let (groups, rows, size) = groups(spec);
    let (mut y, mut saved_up, mut saved_gate) =
        (vec![0.0; rows * d], vec![0.0; size], vec![0.0; size]);
    let targets = [&mut y, &mut saved_up, &mut saved_gate].map(|v| Shared::new(v));
    let weights = [up.get(), gate.get(), down.get()];
    let tasks: Vec<(&Group, Range<usize>)> =
        groups.iter().flat_map(|group| group.chunks().map(move |chunk| (group, chunk))).collect();
    tasks.into_par_iter().for_each(|(group, chunk)| {
        forward_chunk(x.get(), weights, targets, d, group, &chunk);
    });
    (tensor(y, &[rows, d]), tensor(saved_up, &[size]), tensor(saved_gate, &[size]))
}

fn forward_chunk(
    x: &[f32],
    [up, gate, down]: [&[f32]; 3],
    [y, saved_up, saved_gate]: [Shared; 3],
    d: usize,
    group: &Group,
    chunk: &Range<usize>,
) {
    let (rows, widest) = (chunk.len(), group.widest());
    let x = Mat::rows(&x[(group.input.start + chunk.start) * d..], d);
    let at = group.saved + chunk.start * widest;
    // SAFETY: this task alone touches this chunk's activations, and its rows of the outputs of the
    // group's blocks.
    let (u, g, out) = unsafe {
        let len = rows * widest;
        let out = y.slice((group.output() + chunk.start) * d, rows * d);
        (saved_up.slice(at, len), saved_gate.slice(at, len), out)
    };
    let mut h = vec![0.0; rows * WIDTH.min(widest)];
    for piece in group.pieces(WIDTH) {
        let (first, w) = (piece.start * d, piece.len());
        let size = Size { m: rows, n: w, k: d };
        product(&mut u[piece.start..], widest, x, Mat::rows(&up[first..], d).t(), size, NEW);
        product(&mut g[piece.start..], widest, x, Mat::rows(&gate[first..], d).t(), size, NEW);
        for i in 0..rows {
            let line = i * widest + piece.start..i * widest + piece.end;
            swiglu_chunk(&g[line.clone()], &u[line], &mut h[i * w..(i + 1) * w]);
        }
        let write = if piece.start == 0 { NEW } else { ADD };
        let size = Size { m: rows, n: d, k: w };
        product(out, d, Mat::rows(&h, w), Mat::rows(&down[first..], d), size, write);
        // What the widest block has summed up to here is what a narrower one gives.
        for (_, first) in group.members.iter().rev().skip(1).filter(|(w, _)| *w == piece.end) {
            // SAFETY: as above; blocks do not share output rows.
            let copy = unsafe { y.slice((first + chunk.start) * d, rows * d) };
            copy.copy_from_slice(out);
        }
    }
}

/// Gradients of x, up, gate and down. The saved activations are overwritten where nobody else
/// holds them.
pub(super) fn backward(
    x: FlexTensor,
    [up, gate, down]: [FlexTensor; 3],
    [mut saved_up, mut saved_gate]: [FlexTensor; 2],
    grad: FlexTensor,
    spec: &FfnSpec,
) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
    let [n, d] = x.shape().dims();
    let [d_ff, _] = up.shape().dims();
    let [x, up, gate, down, grad] = [x, up, gate, down, grad].map(Values::of);
    let (groups, _, size) = groups(spec);
    let mut dx = vec![0.0; n * d];
    let mut activations = vec![0.0; size];
    let mut weights = [(); 3].map(|()| vec![0.0; d_ff * d]);
    let (u, g) = (values_mut(&mut saved_up), values_mut(&mut saved_gate));
    let pass = Backward {
        d,
        x: x.get(),
        weights: [up.get(), gate.get(), down.get()],
        grad: grad.get(),
        dx: Shared::new(&mut dx),
        // What up and gate gave becomes their gradients.
        saved: [Shared::new(u), Shared::new(g), Shared::new(&mut activations)],
    };
    let targets = weights.each_mut().map(|w| Shared::new(w));
    for group in &groups {
        // One group after the other: their inputs may overlap.
        let chunks: Vec<_> = group.chunks().collect();
        chunks.into_par_iter().for_each(|chunk| pass.chunk(group, &chunk));
        pass.weight_gradients(group, targets);
    }
    let [d_up, d_gate, d_down] = weights.map(|w| tensor(w, &[d_ff, d]));
    (tensor(dx, &[n, d]), d_up, d_gate, d_down)
}

struct Backward<'a> {
    d: usize,
    x: &'a [f32],
    weights: [&'a [f32]; 3],
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
        let [up, gate, down] = self.weights;
        let at = group.saved + chunk.start * widest;
        // SAFETY: this task alone touches this chunk's activations and its rows of dx.
        let ([u, g, h], dx) = unsafe {
            let dx = self.dx.slice((group.input.start + chunk.start) * d, rows * d);
            (self.saved.map(|saved| saved.slice(at, rows * widest)), dx)
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
            for i in 0..rows {
                let line = i * widest + piece.start..i * widest + piece.end;
                swiglu_backward_in_place(&mut g[line.clone()], &mut u[line.clone()], &mut h[line]);
            }
            let size = Size { m: rows, n: d, k: w };
            let (du, dg) =
                (Mat::rows(&u[piece.start..], widest), Mat::rows(&g[piece.start..], widest));
            product(dx, d, du, Mat::rows(&up[first..], d), size, ADD);
            product(dx, d, dg, Mat::rows(&gate[first..], d), size, ADD);
        }
    }

    /// Adds the group's part to the gradients of the matrices' rows up to its widest width.
    fn weight_gradients(&self, group: &Group, [d_up, d_gate, d_down]: [Shared; 3]) {
        let (d, n, widest) = (self.d, group.input.len(), group.widest());
        let x = Mat::rows(&self.x[group.input.start * d..], d);
        // SAFETY: nobody writes the activations any more.
        let [u, g, h] = self.saved.map(|saved| unsafe { &*saved.slice(group.saved, n * widest) });
        let all = 0..n;
        let gradients = self.by_width(group, &all);
        let own = self.own(group, &all);
        let tasks: Vec<(usize, Range<usize>)> = group
            .pieces((widest / 4).clamp(*WEIGHT_ROWS.start(), *WEIGHT_ROWS.end()))
            .into_iter()
            .flat_map(|piece| (0..3).map(move |matrix| (matrix, piece.clone())))
            .collect();
        tasks.into_par_iter().for_each(|(matrix, piece)| {
            let wider = gradients.iter().find(|(from, _)| piece.end > *from);
            let dy = wider.map_or(own, |(_, dy)| dy);
            let (target, values, right) = match matrix {
                0 => (d_up, u, x),
                1 => (d_gate, g, x),
                _ => (d_down, h, Mat::rows(dy, d)),
            };
            // SAFETY: this task alone writes these rows of this matrix.
            let target = unsafe { target.slice(piece.start * d, piece.len() * d) };
            let left = Mat::rows(&values[piece.start..], widest).t();
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
