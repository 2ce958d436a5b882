//! Attention in blocks of queries: scores of one block at a time, never all of them. Keys and
//! values are read where they lie, also in a cache.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::kernel::{
    Mat, Shared, Size, Values, Write, lane_dot, probabilities, product, scale_by, softmax_terms,
    tensor, vectorised, zeros,
};
use crate::ops::{AttentionSpec, attention::AttentionRow};

/// Queries of one block.
const BLOCK: usize = 64;

const ALONE: Write = Write { add: false, factor: 1.0, parallel: false };

/// Some neighbouring queries of a row and what they see.
struct Block {
    /// First query, counted from the row's first.
    first: usize,
    /// Queries.
    len: usize,
    /// Keys that some of them see, counted from the row's first.
    keys: Range<usize>,
}

impl AttentionRow {
    fn blocks(self) -> impl Iterator<Item = Block> {
        (0..self.q_len).step_by(BLOCK).map(move |first| {
            let len = BLOCK.min(self.q_len - first);
            let keys = self.visible(first).start..self.visible(first + len - 1).end;
            Block { first, len, keys }
        })
    }

    /// Scores of the largest block.
    fn scores(self) -> usize {
        self.blocks().map(|b| b.len * b.keys.len()).max().unwrap_or(0)
    }
}

impl Block {
    /// The keys that query `i` of the block sees, counted from the block's first key.
    fn visible(&self, row: &AttentionRow, i: usize) -> Range<usize> {
        let keys = row.visible(self.first + i);
        keys.start - self.keys.start..keys.end - self.keys.start
    }
}

/// Zeros what a query does not see, and gives what it does.
fn seen(line: &mut [f32], visible: Range<usize>) -> &mut [f32] {
    line[..visible.start].fill(0.0);
    line[visible.end..].fill(0.0);
    &mut line[visible]
}

/// The heads of all rows, one task each.
struct Heads<'a> {
    spec: &'a AttentionSpec,
    rows: Vec<AttentionRow>,
}

/// One head of one row: where its values start.
struct Head {
    row: AttentionRow,
    /// In q, of the row's first query.
    q: usize,
    /// In k and v, of the row's first key.
    kv: usize,
    /// In the log-sum-exps, of the row's first query.
    lse: usize,
}

impl<'a> Heads<'a> {
    fn new(spec: &'a AttentionSpec) -> Self {
        Self { spec, rows: spec.rows() }
    }

    fn of(&self, row: usize, head: usize) -> Head {
        let (s, row) = (self.spec, self.rows[row]);
        Head {
            q: row.q * s.q_dim() + head * s.head_dim,
            kv: row.k * s.kv_dim() + head / s.group() * s.head_dim,
            lse: row.q * s.heads + head * row.q_len,
            row,
        }
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

/// The output, and the log of each query's sum of exponentials, `[tokens·heads]`: row by row and
/// head by head.
pub(super) fn forward(qkv: [FlexTensor; 3], s: &AttentionSpec) -> (FlexTensor, FlexTensor) {
    let [q, k, v] = qkv.map(Values::of);
    let (q, k, v) = (q.get(), k.get(), v.get());
    let (q_dim, kv_dim, hd) = (s.q_dim(), s.kv_dim(), s.head_dim);
    let (heads, tokens) = (Heads::new(s), s.spans.tokens());
    let mut out = zeros(tokens * q_dim);
    let mut lse = vec![0.0; tokens * s.heads];
    let (shared, shared_lse) = (Shared::new(&mut out), Shared::new(&mut lse));
    (0..heads.rows.len() * s.heads).into_par_iter().for_each(|task| {
        let head = heads.of(task / s.heads, task % s.heads);
        let row = head.row;
        // SAFETY: this task alone writes this head's log-sum-exps of this row.
        let lse = unsafe { shared_lse.slice(head.lse, row.q_len) };
        let mut scores = vec![0.0; row.scores()];
        for b in row.blocks() {
            let n_keys = b.keys.len();
            let (at, kv) = (head.q + b.first * q_dim, head.kv + b.keys.start * kv_dim);
            let size = Size { m: b.len, n: n_keys, k: hd };
            let keys = Mat::rows(&k[kv..], kv_dim).t();
            let write = Write { factor: s.scale as f32, ..ALONE };
            product(&mut scores, n_keys, Mat::rows(&q[at..], q_dim), keys, size, write);
            let sums: Vec<f32> = (0..b.len)
                .map(|i| {
                    let line = &mut scores[i * n_keys..(i + 1) * n_keys];
                    let (max, sum) = softmax_terms(seen(line, b.visible(&row, i)));
                    lse[b.first + i] = max + sum.ln();
                    sum
                })
                .collect();
            let len = (b.len - 1) * q_dim + hd;
            // SAFETY: this task alone writes this head's columns of this row's queries.
            let out = unsafe { shared.slice(at, len) };
            let size = Size { m: b.len, n: hd, k: n_keys };
            let p = Mat::rows(&scores, n_keys);
            product(out, q_dim, p, Mat::rows(&v[kv..], kv_dim), size, ALONE);
            for (i, sum) in sums.into_iter().enumerate() {
                scale_by(&mut out[i * q_dim..i * q_dim + hd], 1.0 / sum);
            }
        }
    });
    (tensor(out, &[tokens, q_dim]), tensor(lse, &[tokens * s.heads]))
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
    let (heads, keys) = (Heads::new(s), k.get().len());
    let mut dq = zeros(q.get().len());
    let (mut dk, mut dv) = (zeros(keys), zeros(keys));
    let outputs = [&mut dq, &mut dk, &mut dv].map(|v| Shared::new(v));
    // One task per key and value head: it alone adds to that head's dk and dv, in order.
    (0..heads.rows.len() * s.kv_heads).into_par_iter().for_each(|task| {
        let (row, kv_head) = (task / s.kv_heads, task % s.kv_heads);
        let mut buffers = [(); 2].map(|()| vec![0.0; heads.rows[row].scores()]);
        for head in kv_head * s.group()..(kv_head + 1) * s.group() {
            let head = heads.of(row, head);
            for block in head.row.blocks() {
                block_backward(&inputs, outputs, s, &head, &block, &mut buffers);
            }
        }
    });
    let (q_dim, kv_dim) = (s.q_dim(), s.kv_dim());
    let keys = [keys / kv_dim.max(1), kv_dim];
    (tensor(dq, &[s.spans.tokens(), q_dim]), tensor(dk, &keys), tensor(dv, &keys))
}

struct Inputs<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    grad: &'a [f32],
}

fn block_backward(
    inputs: &Inputs<'_>,
    [dq, dk, dv]: [Shared; 3],
    s: &AttentionSpec,
    head: &Head,
    b: &Block,
    [p, dp]: &mut [Vec<f32>; 2],
) {
    let (q_dim, kv_dim, hd) = (s.q_dim(), s.kv_dim(), s.head_dim);
    let n_keys = b.keys.len();
    let (at, kv) = (head.q + b.first * q_dim, head.kv + b.keys.start * kv_dim);
    let (q, grad) = (Mat::rows(&inputs.q[at..], q_dim), Mat::rows(&inputs.grad[at..], q_dim));
    let (k, v) = (Mat::rows(&inputs.k[kv..], kv_dim), Mat::rows(&inputs.v[kv..], kv_dim));
    let scale = s.scale as f32;
    let scores = Size { m: b.len, n: n_keys, k: hd };
    product(p, n_keys, q, k.t(), scores, Write { factor: scale, ..ALONE });
    product(dp, n_keys, grad, v.t(), scores, ALONE);
    // p becomes P, dp becomes dS.
    for i in 0..b.len {
        let line = i * n_keys..(i + 1) * n_keys;
        let visible = b.visible(&head.row, i);
        let p = seen(&mut p[line.clone()], visible.clone());
        probabilities(p, inputs.lse[head.lse + b.first + i], 1.0);
        let own = at + i * q_dim..at + i * q_dim + hd;
        let delta = dot(&inputs.grad[own.clone()], &inputs.out[own]);
        score_gradient(p, seen(&mut dp[line], visible), delta);
    }
    let (p, ds) = (Mat::rows(p, n_keys), Mat::rows(dp, n_keys));
    let add = Write { add: true, ..ALONE };
    let to_keys = Size { m: n_keys, n: hd, k: b.len };
    // SAFETY: this task alone writes this head's queries, and its key and value head's columns.
    unsafe {
        let dq = dq.slice(at, (b.len - 1) * q_dim + hd);
        let size = Size { m: b.len, n: hd, k: n_keys };
        product(dq, q_dim, ds, k, size, Write { factor: scale, ..ALONE });
        let len = (n_keys - 1) * kv_dim + hd;
        product(dk.slice(kv, len), kv_dim, ds.t(), q, to_keys, Write { factor: scale, ..add });
        product(dv.slice(kv, len), kv_dim, p.t(), grad, to_keys, add);
    }
}
