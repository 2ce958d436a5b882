//! The nested feed-forward block: many widths of one set of matrices, ring by ring.
//!
//! The neurons are processed in rings (see [`groups`](super::groups)). Each ring's weights are
//! read once for all blocks that include it, blocks that share an input share the work, and each
//! matrix gets a single gradient of full size.

use std::ops::Range;

use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{FloatDType, Shape, Slice, Tensor};
use matformer_core::Block;

use super::{
    Gate, NnBackend, NnKernels,
    activation::{gelu, gelu_backward},
    groups::{Group, Groups, Ring},
};
use crate::Weight;

/// What one call computes.
#[derive(Clone, Debug, PartialEq)]
pub struct FfnSpec {
    /// Input rows and width of each block, in the order in which outputs are stacked.
    pub blocks: Vec<Block>,
    /// `down(act(gate(x)) · up(x))` with this activation; without one the plain form,
    /// `down(gelu(up(x) + bias))`, exact GELU.
    pub gate: Option<Gate>,
}

/// The weights of a nested feed-forward block.
#[derive(Clone, Debug)]
pub enum FfnWeights<'a> {
    /// `down(act(gate(x)) · up(x))`, no biases: SwiGLU and GeGLU.
    Gated {
        /// `[d_ff, d_model]`
        up: &'a Weight,
        /// `[d_ff, d_model]`
        gate: &'a Weight,
        /// `[d_model, d_ff]`
        down: &'a Weight,
        /// Activation of the gate.
        act: Gate,
    },
    /// The paper's form (arXiv 2310.07707 §3.1): `down(gelu(up(x) + bias))`, exact GELU.
    Plain {
        /// `[d_ff, d_model]`
        up: &'a Weight,
        /// `[d_ff]`, zero if absent
        bias: Option<&'a Tensor<1>>,
        /// `[d_model, d_ff]`
        down: &'a Weight,
    },
}

/// The tensors of [`FfnWeights`] on a backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct FfnTensors<B: Backend> {
    /// `[d_ff, d_model]`
    pub up: FloatTensor<B>,
    /// The gate `[d_ff, d_model]`, or the bias of up `[d_ff]`: [`FfnSpec::gate`] says which.
    pub inner: FloatTensor<B>,
    /// `[d_model, d_ff]`
    pub down: FloatTensor<B>,
}

/// Activations saved for the backward pass, flat. The layout is private to the backend: per ring
/// `[input rows, ring width]` in the composed body, per group `[input rows, widest width]` in the
/// CPU kernel.
#[derive(Clone, Debug)]
pub struct FfnSaved<B: Backend> {
    /// Output of up, with its bias.
    pub up: FloatTensor<B>,
    /// Output of the gate before the activation, if there is one.
    pub gate: Option<FloatTensor<B>>,
}

/// Gradients of a call.
#[derive(Clone, Debug)]
pub struct FfnGradients<B: Backend> {
    /// Gradient of the input.
    pub x: FloatTensor<B>,
    /// Gradients of the weights; exactly zero beyond the widest block.
    pub weights: FfnTensors<B>,
}

/// Applies the widths of `blocks` to their rows of `x` and stacks the results, in the dtype of x.
///
/// # Shapes
/// - x: `[rows, d_model]`
/// - each block reads rows `start..end` of x, the first `width` rows of up and gate, and the first
///   `width` columns of down
/// - output: `[Σ (end − start), d_model]`, in the order of the blocks
///
/// # Panics
/// If a block reaches beyond the rows of x or is wider than the matrices: plans are checked
/// against the model before a forward pass.
pub fn nested_ffn(x: Tensor<2>, weights: FfnWeights<'_>, blocks: &[Block]) -> Tensor<2> {
    let widest = blocks.iter().map(|block| block.width).max().unwrap_or(0);
    let (device, dtype) = (x.device(), FloatDType::from(x.dtype()));
    let part = |w: &Weight, rows, cols| w.part(rows, cols, &device).cast(dtype).into_dispatch();
    let rows = |w: &Weight| part(w, widest, w.shape()[1]);
    let columns = |w: &Weight| part(w, w.shape()[0], widest);
    let (tensors, gate) = match weights {
        FfnWeights::Gated { up, gate, down, act } => {
            (FfnTensors { up: rows(up), inner: rows(gate), down: columns(down) }, Some(act))
        }
        FfnWeights::Plain { up, bias, down } => {
            let zeros = || Tensor::zeros([up.shape()[0]], &device);
            let inner = bias.cloned().unwrap_or_else(zeros).cast(dtype).into_dispatch();
            (FfnTensors { up: rows(up), inner, down: columns(down) }, None)
        }
    };
    let spec = FfnSpec { blocks: blocks.to_vec(), gate };
    Tensor::from_dispatch(<Dispatch as NnBackend>::ffn(x.into_dispatch(), tensors, spec))
}

/// The input rows of each block, stacked in the order of the blocks: what a residual adds to.
///
/// # Shapes
/// - x: `[rows, d_model]`
/// - output: `[Σ (end − start), d_model]`
pub fn stack_rows(x: Tensor<2>, blocks: &[Block]) -> Tensor<2> {
    let [rows, d_model] = x.dims();
    let ranges = coalesce(blocks.iter().map(|b| b.start..b.end));
    if is_all(&ranges, rows) {
        return x;
    }
    let parts = ranges.into_iter().map(|r| x.clone().slice([r, 0..d_model])).collect();
    Tensor::cat(parts, 0)
}

/// Whether the ranges are the one range of all `n` rows.
fn is_all(ranges: &[Range<usize>], n: usize) -> bool {
    matches!(ranges, [all] if *all == (0..n))
}

/// Joins neighbouring ranges that touch.
fn coalesce(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for r in ranges.filter(|r| !r.is_empty()) {
        match out.last_mut() {
            Some(last) if last.end == r.start => last.end = r.end,
            _ => out.push(r),
        }
    }
    out
}

/// Rows `range` of a rank-2 tensor; a view where the backend has views.
pub(super) fn rows_of<B: Backend>(t: &FloatTensor<B>, range: &Range<usize>) -> FloatTensor<B> {
    let [n, d] = t.shape().dims();
    if *range == (0..n) {
        return t.clone();
    }
    B::float_slice(t.clone(), &[Slice::from(range.clone()), Slice::from(0..d)])
}

/// Columns `range` of a rank-2 tensor; a view where the backend has views.
fn columns_of<B: Backend>(t: &FloatTensor<B>, range: &Range<usize>) -> FloatTensor<B> {
    let [n, d] = t.shape().dims();
    if *range == (0..d) {
        return t.clone();
    }
    B::float_slice(t.clone(), &[Slice::from(0..n), Slice::from(range.clone())])
}

/// Adds a part to a sum that may have none yet.
pub(super) fn add_to<B: Backend>(
    sum: Option<FloatTensor<B>>,
    part: FloatTensor<B>,
) -> FloatTensor<B> {
    match sum {
        Some(sum) => B::float_add(sum, part),
        None => part,
    }
}

/// Several tensors as one, along a dimension; at least one.
pub(super) fn cat<B: Backend>(mut parts: Vec<FloatTensor<B>>, dim: usize) -> FloatTensor<B> {
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, dim) }
}

/// Several row ranges of a rank-2 tensor, stacked.
fn gather<B: Backend>(t: &FloatTensor<B>, ranges: &[Range<usize>]) -> FloatTensor<B> {
    let ranges = coalesce(ranges.iter().cloned());
    cat::<B>(ranges.iter().map(|r| rows_of::<B>(t, r)).collect(), 0)
}

fn zeros<B: Backend>(shape: &[usize], like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::from(shape.to_vec()), &like.device(), like.dtype().into())
}

/// One matrix per ring, flattened one after the other.
fn flatten<B: Backend>(parts: Vec<FloatTensor<B>>, like: &FloatTensor<B>) -> FloatTensor<B> {
    if parts.is_empty() {
        return zeros::<B>(&[0], like);
    }
    let flat = |p: FloatTensor<B>| {
        let n = p.shape().num_elements();
        B::float_reshape(p, Shape::new([n]))
    };
    cat::<B>(parts.into_iter().map(flat).collect(), 0)
}

/// The part of the ring `[n_inputs, width]` that starts at element `at` of a [`flatten`]ed tensor.
fn unflatten<B: Backend>(flat: &FloatTensor<B>, ring: &Ring<'_>, at: usize) -> FloatTensor<B> {
    let (n, w) = (ring.n_inputs(), ring.width());
    let range = at..at + n * w;
    let part = if range == (0..flat.shape().num_elements()) {
        flat.clone()
    } else {
        B::float_slice(flat.clone(), &[Slice::from(range)])
    };
    B::float_reshape(part, Shape::new([n, w]))
}

/// Accumulates the output of each group over the rings. A block's output is the group's partial sum
/// when the block's width is reached.
struct Outputs<B: Backend> {
    groups: Vec<Option<FloatTensor<B>>>,
    blocks: Vec<Option<FloatTensor<B>>>,
}

impl<B: Backend> Outputs<B> {
    fn new(groups: &Groups, spec: &FfnSpec) -> Self {
        Self { groups: vec![None; groups.list.len()], blocks: vec![None; spec.blocks.len()] }
    }

    fn add(&mut self, ring: &Ring<'_>, z: FloatTensor<B>) {
        for (index, group, rows) in ring.stacked() {
            let sum = add_to::<B>(self.groups[index].take(), rows_of::<B>(&z, &rows));
            for member in group.members.iter().filter(|m| m.width == ring.units.end) {
                self.blocks[member.block] = Some(sum.clone());
            }
            self.groups[index] = Some(sum);
        }
    }

    fn stack(self, x: &FloatTensor<B>) -> FloatTensor<B> {
        let parts: Vec<_> = self.blocks.into_iter().flatten().collect();
        if parts.is_empty() {
            return zeros::<B>(&[0, x.shape()[1]], x);
        }
        cat::<B>(parts, 0)
    }
}

/// The gradient that reaches each of the ring's inputs: the sum over the blocks of the group that
/// are at least as wide.
fn ring_grad<B: Backend>(ring: &Ring<'_>, grad: &FloatTensor<B>) -> FloatTensor<B> {
    let outputs = |group: &Group| group.outputs(ring.units.end).collect::<Vec<_>>();
    let outputs: Vec<_> = ring.groups.iter().map(|(_, group)| outputs(group)).collect();
    if outputs.iter().all(|ranges| ranges.len() == 1) {
        return gather::<B>(grad, &outputs.concat());
    }
    let sum = |ranges: &Vec<Range<usize>>| {
        ranges.iter().map(|r| rows_of::<B>(grad, r)).reduce(B::float_add)
    };
    cat::<B>(outputs.iter().filter_map(sum).collect(), 0)
}

/// Adds a ring's input gradients to the gradient of x.
fn add_input_grad<B: Backend>(
    dx: Option<FloatTensor<B>>,
    ring: &Ring<'_>,
    part: FloatTensor<B>,
    x: &FloatTensor<B>,
) -> FloatTensor<B> {
    let [n, d] = x.shape().dims();
    if is_all(&ring.inputs(), n) {
        return add_to::<B>(dx, part);
    }
    let mut dx = dx.unwrap_or_else(|| zeros::<B>(&[n, d], x));
    for (_, group, rows) in ring.stacked() {
        let sum = B::float_add(rows_of::<B>(&dx, &group.input), rows_of::<B>(&part, &rows));
        dx = B::float_slice_assign(dx, &[Slice::from(group.input.clone()), Slice::from(0..d)], sum);
    }
    dx
}

/// One full gradient out of the rings' gradients along dimension `dim`: rings in order, zeros
/// beyond the widest.
fn full_grad<B: Backend>(
    mut parts: Vec<FloatTensor<B>>,
    weight: &FloatTensor<B>,
    dim: usize,
) -> FloatTensor<B> {
    let mut shape = weight.shape().to_vec();
    let written: usize = parts.iter().map(|p| p.shape()[dim]).sum();
    if written < shape[dim] {
        shape[dim] -= written;
        parts.push(zeros::<B>(&shape, weight));
    }
    cat::<B>(parts, dim)
}

/// `aᵀ · b`
fn t_matmul<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(a), b)
}

/// Entries `range` of a bias, as a row `[1, width]` that broadcasts.
fn bias_row<B: Backend>(bias: &FloatTensor<B>, range: &Range<usize>) -> FloatTensor<B> {
    let part = B::float_slice(bias.clone(), &[Slice::from(range.clone())]);
    B::float_reshape(part, Shape::new([1, range.len()]))
}

pub(super) fn forward<B: NnBackend>(
    x: FloatTensor<B>,
    weights: FfnTensors<B>,
    spec: &FfnSpec,
) -> (FloatTensor<B>, FfnSaved<B>) {
    let FfnTensors { up, inner, down } = weights;
    let groups = Groups::of(&spec.blocks);
    let mut out = Outputs::<B>::new(&groups, spec);
    let (mut ups, mut gates) = (Vec::new(), Vec::new());
    for ring in groups.rings(&spec.blocks) {
        let x_ring = gather::<B>(&x, &ring.inputs()); // [n, d_model]
        let u = B::project(x_ring.clone(), rows_of::<B>(&up, &ring.units)); // [n, width]
        let (u, h) = match spec.gate {
            Some(act) => {
                let g = B::project(x_ring, rows_of::<B>(&inner, &ring.units));
                gates.push(g.clone());
                (u.clone(), B::glu(g, u, act))
            }
            None => {
                let u = B::float_add(u, bias_row::<B>(&inner, &ring.units));
                (u.clone(), gelu::<B>(u))
            }
        };
        ups.push(u);
        out.add(&ring, B::project(h, columns_of::<B>(&down, &ring.units)));
    }
    let gate = spec.gate.map(|_| flatten::<B>(gates, &x));
    (out.stack(&x), FfnSaved { up: flatten::<B>(ups, &x), gate })
}

pub(super) fn backward<B: NnKernels>(
    x: FloatTensor<B>,
    weights: FfnTensors<B>,
    saved: FfnSaved<B>,
    grad: FloatTensor<B>,
    spec: &FfnSpec,
) -> FfnGradients<B> {
    let FfnTensors { up, inner, down } = weights;
    let (mut d_up, mut d_inner, mut d_down, mut dx) = (vec![], vec![], vec![], None);
    let mut at = 0;
    let groups = Groups::of(&spec.blocks);
    for ring in groups.rings(&spec.blocks) {
        let u = unflatten::<B>(&saved.up, &ring, at); // [n, width]
        let x_ring = gather::<B>(&x, &ring.inputs()); // [n, d_model]
        let dy = ring_grad::<B>(&ring, &grad); // [n, d_model]
        let dh = B::float_matmul(dy.clone(), columns_of::<B>(&down, &ring.units)); // [n, width]
        let (du, h, of_gate) = match (spec.gate, &saved.gate) {
            (Some(act), Some(gate)) => {
                let g = unflatten::<B>(gate, &ring, at);
                let (dg, du, h) = B::glu_backward(g, u, dh, act);
                d_inner.push(t_matmul::<B>(dg.clone(), x_ring.clone()));
                (du, h, Some(B::float_matmul(dg, rows_of::<B>(&inner, &ring.units))))
            }
            _ => {
                let (du, h) = gelu_backward::<B>(u, dh);
                let sum = B::float_sum_dim(du.clone(), 0);
                d_inner.push(B::float_reshape(sum, Shape::new([ring.width()])));
                (du, h, None)
            }
        };
        at += ring.n_inputs() * ring.width();
        d_down.push(t_matmul::<B>(dy, h)); // [d_model, width]
        d_up.push(t_matmul::<B>(du.clone(), x_ring));
        let of_up = B::float_matmul(du, rows_of::<B>(&up, &ring.units));
        dx = Some(add_input_grad::<B>(dx, &ring, add_to::<B>(of_gate, of_up), &x));
    }
    FfnGradients {
        x: dx.unwrap_or_else(|| zeros::<B>(&x.shape().to_vec(), &x)),
        weights: FfnTensors {
            up: full_grad::<B>(d_up, &up, 0),
            inner: full_grad::<B>(d_inner, &inner, 0),
            down: full_grad::<B>(d_down, &down, 1),
        },
    }
}
