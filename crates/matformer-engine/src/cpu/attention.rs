//! Attention of a step's tokens over the slots of their rows.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use matformer_lm::MatLmConfig;

use super::{
    attend::{attend, softmax},
    team::Team,
};

/// Tokens of a row from which on they go through products of matrices, so many at a time.
const TILE: usize = 32;
/// Tokens of a row, fewer than a tile, for each thread from which on a token's heads stay together.
const MANY: usize = 4;

/// What a slot holds of a layer, `[capacity, kv_dim]` each.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) kv_dim: usize,
}

/// Neighbouring tokens of one row, and what they look at.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a> {
    pub(crate) seen: Seen<'a>,
    /// Position of the first.
    pub(crate) position: usize,
    /// `[tokens, stride]`, of which the first `heads·head_dim` columns are queries.
    pub(crate) rows: &'a [f32],
    pub(crate) stride: usize,
}

/// A piece of the work: some tokens, and of one token some heads.
struct Part<'a> {
    queries: Queries<'a>,
    first_head: usize,
    /// `[tokens, heads·head_dim]` of these.
    out: &'a mut [f32],
}

/// Shape of the heads.
#[derive(Clone, Copy)]
struct Heads {
    head_dim: usize,
    heads: usize,
    /// Query heads of a head of keys and values.
    group: usize,
    scale: f32,
    window: Option<usize>,
}

/// Overwrites `out` with the outputs of all heads, `[tokens, heads·head_dim]`; rows of queries in their order.
pub(crate) fn run<'a>(
    team: &mut Team,
    all: impl Iterator<Item = Queries<'a>>,
    c: &MatLmConfig,
    window: Option<usize>,
    mut out: &'a mut [f32],
) {
    let heads = Heads {
        head_dim: c.head_dim(),
        heads: c.n_heads,
        group: c.n_heads / c.n_kv_heads,
        scale: c.attention_scale() as f32,
        window,
    };
    let width = heads.heads * heads.head_dim;
    let few = out.len() / width < MANY * team.members();
    let mut parts = Vec::new();
    for queries in all {
        let tokens = queries.rows.len() / queries.stride;
        let (of_row, rest) = std::mem::take(&mut out).split_at_mut(tokens * width);
        out = rest;
        let tile = if tokens >= TILE { TILE } else { 1 };
        let tiles = queries.rows.chunks(tile * queries.stride).zip(of_row.chunks_mut(tile * width));
        for (i, (rows, out)) in tiles.enumerate() {
            let queries = Queries { position: queries.position + i * tile, rows, ..queries };
            if few && tile == 1 {
                let by_head = out.chunks_mut(heads.head_dim).enumerate();
                parts.extend(by_head.map(|(first_head, out)| Part { queries, first_head, out }));
            } else {
                parts.push(Part { queries, first_head: 0, out });
            }
        }
    }
    team.each(parts, |part| {
        if part.queries.rows.len() > part.queries.stride {
            tile(part, heads)
        } else {
            one(part, heads)
        }
    });
}

/// Some heads of one token.
fn one(part: Part<'_>, heads: Heads) {
    let Part { queries: Queries { seen, position, rows, .. }, first_head, out } = part;
    let head_dim = heads.head_dim;
    let end = position + 1;
    let start = heads.window.map_or(0, |size| end.saturating_sub(size));
    let mut scores = Vec::with_capacity(end - start);
    out.fill(0.0);
    for (i, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let head = first_head + i;
        let at = head / heads.group * head_dim;
        let part = start * seen.kv_dim + at..(end - 1) * seen.kv_dim + at + head_dim;
        let query = &rows[head * head_dim..(head + 1) * head_dim];
        let (keys, values) = (&seen.keys[part.clone()], &seen.values[part]);
        attend(query, keys, values, seen.kv_dim, heads.scale, &mut scores, out);
    }
}

/// All heads of several tokens: the heads of a group side by side, as products with their keys and values.
fn tile(part: Part<'_>, heads: Heads) {
    let Part { queries: Queries { seen, position, rows, stride }, out, .. } = part;
    let (head_dim, group, width) = (heads.head_dim, heads.group, heads.heads * heads.head_dim);
    let tokens = rows.len() / stride;
    let first = heads.window.map_or(0, |size| (position + 1).saturating_sub(size));
    let seen_by_last = position + tokens - first;
    let part = first * seen.kv_dim..(first + seen_by_last) * seen.kv_dim;
    let [keys, values] = [seen.keys, seen.values]
        .map(|held| MatRef::from_row_major_slice(&held[part.clone()], seen_by_last, seen.kv_dim));
    let n = tokens * group;
    let mut of_group = vec![0.0; n * head_dim];
    let mut scores = vec![0.0; n * seen_by_last];
    for kv_head in 0..heads.heads / group {
        let columns = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
        for (row, to) in rows.chunks(stride).zip(of_group.chunks_mut(group * head_dim)) {
            to.copy_from_slice(&row[columns.clone()]);
        }
        matmul(
            MatMut::from_row_major_slice_mut(&mut scores, n, seen_by_last),
            Accum::Replace,
            MatRef::from_row_major_slice(&of_group, n, head_dim),
            keys.subcols(kv_head * head_dim, head_dim).transpose(),
            heads.scale,
            Par::Seq,
        );
        for (i, scores) in scores.chunks_mut(seen_by_last).enumerate() {
            let end = position + i / group + 1;
            let start = heads.window.map_or(0, |size| end.saturating_sub(size));
            softmax(scores, start - first, end - first);
        }
        matmul(
            MatMut::from_row_major_slice_mut(&mut of_group, n, head_dim),
            Accum::Replace,
            MatRef::from_row_major_slice(&scores, n, seen_by_last),
            values.subcols(kv_head * head_dim, head_dim),
            1.0,
            Par::Seq,
        );
        for (from, out) in of_group.chunks(group * head_dim).zip(out.chunks_mut(width)) {
            out[columns.clone()].copy_from_slice(from);
        }
    }
}
