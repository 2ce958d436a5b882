//! Attention in blocks of queries: scores of one block at a time, never all of them.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    kernel::{Values, lane_dot, probabilities, scale_by, softmax_terms, tensor, vectorised, zeros},
    product::{Mat, Size, Target, Write, product, write_product},
};
use crate::ops::AttentionSpec;

/// Queries of one block.
const BLOCK: usize = 64;

const ALONE: Write = Write { add: false, factor: 1.0, parallel: false };

/// Where one block of queries lies and what it sees.
struct Block {
    /// First query of the row.
    first: usize,
    /// Queries.
    len: usize,
    /// Keys that the last query sees; the others see fewer.
    keys: usize,
}

impl AttentionSpec {
    fn blocks(&self, row: usize) -> impl Iterator<Item = Block> + use<> {
        let start = self.start(row);
        let (q_len, kv_len) = (self.q_len, self.kv_len);
        (0..q_len).step_by(BLOCK).map(move |first| {
            let len = BLOCK.min(q_len - first);
            let keys = start.map_or(kv_len, |s| (s + first + len).min(kv_len));
            Block { first, len, keys }
        })
    }

    /// Position of the row's first query, if it matters.
    fn start(&self, row: usize) -> Option<usize> {
        self.causal.as_ref().map(|starts| starts[row % starts.len()])
    }

    /// Keys that query `i` of the row sees.
    fn visible(&self, row: usize, i: usize) -> usize {
        self.start(row).map_or(self.kv_len, |s| (s + i + 1).min(self.kv_len))
    }
}

vectorised! {
    /// dS = P·(dP − delta)
    fn score_gradient(p: &[f32], dp: &mut [f32], delta: f32) {
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - delta);
        }
    }
}

vectorised! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        lane_dot(a, b)
    }
}

/// Columns of `width` of every `len` rows of `[rows, cols]`: a row's heads, row after row.
fn heads(values: &mut [f32], len: usize, cols: usize, width: usize) -> Vec<Target<'_>> {
    let rows = Target::new(values, cols).row_chunks(len.max(1));
    rows.into_iter().flat_map(|row| row.col_chunks(width)).collect()
}

pub(super) fn forward(qkv: [FlexTensor; 3], s: &AttentionSpec) -> (FlexTensor, FlexTensor) {
    let [q, k, v] = qkv.map(Values::of);
    let (q, k, v) = (q.get(), k.get(), v.get());
    let (q_dim, kv_dim, hd) = (s.heads * s.head_dim, s.kv_heads * s.head_dim, s.head_dim);
    let mut out = zeros(s.rows * s.q_len * q_dim);
    let mut lse = vec![0.0; s.rows * s.heads * s.q_len];
    let outputs = heads(&mut out, s.q_len, q_dim, hd);
    lse.par_chunks_mut(s.q_len.max(1)).zip(outputs).enumerate().for_each(
        |(task, (lse, mut out))| {
            let (row, head) = (task / s.heads, task % s.heads);
            let kv = row * s.kv_len * kv_dim + head / s.group() * hd;
            let mut scores = vec![0.0; BLOCK.min(s.q_len) * s.kv_len];
            for b in s.blocks(row) {
                let at = (row * s.q_len + b.first) * q_dim + head * hd;
                let size = Size { m: b.len, n: b.keys, k: hd };
                let keys = Mat::rows(&k[kv..], kv_dim).t();
                let write = Write { factor: s.scale() as f32, ..ALONE };
                product(&mut scores, b.keys, Mat::rows(&q[at..], q_dim), keys, size, write);
                let sums: Vec<f32> = (0..b.len)
                    .map(|i| {
                        let (seen, hidden) = scores[i * b.keys..(i + 1) * b.keys]
                            .split_at_mut(s.visible(row, b.first + i));
                        let (max, sum) = softmax_terms(seen);
                        hidden.fill(0.0);
                        lse[b.first + i] = max + sum.ln();
                        sum
                    })
                    .collect();
                let mut out = out.reborrow().rows(b.first..b.first + b.len);
                let p = Mat::rows(&scores, b.keys);
                write_product(out.reborrow(), p, Mat::rows(&v[kv..], kv_dim), b.keys, ALONE);
                for (i, sum) in sums.into_iter().enumerate() {
                    scale_by(out.row(i), 1.0 / sum);
                }
            }
        },
    );
    let lse_shape = [s.rows, s.kv_heads, s.group() * s.q_len, 1];
    (tensor(out, &[s.rows * s.q_len, q_dim]), tensor(lse, &lse_shape))
}

pub(super) fn backward(
    qkv: [FlexTensor; 3],
    out: FlexTensor,
    lse: FlexTensor,
    grad: FlexTensor,
    s: &AttentionSpec,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let [q, k, v] = qkv.map(Values::of);
    let [out, lse, grad] = [out, lse, grad].map(Values::of);
    let inputs = Inputs {
        q: q.get(),
        k: k.get(),
        v: v.get(),
        out: out.get(),
        lse: lse.get(),
        grad: grad.get(),
    };
    let (q_dim, kv_dim) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
    let mut dq = zeros(s.rows * s.q_len * q_dim);
    let mut dk = zeros(s.rows * s.kv_len * kv_dim);
    let mut dv = zeros(s.rows * s.kv_len * kv_dim);
    // One task per key and value head: it alone adds to that head's dk and dv, in order.
    let of_queries = heads(&mut dq, s.q_len, q_dim, s.group() * s.head_dim).into_par_iter();
    let of_keys = heads(&mut dk, s.kv_len, kv_dim, s.head_dim);
    let of_values = heads(&mut dv, s.kv_len, kv_dim, s.head_dim);
    let outputs = of_queries.zip(of_keys).zip(of_values);
    outputs.enumerate().for_each(|(task, ((mut dq, mut dk), mut dv))| {
        let (row, kv_head) = (task / s.kv_heads, task % s.kv_heads);
        let mut buffers = [(); 2].map(|()| vec![0.0; BLOCK.min(s.q_len) * s.kv_len]);
        for i in 0..s.group() {
            let head = kv_head * s.group() + i;
            for block in s.blocks(row) {
                let queries = dq.reborrow().rows(block.first..block.first + block.len);
                let outputs = Outputs {
                    dq: queries.cols(i * s.head_dim..(i + 1) * s.head_dim),
                    dk: dk.reborrow().rows(0..block.keys),
                    dv: dv.reborrow().rows(0..block.keys),
                };
                block_backward(&inputs, outputs, s, (row, head), &block, &mut buffers);
            }
        }
    });
    (
        tensor(dq, &[s.rows * s.q_len, q_dim]),
        tensor(dk, &[s.rows * s.kv_len, kv_dim]),
        tensor(dv, &[s.rows * s.kv_len, kv_dim]),
    )
}

struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    grad: &'a [f32],
}

/// What one block of queries of one head adds to.
struct Outputs<'a> {
    dq: Target<'a>,
    dk: Target<'a>,
    dv: Target<'a>,
}

fn block_backward(
    inputs: &Inputs<'_>,
    outputs: Outputs<'_>,
    s: &AttentionSpec,
    (row, head): (usize, usize),
    b: &Block,
    [p, dp]: &mut [Vec<f32>; 2],
) {
    let (q_dim, kv_dim, hd) = (s.heads * s.head_dim, s.kv_heads * s.head_dim, s.head_dim);
    let at = (row * s.q_len + b.first) * q_dim + head * hd;
    let kv = row * s.kv_len * kv_dim + head / s.group() * hd;
    let (q, grad) = (Mat::rows(&inputs.q[at..], q_dim), Mat::rows(&inputs.grad[at..], q_dim));
    let (k, v) = (Mat::rows(&inputs.k[kv..], kv_dim), Mat::rows(&inputs.v[kv..], kv_dim));
    let scale = s.scale() as f32;
    let scores = Size { m: b.len, n: b.keys, k: hd };
    product(p, b.keys, q, k.t(), scores, Write { factor: scale, ..ALONE });
    product(dp, b.keys, grad, v.t(), scores, ALONE);
    // p becomes P, dp becomes dS.
    for i in 0..b.len {
        let line = i * b.keys..(i + 1) * b.keys;
        let seen = s.visible(row, b.first + i);
        let (p_seen, p_hidden) = p[line.clone()].split_at_mut(seen);
        let (dp_seen, dp_hidden) = dp[line].split_at_mut(seen);
        let lse = inputs.lse[(row * s.heads + head) * s.q_len + b.first + i];
        probabilities(p_seen, lse, 1.0);
        p_hidden.fill(0.0);
        let own = at + i * q_dim..at + i * q_dim + hd;
        let delta = dot(&inputs.grad[own.clone()], &inputs.out[own]);
        score_gradient(p_seen, dp_seen, delta);
        dp_hidden.fill(0.0);
    }
    let (p, ds) = (Mat::rows(p, b.keys), Mat::rows(dp, b.keys));
    let add = Write { add: true, ..ALONE };
    write_product(outputs.dq, ds, k, b.keys, Write { factor: scale, ..ALONE });
    write_product(outputs.dk, ds.t(), q, b.len, Write { factor: scale, ..add });
    write_product(outputs.dv, p.t(), grad, b.len, add);
}
