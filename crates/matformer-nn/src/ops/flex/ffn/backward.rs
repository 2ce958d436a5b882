//! The backward pass: pieces of rows for the input's gradient, then pieces of neurons for the
//! weights'.

use std::ops::Range;

use burn::backend::{Flex, TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::{ROWS, Sizes, UNITS, WEIGHT_UNITS, Weights, chunks, take};
use crate::ops::{
    FfnGradients, FfnSaved, FfnSpec, FfnTensors,
    flex::{
        activation::{gelu_backward_in_place, glu_backward_in_place},
        kernel::{Values, tensor, values_mut, zeros},
        product::{Mat, Size, Target, Write, product, write_product},
    },
    groups::{Group, Groups},
};

/// Gradients of x and the weights. The saved activations are overwritten where nobody else holds
/// them.
pub(in crate::ops::flex) fn backward(
    x: FlexTensor,
    tensors: FfnTensors<Flex>,
    mut saved: FfnSaved<Flex>,
    grad: FlexTensor,
    spec: &FfnSpec,
) -> FfnGradients<Flex> {
    let ([n, d_model], [_, d_ff]) = (x.shape().dims(), tensors.down.shape().dims());
    let shapes = [&tensors.up, &tensors.inner, &tensors.down].map(|t| t.shape().to_vec());
    let [mut d_up, mut d_inner, mut d_down] =
        shapes.each_ref().map(|shape| zeros(shape.iter().product()));
    let (x, grad, weights) = (Values::of(x), Values::of(grad), Weights::of(tensors));
    let groups = Groups::of(&spec.blocks);
    let mut dx = zeros(n * d_model);
    let mut h = zeros(groups.list.iter().map(Group::activations).sum());
    let sizes = Sizes { d_model, d_ff, gate: spec.gate };
    let pass = Backward { sizes, x: x.get(), weights: &weights, grad: grad.get() };
    // The outputs of up and gate are replaced by their gradients.
    let mut u = values_mut(&mut saved.up);
    let mut g = saved.gate.as_mut().map(values_mut);
    let mut h = &mut h[..];
    for group in &groups.list {
        // One group after the other: their inputs may overlap.
        let size = group.activations();
        let activations = Activations {
            up: take(&mut u, size),
            gate: g.as_mut().map(|g| take(g, size)),
            h: take(&mut h, size),
        };
        let activations = pass.input_gradients(group, &mut dx, activations);
        pass.weight_gradients(group, activations, [&mut d_up, &mut d_inner, &mut d_down]);
    }
    let [up, inner, down] = [d_up, d_inner, d_down];
    let [of_up, of_inner, of_down] = &shapes;
    FfnGradients {
        x: tensor(dx, &[n, d_model]),
        weights: FfnTensors {
            up: tensor(up, of_up),
            inner: tensor(inner, of_inner),
            down: tensor(down, of_down),
        },
    }
}

struct Backward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    weights: &'a Weights,
    grad: &'a [f32],
}

/// What stands between the two products for some rows of a group, `[rows, widest]` each.
struct Activations<'a> {
    /// Output of up, then its gradient.
    up: &'a mut [f32],
    /// Output of the gate, then its gradient.
    gate: Option<&'a mut [f32]>,
    /// The activation.
    h: &'a mut [f32],
}

/// Up to [`ROWS`] input rows of a group.
struct BackwardTask<'a> {
    /// These rows, counted in the group.
    rows: Range<usize>,
    activations: Activations<'a>,
    /// Their rows of the gradient of x.
    dx: &'a mut [f32],
}

impl Backward<'_> {
    /// The gradient that reaches rows `rows` of the block whose output begins at row `output`.
    fn output_grad(&self, output: usize, rows: &Range<usize>) -> &[f32] {
        let (d, start) = (self.sizes.d_model, output + rows.start);
        &self.grad[start * d..(start + rows.len()) * d]
    }

    /// Output gradient of the widest block, `[rows, d_model]`.
    fn own(&self, group: &Group, rows: &Range<usize>) -> &[f32] {
        self.output_grad(group.widest().output, rows)
    }

    /// Adds the output gradients of the group's other blocks of this width.
    fn add_narrower(&self, dy: &mut [f32], group: &Group, rows: &Range<usize>, width: usize) {
        for member in group.members.iter().rev().skip(1).filter(|m| m.width == width) {
            let own = self.output_grad(member.output, rows);
            dy.iter_mut().zip(own).for_each(|(sum, v)| *sum += v);
        }
    }

    /// Adds the group's part to the gradient of x, and turns its activations into gradients.
    fn input_gradients<'a>(
        &self,
        group: &Group,
        dx: &mut [f32],
        mut all: Activations<'a>,
    ) -> Activations<'a> {
        let (d, n) = (self.sizes.d_model, group.input.len());
        let len = (ROWS * group.widest().width).max(1);
        let mut gates = chunks(all.gate.as_deref_mut(), len);
        let parts = all.up.chunks_mut(len).zip(all.h.chunks_mut(len));
        let dx = dx[group.input.start * d..group.input.end * d].chunks_mut(ROWS * d);
        let task = |(i, ((up, h), dx)): (usize, _)| BackwardTask {
            rows: i * ROWS..((i + 1) * ROWS).min(n),
            activations: Activations { up, gate: gates.next().flatten(), h },
            dx,
        };
        let tasks: Vec<_> = parts.zip(dx).enumerate().map(task).collect();
        drop(gates);
        tasks.into_par_iter().for_each(|task| self.run(group, task));
        all
    }

    fn run(&self, group: &Group, task: BackwardTask<'_>) {
        let BackwardTask { rows: chunk, activations, dx } = task;
        let Activations { up: u, mut gate, h } = activations;
        let (s, weights, widest) = (self.sizes, self.weights, group.widest().width);
        let (d, rows) = (s.d_model, chunk.len());
        let mut sums = (group.members.len() > 1).then(|| self.own(group, &chunk).to_vec());
        for piece in group.pieces(UNITS).iter().rev() {
            if let Some(sums) = &mut sums {
                self.add_narrower(sums, group, &chunk, piece.end);
            }
            let dy = sums.as_deref().unwrap_or_else(|| self.own(group, &chunk));
            let size = Size { m: rows, n: piece.len(), k: d };
            let down = weights.down(piece, s);
            product(&mut h[piece.start..], widest, Mat::rows(dy, d), down, size, Write::NEW);
            let line = |i: usize| i * widest + piece.start..i * widest + piece.end;
            let size = Size { m: rows, n: d, k: piece.len() };
            match (&mut gate, s.gate) {
                (Some(g), Some(act)) => {
                    for i in 0..rows {
                        let (g, u, h) = (&mut g[line(i)], &mut u[line(i)], &mut h[line(i)]);
                        glu_backward_in_place(act, g, u, h);
                    }
                    let dg = Mat::rows(&g[piece.start..], widest);
                    product(dx, d, dg, weights.gate(piece, s), size, Write::ADD);
                }
                _ => {
                    for i in 0..rows {
                        gelu_backward_in_place(&mut u[line(i)], &mut h[line(i)]);
                    }
                }
            }
            let du = Mat::rows(&u[piece.start..], widest);
            product(dx, d, du, weights.up(piece, s), size, Write::ADD);
        }
    }

    /// Adds the group's part to the gradients of up, inner and down, up to its widest width.
    fn weight_gradients(
        &self,
        group: &Group,
        Activations { up: u, gate: g, h }: Activations<'_>,
        [mut d_up, mut d_inner, d_down]: [&mut [f32]; 3],
    ) {
        let (Sizes { d_model: d, d_ff, .. }, n) = (self.sizes, group.input.len());
        let (widest, all) = (group.widest().width, 0..n);
        let (own, sums) = (self.own(group, &all), self.by_width(group, &all));
        let x = Mat::rows(&self.x[group.input.start * d..], d);
        let (u, g, h) = (&*u, g.as_deref(), &*h);
        let mut d_down = Target::new(d_down, d_ff);
        let mut tasks = Vec::new();
        let longest = (widest / 4).clamp(*WEIGHT_UNITS.start(), *WEIGHT_UNITS.end());
        for piece in group.pieces(longest) {
            let w = piece.len();
            let dy = sums.iter().find(|(next, _)| piece.end > *next).map_or(own, |(_, dy)| dy);
            let target = Target::new(take(&mut d_up, w * d), d);
            let bias = g.is_none().then(|| take(&mut d_inner, w));
            let left = Mat::rows(&u[piece.start..], widest).t();
            tasks.push(WeightTask { target, left, right: x, bias });
            let (target, others) = d_down.split_cols(w);
            d_down = others;
            let (left, right) = (Mat::rows(dy, d).t(), Mat::rows(&h[piece.start..], widest));
            tasks.push(WeightTask { target, left, right, bias: None });
            if let Some(g) = g {
                let target = Target::new(take(&mut d_inner, w * d), d);
                let left = Mat::rows(&g[piece.start..], widest).t();
                tasks.push(WeightTask { target, left, right: x, bias: None });
            }
        }
        tasks.into_par_iter().for_each(|task| {
            if let Some(sums) = task.bias {
                for row in task.left.values.chunks(widest) {
                    sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
                }
            }
            write_product(task.target, task.left, task.right, n, Write::ADD);
        });
    }

    /// For each ring of the group, its first neuron and the summed output gradient of all
    /// blocks that include it, widest first. Empty for a group of one block.
    fn by_width(&self, group: &Group, all: &Range<usize>) -> Vec<(usize, Vec<f32>)> {
        if group.members.len() == 1 {
            return Vec::new();
        }
        let mut widths: Vec<usize> = group.members.iter().map(|member| member.width).collect();
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

/// The gradient of some neurons' part of one matrix: adds `left · right` to it.
struct WeightTask<'a> {
    target: Target<'a>,
    left: Mat<'a>,
    right: Mat<'a>,
    /// Gradient of the bias of up: the column sums of `leftᵀ` are added to it.
    bias: Option<&'a mut [f32]>,
}
