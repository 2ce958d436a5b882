//! Products of matrices with the inputs of a step, panel by panel on all threads.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use matformer_nn::ops::Gate;

use super::{
    dot::{gated, products},
    inputs::{Form, Inputs},
    matrix::View,
    ring::Ring,
    team::Team,
};

/// Inputs up to which a matrix is read once, row by row; with more, panels are multiplied by blocks.
const FEW: usize = 16;
/// Rows of a panel, at most.
const PANEL: usize = 128;
/// Rows of a panel where a matrix is read row by row: a multiple of the rows that are read together.
const STEP: usize = 16;
/// Panels for each thread, so that a thread that is held up has less left to do.
const SHARES: usize = 8;
/// Multiplications below which one thread is as quick as all: about two microseconds.
const SMALL: usize = 1 << 15;

/// A product `[rows, inputs]`.
pub(crate) struct Job<'a> {
    pub(crate) matrix: View<'a>,
    /// `[rows, inputs]`, to be overwritten.
    pub(crate) out: &'a mut [f32],
    pub(crate) rings: &'a [Ring],
}

/// What the products of a matrix in these rings read of inputs.
pub(crate) fn form(matrix: View<'_>, rings: &[Ring]) -> Form {
    if rings.iter().any(|ring| ring.inputs <= FEW) { matrix.form() } else { Form::Values }
}

/// Rows of one panel where so many are computed for `inputs` inputs.
fn panel_rows(rows: usize, inputs: usize, members: usize) -> usize {
    if inputs > FEW {
        return PANEL;
    }
    (rows / (members * SHARES)).next_multiple_of(STEP).max(STEP)
}

/// Computes all products on the same inputs.
pub(crate) fn run<const N: usize>(team: &mut Team, jobs: [Job<'_>; N], inputs: &Inputs, n: usize) {
    let members = team.members();
    let work: usize = jobs.iter().map(|job| job.matrix.rows() * job.matrix.cols() * n).sum();
    let rows: usize = jobs.iter().map(|job| job.matrix.rows()).sum();
    let step = if work <= SMALL { rows } else { panel_rows(rows, n, members) };
    let panels = jobs.into_iter().flat_map(|job| {
        let (matrix, rings) = (job.matrix, job.rings);
        let parts = job.out.chunks_mut(step * n).enumerate();
        parts.map(move |(i, out)| (matrix, rings, i * step, out))
    });
    team.each(panels, |(matrix, rings, first, out)| {
        let rows = first..first + out.len() / n;
        out.fill(0.0);
        multiply(matrix, rows, inputs, rings, out, n);
    });
}

/// The activations of a feed-forward block, `[widest, inputs]`: zero where an input has no such neuron.
pub(crate) fn neurons(
    team: &mut Team,
    up: View<'_>,
    gate: Option<(Gate, View<'_>)>,
    inputs: &Inputs,
    rings: &[Ring],
    n: usize,
    out: &mut [f32],
) {
    let members = team.members();
    let (widest, d_model) = (out.len() / n, up.cols());
    let step = if widest * d_model * n <= SMALL { widest } else { panel_rows(widest, n, members) };
    let mut panels = Vec::new();
    let mut rest = out;
    for ring in rings {
        let (of_ring, after) = rest.split_at_mut((ring.to - ring.from) * n);
        rest = after;
        let parts = of_ring.chunks_mut(step * n).enumerate();
        panels.extend(parts.map(|(i, out)| (*ring, ring.from + i * step, out)));
    }
    team.each(panels, |(ring, first, out): (Ring, usize, &mut [f32])| {
        let rows = first..first + out.len() / n;
        out.fill(0.0);
        let all = [Ring { inputs: ring.inputs, ..Ring::whole(d_model, n) }];
        multiply(up, rows.clone(), inputs, &all, out, n);
        let mut of_gate = Vec::new();
        if let Some((_, gate)) = gate {
            of_gate.resize(out.len(), 0.0);
            multiply(gate, rows, inputs, &all, &mut of_gate, n);
        }
        gated(gate.map(|(act, _)| act), &of_gate, out);
    });
}

/// `out[row][i] += rows[row] · inputs[i]` in the columns and for the inputs of each ring, of which the first have the
/// most inputs.
fn multiply(
    matrix: View<'_>,
    rows: Range<usize>,
    inputs: &Inputs,
    rings: &[Ring],
    out: &mut [f32],
    stride: usize,
) {
    let cols = matrix.cols();
    let (many, few) = rings.split_at(rings.partition_point(|ring| ring.inputs > FEW));
    if !few.is_empty() {
        products(matrix.part(rows.clone()), cols, inputs, few, out, stride);
    }
    if many.is_empty() {
        return;
    }
    let n = rows.len();
    let values = matrix.wide(rows);
    let left = MatRef::from_row_major_slice(&values, n, cols);
    let all = inputs.values.len() / inputs.cols;
    let right = MatRef::from_row_major_slice(&inputs.values, all, inputs.cols);
    for ring in many {
        let width = ring.to - ring.from;
        let left = left.subcols(ring.from, width);
        let right = right.subrows(0, ring.inputs).subcols(ring.from, width);
        let out = MatMut::from_row_major_slice_mut(&mut *out, n, stride);
        let out = out.subcols_mut(0, ring.inputs);
        matmul(out, Accum::Add, left, right.transpose(), 1.0, Par::Seq);
    }
}
