//! The forward pass: pieces of rows, each a task.

use burn::backend::{Flex, TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::{ROWS, Sizes, UNITS, Weights, chunks, take};
use crate::ops::{
    FfnSaved, FfnSpec, FfnTensors,
    flex::{
        activation::{gelu_chunk, glu_chunk},
        kernel::{Values, tensor, zeros},
        product::{Mat, Size, Write, product},
    },
    groups::{Group, Groups},
};

/// Output of the block, of up (with its bias) and of the gate: per group
/// `[input rows, widest width]`, flattened.
pub(in crate::ops::flex) fn forward(
    x: FlexTensor,
    tensors: FfnTensors<Flex>,
    spec: &FfnSpec,
) -> (FlexTensor, FfnSaved<Flex>) {
    let ([_, d_model], [_, d_ff]) = (x.shape().dims(), tensors.down.shape().dims());
    let (x, weights) = (Values::of(x), Weights::of(tensors));
    let groups = Groups::of(&spec.blocks);
    let size = groups.list.iter().map(Group::activations).sum();
    let (mut y, mut up) = (zeros(groups.outputs * d_model), zeros(size));
    let mut gate = spec.gate.map(|_| zeros(size));
    let sizes = Sizes { d_model, d_ff, gate: spec.gate };
    let pass = Forward { sizes, x: x.get(), weights: &weights };
    let tasks = pass.tasks(&groups, spec, &mut y, &mut up, gate.as_deref_mut());
    tasks.into_par_iter().for_each(|task| pass.run(task));
    let saved = FfnSaved { up: tensor(up, &[size]), gate: gate.map(|gate| tensor(gate, &[size])) };
    (tensor(y, &[groups.outputs, d_model]), saved)
}

struct Forward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    weights: &'a Weights,
}

/// Up to [`ROWS`] input rows of a group.
struct ForwardTask<'a> {
    group: &'a Group,
    /// First input row.
    first: usize,
    /// What up gives, `[rows, widest]`.
    up: &'a mut [f32],
    /// Output of the gate, `[rows, widest]`.
    gate: Option<&'a mut [f32]>,
    /// Their rows of the output of each of the group's blocks, `[rows, d_model]`.
    outputs: Vec<&'a mut [f32]>,
}

impl Forward<'_> {
    fn tasks<'a>(
        &self,
        groups: &'a Groups,
        spec: &FfnSpec,
        mut y: &'a mut [f32],
        mut up: &'a mut [f32],
        mut gate: Option<&'a mut [f32]>,
    ) -> Vec<ForwardTask<'a>> {
        let d = self.sizes.d_model;
        let outputs = spec.blocks.iter().map(|b| take(&mut y, (b.end - b.start) * d));
        let mut outputs: Vec<_> = outputs.map(|rows| rows.chunks_mut(ROWS * d)).collect();
        let mut tasks = Vec::new();
        for group in &groups.list {
            let (n, len) = (group.activations(), ROWS * group.widest().width);
            let mut gates = chunks(gate.as_mut().map(|gate| take(gate, n)), len);
            for (i, up) in take(&mut up, n).chunks_mut(len.max(1)).enumerate() {
                let members = group.members.iter();
                let outputs = members.filter_map(|m| outputs[m.block].next()).collect();
                let first = group.input.start + i * ROWS;
                tasks.push(ForwardTask { group, first, up, gate: gates.next().flatten(), outputs });
            }
        }
        tasks
    }

    fn run(&self, task: ForwardTask<'_>) {
        let ForwardTask { group, first, up: u, mut gate, mut outputs } = task;
        let (s, weights, widest) = (self.sizes, self.weights, group.widest().width);
        let (d, rows) = (s.d_model, u.len() / widest);
        let x = Mat::rows(&self.x[first * d..], d);
        let Some((out, narrower)) = outputs.split_last_mut() else { return };
        let mut h = vec![0.0; rows * UNITS.min(widest)];
        for piece in group.pieces(UNITS) {
            let w = piece.len();
            let size = Size { m: rows, n: w, k: d };
            let line = |i: usize| i * widest + piece.start..i * widest + piece.end;
            product(&mut u[piece.start..], widest, x, weights.up(&piece, s).t(), size, Write::NEW);
            match (&mut gate, s.gate) {
                (Some(g), Some(act)) => {
                    let right = weights.gate(&piece, s).t();
                    product(&mut g[piece.start..], widest, x, right, size, Write::NEW);
                    for (i, h) in h.chunks_mut(w).take(rows).enumerate() {
                        glu_chunk(act, &g[line(i)], &u[line(i)], h);
                    }
                }
                _ => {
                    let bias = &weights.inner.get()[piece.clone()];
                    for (i, h) in h.chunks_mut(w).take(rows).enumerate() {
                        gelu_chunk(&mut u[line(i)], bias, h);
                    }
                }
            }
            let write = if piece.start == 0 { Write::NEW } else { Write::ADD };
            let size = Size { m: rows, n: d, k: w };
            product(out, d, Mat::rows(&h, w), weights.down(&piece, s).t(), size, write);
            // The partial sum of the widest block up to here is the output of a narrower one.
            for (copy, member) in narrower.iter_mut().zip(&group.members) {
                if member.width == piece.end {
                    copy.copy_from_slice(out);
                }
            }
        }
    }
}
