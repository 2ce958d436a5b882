//! The nested feed-forward block: many widths of one set of matrices, ring by ring.
//!
//! Between two neighbouring widths of a plan's layer lies a *ring* of the matrices' rows. Ring
//! by ring, each weight is read once for all blocks at least that wide, blocks that share an
//! input share the work, and one full gradient per matrix is written once.

use std::ops::Range;

use burn::backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Slice, Tensor};
use matformer_core::Block;

use super::NnBackend;

/// The blocks of one layer of a plan, in rows of the hidden state.
#[derive(Clone, Debug, PartialEq)]
pub struct FfnSpec {
    /// Input rows and width of each block, in the order in which outputs are stacked.
    pub blocks: Vec<Block>,
}

/// What the matrices of a nested feed-forward block are, each stored `[d_ff, d_model]`.
#[derive(Clone, Debug)]
pub enum FfnWeights {
    /// SwiGLU: `down(silu(gate(x)) · up(x))`, no biases.
    Gated {
        /// `[d_ff, d_model]`
        up: Tensor<2>,
        /// `[d_ff, d_model]`
        gate: Tensor<2>,
        /// `[d_ff, d_model]`
        down: Tensor<2>,
    },
    /// The paper's form (arXiv 2310.07707 §3.1): `down(gelu(up(x) + bias))`, exact GELU.
    Plain {
        /// `[d_ff, d_model]`
        up: Tensor<2>,
        /// `[d_ff]`
        bias: Tensor<1>,
        /// `[d_ff, d_model]`
        down: Tensor<2>,
    },
}

/// Applies the widths of `blocks` to their rows of `x` and stacks the results.
///
/// # Shapes
/// - x: `[rows, d_model]`
/// - each block reads rows `start..end` of x and the first `width` rows of every matrix
/// - output: `[Σ (end − start), d_model]`, in the order of the blocks
///
/// # Panics
/// If a block reaches beyond the rows of x or is wider than the matrices: plans are checked
/// against the model before a walk.
pub fn nested_ffn(x: Tensor<2>, weights: FfnWeights, blocks: &[Block]) -> Tensor<2> {
    let spec = FfnSpec { blocks: blocks.to_vec() };
    let x = x.into_dispatch();
    let (y, ..) = match weights {
        FfnWeights::Gated { up, gate, down } => <Dispatch as NnBackend>::gated_ffn(
            x,
            up.into_dispatch(),
            gate.into_dispatch(),
            down.into_dispatch(),
            spec,
        ),
        FfnWeights::Plain { up, bias, down } => {
            let (y, saved) = <Dispatch as NnBackend>::plain_ffn(
                x,
                up.into_dispatch(),
                bias.into_dispatch(),
                down.into_dispatch(),
                spec,
            );
            (y, saved.clone(), saved)
        }
    };
    Tensor::from_dispatch(y)
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

/// One ring: rows of the matrices, and who needs them.
struct Ring {
    /// Rows of the matrices.
    rows: Range<usize>,
    /// Distinct input ranges, in the order in which they are first needed.
    inputs: Vec<Range<usize>>,
    /// (block, index into `inputs`) of every block at least this wide.
    members: Vec<(usize, usize)>,
}

impl Ring {
    fn width(&self) -> usize {
        self.rows.len()
    }

    fn n_inputs(&self) -> usize {
        self.inputs.iter().map(Range::len).sum()
    }

    /// Where input `index` lies among the ring's stacked inputs.
    fn offset(&self, index: usize) -> usize {
        self.inputs[..index].iter().map(Range::len).sum()
    }
}

fn rings(spec: &FfnSpec) -> Vec<Ring> {
    matformer_core::rings(&spec.blocks)
        .into_iter()
        .map(|rows| {
            let (mut inputs, mut members) = (Vec::<Range<usize>>::new(), Vec::new());
            for (i, b) in spec.blocks.iter().enumerate() {
                if b.width < rows.end || b.start == b.end {
                    continue;
                }
                let range = b.start..b.end;
                let at = inputs.iter().position(|r| *r == range).unwrap_or_else(|| {
                    inputs.push(range);
                    inputs.len() - 1
                });
                members.push((i, at));
            }
            Ring { rows, inputs, members }
        })
        .filter(|ring| !ring.members.is_empty())
        .collect()
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

/// Several row ranges of a rank-2 tensor, stacked.
fn gather<B: Backend>(t: &FloatTensor<B>, ranges: &[Range<usize>]) -> FloatTensor<B> {
    let mut parts: Vec<_> =
        coalesce(ranges.iter().cloned()).iter().map(|r| rows_of::<B>(t, r)).collect();
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, 0) }
}

/// The ring's part of a flat tensor that holds one `[n_inputs, width]` matrix per ring.
fn unflatten<B: Backend>(flat: &FloatTensor<B>, ring: &Ring, at: &mut usize) -> FloatTensor<B> {
    let (n, w) = (ring.n_inputs(), ring.width());
    let range = *at..*at + n * w;
    *at = range.end;
    let part = if range == (0..flat.shape().num_elements()) {
        flat.clone()
    } else {
        B::float_slice(flat.clone(), &[Slice::from(range)])
    };
    B::float_reshape(part, Shape::new([n, w]))
}

fn flatten<B: Backend>(parts: Vec<FloatTensor<B>>, like: &FloatTensor<B>) -> FloatTensor<B> {
    let mut flat: Vec<_> = parts
        .into_iter()
        .map(|p| {
            let n = p.shape().num_elements();
            B::float_reshape(p, Shape::new([n]))
        })
        .collect();
    match flat.len() {
        0 => zeros::<B>(&[0], like),
        1 => flat.remove(0),
        _ => B::float_cat(flat, 0),
    }
}

fn zeros<B: Backend>(shape: &[usize], like: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::from(shape.to_vec()), &like.device(), like.dtype().into())
}

/// Adds each ring's result to the blocks that it serves, then stacks the blocks.
struct Outputs<B: Backend> {
    blocks: Vec<Option<FloatTensor<B>>>,
}

impl<B: Backend> Outputs<B> {
    fn new(spec: &FfnSpec) -> Self {
        Self { blocks: vec![None; spec.blocks.len()] }
    }

    fn add(&mut self, ring: &Ring, z: FloatTensor<B>) {
        for &(block, input) in &ring.members {
            let at = ring.offset(input);
            let part = rows_of::<B>(&z, &(at..at + ring.inputs[input].len()));
            self.blocks[block] = Some(match self.blocks[block].take() {
                Some(sum) => B::float_add(sum, part),
                None => part,
            });
        }
    }

    fn stack(self, x: &FloatTensor<B>) -> FloatTensor<B> {
        let d_model = x.shape()[1];
        let mut parts: Vec<_> = self.blocks.into_iter().flatten().collect();
        match parts.len() {
            0 => zeros::<B>(&[0, d_model], x),
            1 => parts.remove(0),
            _ => B::float_cat(parts, 0),
        }
    }
}

/// The gradient that reaches each of the ring's inputs: the sum over the blocks that share it.
fn ring_grad<B: Backend>(ring: &Ring, spec: &FfnSpec, grad: &FloatTensor<B>) -> FloatTensor<B> {
    let starts: Vec<usize> = spec
        .blocks
        .iter()
        .scan(0, |at, b| {
            let start = *at;
            *at += b.end - b.start;
            Some(start)
        })
        .collect();
    let out_rows = |block: usize| {
        let b = &spec.blocks[block];
        starts[block]..starts[block] + (b.end - b.start)
    };
    if ring.members.len() == ring.inputs.len() {
        let ranges: Vec<_> = ring.members.iter().map(|&(b, _)| out_rows(b)).collect();
        return gather::<B>(grad, &ranges);
    }
    let mut sums: Vec<Option<FloatTensor<B>>> = vec![None; ring.inputs.len()];
    for &(block, input) in &ring.members {
        let part = rows_of::<B>(grad, &out_rows(block));
        sums[input] = Some(match sums[input].take() {
            Some(sum) => B::float_add(sum, part),
            None => part,
        });
    }
    let mut parts: Vec<_> = sums.into_iter().flatten().collect();
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, 0) }
}

/// Adds a ring's input gradients to the gradient of x.
fn add_input_grad<B: Backend>(
    dx: Option<FloatTensor<B>>,
    ring: &Ring,
    part: FloatTensor<B>,
    x: &FloatTensor<B>,
) -> FloatTensor<B> {
    let [n, d] = x.shape().dims();
    if is_all(&ring.inputs, n) {
        return match dx {
            Some(dx) => B::float_add(dx, part),
            None => part,
        };
    }
    let mut dx = dx.unwrap_or_else(|| zeros::<B>(&[n, d], x));
    for (i, range) in ring.inputs.iter().enumerate() {
        let at = ring.offset(i);
        let sum =
            B::float_add(rows_of::<B>(&dx, range), rows_of::<B>(&part, &(at..at + range.len())));
        dx = B::float_slice_assign(dx, &[Slice::from(range.clone()), Slice::from(0..d)], sum);
    }
    dx
}

/// One full gradient out of the rings' gradients: rings in order, zeros beyond the widest.
fn full_grad<B: Backend>(
    mut parts: Vec<FloatTensor<B>>,
    weight: &FloatTensor<B>,
) -> FloatTensor<B> {
    let mut shape = weight.shape().to_vec();
    let written: usize = parts.iter().map(|p| p.shape()[0]).sum();
    if written < shape[0] {
        shape[0] -= written;
        parts.push(zeros::<B>(&shape, weight));
    }
    if parts.len() == 1 { parts.remove(0) } else { B::float_cat(parts, 0) }
}

/// `a · bᵀ`
fn matmul_t<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(a, B::float_transpose(b))
}

/// `aᵀ · b`
fn t_matmul<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(B::float_transpose(a), b)
}

/// `silu(gate) · up`
pub(super) fn swiglu<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(B::float_mul(B::sigmoid(gate.clone()), gate), up)
}

/// Gradients with respect to gate and up, and the activation itself.
pub(super) fn swiglu_backward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let s = B::sigmoid(gate.clone());
    let silu = B::float_mul(s.clone(), gate);
    let h = B::float_mul(silu.clone(), up.clone());
    // silu'(g) = s + g·s·(1 − s) = s + silu − silu·s
    let slope = B::float_sub(B::float_add(silu.clone(), s.clone()), B::float_mul(s, silu.clone()));
    let d_gate = B::float_mul(B::float_mul(slope, up), grad.clone());
    (d_gate, B::float_mul(silu, grad), h)
}

pub(super) fn gated_forward<B: NnBackend>(
    x: FloatTensor<B>,
    up: FloatTensor<B>,
    gate: FloatTensor<B>,
    down: FloatTensor<B>,
    spec: &FfnSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let mut out = Outputs::<B>::new(spec);
    let (mut ups, mut gates) = (Vec::new(), Vec::new());
    for ring in rings(spec) {
        let x_ring = gather::<B>(&x, &ring.inputs); // [n, d_model]
        let u = matmul_t::<B>(x_ring.clone(), rows_of::<B>(&up, &ring.rows)); // [n, width]
        let g = matmul_t::<B>(x_ring, rows_of::<B>(&gate, &ring.rows));
        let h = B::swiglu(g.clone(), u.clone());
        out.add(&ring, B::float_matmul(h, rows_of::<B>(&down, &ring.rows)));
        ups.push(u);
        gates.push(g);
    }
    (out.stack(&x), flatten::<B>(ups, &x), flatten::<B>(gates, &x))
}

#[allow(clippy::type_complexity)]
pub(super) fn gated_backward<B: NnBackend>(
    x: FloatTensor<B>,
    [up, gate, down]: [FloatTensor<B>; 3],
    [saved_up, saved_gate]: [FloatTensor<B>; 2],
    grad: FloatTensor<B>,
    spec: &FfnSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (mut d_up, mut d_gate, mut d_down, mut dx) = (vec![], vec![], vec![], None);
    let (mut at_up, mut at_gate) = (0, 0);
    for ring in rings(spec) {
        let u = unflatten::<B>(&saved_up, &ring, &mut at_up); // [n, width]
        let g = unflatten::<B>(&saved_gate, &ring, &mut at_gate);
        let x_ring = gather::<B>(&x, &ring.inputs); // [n, d_model]
        let dy = ring_grad::<B>(&ring, spec, &grad); // [n, d_model]
        let dh = matmul_t::<B>(dy.clone(), rows_of::<B>(&down, &ring.rows)); // [n, width]

        let (dg, du, h) = B::swiglu_backward(g, u, dh);
        d_down.push(t_matmul::<B>(h, dy));

        d_up.push(t_matmul::<B>(du.clone(), x_ring.clone()));
        d_gate.push(t_matmul::<B>(dg.clone(), x_ring));
        let part = B::float_add(
            B::float_matmul(du, rows_of::<B>(&up, &ring.rows)),
            B::float_matmul(dg, rows_of::<B>(&gate, &ring.rows)),
        );
        dx = Some(add_input_grad::<B>(dx, &ring, part, &x));
    }
    let dx = dx.unwrap_or_else(|| zeros::<B>(&x.shape().to_vec(), &x));
    (dx, full_grad::<B>(d_up, &up), full_grad::<B>(d_gate, &gate), full_grad::<B>(d_down, &down))
}

/// Entries `range` of a bias, as a row `[1, width]` that broadcasts.
fn bias_row<B: Backend>(bias: &FloatTensor<B>, range: &Range<usize>) -> FloatTensor<B> {
    let part = B::float_slice(bias.clone(), &[Slice::from(range.clone())]);
    B::float_reshape(part, Shape::new([1, range.len()]))
}

/// Φ(u), the standard normal's distribution function, of which exact GELU is `u·Φ(u)`.
fn normal_cdf<B: Backend>(u: FloatTensor<B>) -> FloatTensor<B> {
    let erf = B::float_erf(B::float_mul_scalar(u, std::f64::consts::FRAC_1_SQRT_2.into()));
    B::float_mul_scalar(B::float_add_scalar(erf, 1f32.into()), 0.5f32.into())
}

pub(super) fn plain_forward<B: Backend>(
    x: FloatTensor<B>,
    up: FloatTensor<B>,
    bias: FloatTensor<B>,
    down: FloatTensor<B>,
    spec: &FfnSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let mut out = Outputs::<B>::new(spec);
    let mut ups = Vec::new();
    for ring in rings(spec) {
        let x_ring = gather::<B>(&x, &ring.inputs); // [n, d_model]
        let u = matmul_t::<B>(x_ring, rows_of::<B>(&up, &ring.rows)); // [n, width]
        let u = B::float_add(u, bias_row::<B>(&bias, &ring.rows));
        let h = B::float_mul(normal_cdf::<B>(u.clone()), u.clone());
        out.add(&ring, B::float_matmul(h, rows_of::<B>(&down, &ring.rows)));
        ups.push(u);
    }
    (out.stack(&x), flatten::<B>(ups, &x))
}

#[allow(clippy::type_complexity)]
pub(super) fn plain_backward<B: Backend>(
    x: FloatTensor<B>,
    [up, bias, down]: [FloatTensor<B>; 3],
    saved_up: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: &FfnSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (mut d_up, mut d_bias, mut d_down, mut dx) = (vec![], vec![], vec![], None);
    let mut at = 0;
    for ring in rings(spec) {
        let u = unflatten::<B>(&saved_up, &ring, &mut at); // [n, width]
        let x_ring = gather::<B>(&x, &ring.inputs); // [n, d_model]
        let dy = ring_grad::<B>(&ring, spec, &grad); // [n, d_model]
        let dh = matmul_t::<B>(dy.clone(), rows_of::<B>(&down, &ring.rows)); // [n, width]

        let cdf = normal_cdf::<B>(u.clone());
        d_down.push(t_matmul::<B>(B::float_mul(cdf.clone(), u.clone()), dy));
        // gelu'(u) = Φ(u) + u·φ(u). Burn's own gelu_backward is that of the tanh approximation.
        let density =
            B::float_exp(B::float_mul_scalar(B::float_mul(u.clone(), u.clone()), (-0.5f32).into()));
        let density =
            B::float_mul_scalar(density, (1.0 / (2.0 * std::f64::consts::PI).sqrt()).into());
        let slope = B::float_add(B::float_mul(density, u), cdf);
        let du = B::float_mul(slope, dh);

        d_up.push(t_matmul::<B>(du.clone(), x_ring));
        let sum = B::float_sum_dim(du.clone(), 0);
        d_bias.push(B::float_reshape(sum, Shape::new([ring.width()])));
        let part = B::float_matmul(du, rows_of::<B>(&up, &ring.rows));
        dx = Some(add_input_grad::<B>(dx, &ring, part, &x));
    }
    let dx = dx.unwrap_or_else(|| zeros::<B>(&x.shape().to_vec(), &x));
    (dx, full_grad::<B>(d_up, &up), full_grad::<B>(d_bias, &bias), full_grad::<B>(d_down, &down))
}
