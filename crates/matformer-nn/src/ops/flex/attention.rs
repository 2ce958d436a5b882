//! Attention in blocks of queries: scores of one block at a time, never all of them. Keys and
//! values are read where they lie, also in a cache.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    kernel::{Values, lane_dot, probabilities, scale_by, softmax_terms, tensor, vectorised, zeros},
    product::{Mat, Size, Target, Write, product, write_product},
};
use crate::ops::{AttentionSpec, attention::AttentionRow};

/// Queries of one block.
const BLOCK: usize = 64;

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

/// Zeros the masked keys of a query, and returns the others.
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

    /// The queries of each row, as rows of q.
    fn queries(&self) -> impl Iterator<Item = Range<usize>> {
        self.rows.iter().map(|row| row.q..row.q + row.q_len)
    }

    /// The keys of each row, as rows of k.
    fn keys(&self) -> impl Iterator<Item = Range<usize>> {
        self.rows.iter().map(|row| row.k..row.k + row.kv_len)
    }

    /// One value of each query and head, `[tokens·heads]`, by head.
    fn split<'v>(&self, values: &'v mut [f32]) -> Vec<&'v mut [f32]> {
        let (mut rest, mut parts) = (values, Vec::new());
        for row in &self.rows {
            let (own, others) = rest.split_at_mut(row.q_len * self.spec.heads);
            parts.extend(own.chunks_mut(row.q_len.max(1)));
            rest = others;
        }
        parts
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

/// Parts of `[rows, cols]`: of each row of the batch, its range of rows, cut into heads of `width`
/// columns. Ranges do not overlap, and may come in any order.
fn heads_of(
    values: &mut [f32],
    cols: usize,
    width: usize,
    ranges: impl Iterator<Item = Range<usize>>,
) -> Vec<Target<'_>> {
    let ranges: Vec<Range<usize>> = ranges.collect();
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|row| ranges[*row].start);
    let (mut rest, mut at) = (Target::new(values, cols), 0);
    let mut parts: Vec<Vec<Target<'_>>> = ranges.iter().map(|_| Vec::new()).collect();
    for row in order {
        let Range { start, end } = ranges[row].clone();
        let (_, others) = rest.split_rows(start - at);
        let (part, others) = others.split_rows(end - start);
        parts[row] = part.col_chunks(width);
        (rest, at) = (others, end);
    }
    parts.into_iter().flatten().collect()
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
    let outputs = heads_of(&mut out, q_dim, hd, heads.queries());
    let lses = heads.split(&mut lse);
    outputs.into_par_iter().zip(lses).enumerate().for_each(|(task, (mut out, lse))| {
        let head = heads.of(task / s.heads, task % s.heads);
        let row = head.row;
        let mut scores = vec![0.0; row.scores()];
        for b in row.blocks() {
            let n_keys = b.keys.len();
            let (at, kv) = (head.q + b.first * q_dim, head.kv + b.keys.start * kv_dim);
            let size = Size { m: b.len, n: n_keys, k: hd };
            let keys = Mat::rows(&k[kv..], kv_dim).t();
            let write = Write { factor: s.scale as f32, ..Write::NEW };
            product(&mut scores, n_keys, Mat::rows(&q[at..], q_dim), keys, size, write);
            let sums: Vec<f32> = (0..b.len)
                .map(|i| {
                    let line = &mut scores[i * n_keys..(i + 1) * n_keys];
                    let (max, sum) = softmax_terms(seen(line, b.visible(&row, i)));
                    lse[b.first + i] = max + sum.ln();
                    sum
                })
                .collect();
            let mut out = out.reborrow().rows(b.first..b.first + b.len);
            let p = Mat::rows(&scores, n_keys);
            write_product(out.reborrow(), p, Mat::rows(&v[kv..], kv_dim), n_keys, Write::NEW);
            for (i, sum) in sums.into_iter().enumerate() {
                scale_by(out.row(i), 1.0 / sum);
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
    let (q_dim, kv_dim, hd) = (s.q_dim(), s.kv_dim(), s.head_dim);
    let (heads, keys) = (Heads::new(s), k.get().len());
    let mut dq = zeros(q.get().len());
    let (mut dk, mut dv) = (zeros(keys), zeros(keys));
    // One task per key and value head: it alone adds to that head's dk and dv, in order.
    let of_queries = heads_of(&mut dq, q_dim, s.group() * hd, heads.queries()).into_par_iter();
    let of_keys = heads_of(&mut dk, kv_dim, hd, heads.keys());
    let of_values = heads_of(&mut dv, kv_dim, hd, heads.keys());
    let outputs = of_queries.zip(of_keys).zip(of_values);
    outputs.enumerate().for_each(|(task, ((mut dq, mut dk), mut dv))| {
        let (row, kv_head) = (task / s.kv_heads, task % s.kv_heads);
        let mut buffers = [(); 2].map(|()| vec![0.0; heads.rows[row].scores()]);
        for i in 0..s.group() {
            let head = heads.of(row, kv_head * s.group() + i);
            for block in head.row.blocks() {
                let queries = dq.reborrow().rows(block.first..block.first + block.len);
                let outputs = Outputs {
                    dq: queries.cols(i * hd..(i + 1) * hd),
                    dk: dk.reborrow().rows(block.keys.clone()),
                    dv: dv.reborrow().rows(block.keys.clone()),
                };
                block_backward(&inputs, outputs, s, &head, &block, &mut buffers);
            }
        }
    });
    let keys = [keys / kv_dim.max(1), kv_dim];
    (tensor(dq, &[s.spans.tokens(), q_dim]), tensor(dk, &keys), tensor(dv, &keys))
}

/// Where the gradients of one block of queries go.
struct Outputs<'a> {
    dq: Target<'a>,
    dk: Target<'a>,
    dv: Target<'a>,
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
    outputs: Outputs<'_>,
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
    product(p, n_keys, q, k.t(), scores, Write { factor: scale, ..Write::NEW });
    product(dp, n_keys, grad, v.t(), scores, Write::NEW);
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
    write_product(outputs.dq, ds, k, n_keys, Write { factor: scale, ..Write::NEW });
    write_product(outputs.dk, ds.t(), q, b.len, Write { factor: scale, ..Write::ADD });
    write_product(outputs.dv, p.t(), grad, b.len, Write::ADD);
}
