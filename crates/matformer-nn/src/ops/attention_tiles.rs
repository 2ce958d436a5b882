//! Attention of backends without kernels for it: rows padded to a rectangle, in tiles of queries whose scores
//! alone are in memory.

use std::ops::Range;

use burn::backend::{
    Backend, TensorMetadata, get_device_settings,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{Shape, Slice, TensorData};

use super::{
    AttentionSpec, RowBackend,
    attention::AttentionRow,
    nested_ffn::cat,
    precision::{stored_as, wide},
};

/// Pads rows of unequal length to a rectangular batch, `rows` by the longest, for the composed
/// implementation.
struct Padded<'a> {
    spec: &'a AttentionSpec,
    rows: Vec<AttentionRow>,
    q_len: usize,
    kv_len: usize,
}

impl<'a> Padded<'a> {
    fn new(spec: &'a AttentionSpec) -> Self {
        let rows = spec.rows();
        let q_len = rows.iter().map(|row| row.q_len).max().unwrap_or(0);
        let kv_len = rows.iter().map(|row| row.kv_len).max().unwrap_or(0);
        Self { spec, rows, q_len, kv_len }
    }

    /// The rows of t, each row of the batch padded to `longest` with rows of zeros.
    fn pad<B: Backend>(
        &self,
        t: FloatTensor<B>,
        longest: usize,
        place: impl Fn(&AttentionRow) -> Range<usize>,
    ) -> FloatTensor<B> {
        let n = t.shape()[0];
        let is_padded = |i: usize| place(&self.rows[i]) != (i * longest..(i + 1) * longest);
        if self.rows.len() * longest == n && !(0..self.rows.len()).any(is_padded) {
            return t;
        }
        let index = self.rows.iter().flat_map(|row| {
            let place = place(row);
            let fill = longest - place.len();
            place.chain(std::iter::repeat_n(n, fill))
        });
        select_or_zero::<B>(t, index.collect())
    }

    /// Inverse of [`pad`](Self::pad), to `n` rows; rows outside every row of the batch are zero.
    fn unpad<B: Backend>(
        &self,
        t: FloatTensor<B>,
        longest: usize,
        n: usize,
        place: impl Fn(&AttentionRow) -> Range<usize>,
    ) -> FloatTensor<B> {
        let padded = self.rows.len() * longest;
        let mut index = vec![padded; n];
        for (i, row) in self.rows.iter().enumerate() {
            for (at, to) in place(row).enumerate() {
                index[to] = i * longest + at;
            }
        }
        if padded == n && index.iter().enumerate().all(|(to, from)| to == *from) {
            return t;
        }
        select_or_zero::<B>(t, index)
    }

    /// `[tokens, heads·head_dim]` → `[rows, kv_heads, group·q_len, head_dim]`
    fn split_q<B: Backend>(&self, q: FloatTensor<B>) -> FloatTensor<B> {
        let (s, rows) = (self.spec, self.rows.len());
        let q = self.pad::<B>(q, self.q_len, |row| row.q..row.q + row.q_len);
        let q =
            B::float_reshape(q, Shape::new([rows, self.q_len, s.kv_heads, s.group(), s.head_dim]));
        let q = B::float_permute(q, &[0, 2, 3, 1, 4]);
        B::float_reshape(q, Shape::new([rows, s.kv_heads, s.group() * self.q_len, s.head_dim]))
    }

    /// Inverse of [`split_q`](Self::split_q).
    fn join_q<B: Backend>(&self, q: FloatTensor<B>) -> FloatTensor<B> {
        let (s, rows) = (self.spec, self.rows.len());
        let q =
            B::float_reshape(q, Shape::new([rows, s.kv_heads, s.group(), self.q_len, s.head_dim]));
        let q = B::float_permute(q, &[0, 3, 1, 2, 4]);
        let q = B::float_reshape(q, Shape::new([rows * self.q_len, s.q_dim()]));
        self.unpad::<B>(q, self.q_len, s.spans.tokens(), |row| row.q..row.q + row.q_len)
    }

    /// `[tokens or slots·capacity, kv_heads·head_dim]` → `[rows, kv_heads, kv_len, head_dim]`
    fn split_kv<B: Backend>(&self, k: FloatTensor<B>) -> FloatTensor<B> {
        let (s, rows) = (self.spec, self.rows.len());
        let k = self.pad::<B>(k, self.kv_len, |row| row.k..row.k + row.kv_len);
        let k = B::float_reshape(k, Shape::new([rows, self.kv_len, s.kv_heads, s.head_dim]));
        B::float_permute(k, &[0, 2, 1, 3])
    }

    /// Inverse of [`split_kv`](Self::split_kv), to the `n` rows of k.
    fn join_kv<B: Backend>(&self, k: FloatTensor<B>, n: usize) -> FloatTensor<B> {
        let (s, rows) = (self.spec, self.rows.len());
        let k = B::float_permute(k, &[0, 2, 1, 3]);
        let k = B::float_reshape(k, Shape::new([rows * self.kv_len, s.kv_dim()]));
        self.unpad::<B>(k, self.kv_len, n, |row| row.k..row.k + row.kv_len)
    }

    /// Ranges of queries, and of the keys that they see, whose scores have about `elements` numbers; at least
    /// 16 queries, so that the products stay products. One at least.
    fn tiles(&self, elements: usize) -> Vec<Tile> {
        let fit = elements / (self.rows.len() * self.spec.heads * self.kv_len).max(1);
        let n = if fit < 64 { fit.max(16) } else { fit / 64 * 64 };
        let tile = |at: usize| {
            let queries = at..(at + n).min(self.q_len);
            let mut seen = self.visible(&queries);
            let first = seen.next().unwrap_or(0..0);
            let union = |a: Range<usize>, b: Range<usize>| a.start.min(b.start)..a.end.max(b.end);
            Tile { keys: seen.fold(first, union), queries }
        };
        (0..self.q_len.max(1)).step_by(n).map(tile).collect()
    }

    /// The keys that these queries of each row see; what stands in for a query that a row does not have sees
    /// those of its last.
    fn visible(&self, queries: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let queries = queries.clone();
        let of_row = move |row: &'_ AttentionRow| {
            let (row, queries) = (*row, queries.clone());
            queries.map(move |i| row.visible(i.min(row.q_len.saturating_sub(1))))
        };
        self.rows.iter().flat_map(of_row)
    }

    /// The queries of a tile: `[rows, kv_heads, group·q_len, d]` → `[rows, kv_heads, group·tile, d]`
    fn queries_of<B: Backend>(&self, t: &FloatTensor<B>, tile: &Tile) -> FloatTensor<B> {
        let [rows, kv_heads, _, d] = t.shape().dims();
        let split = [rows, kv_heads, self.spec.group(), self.q_len, d];
        let joined = [rows, kv_heads, self.spec.group() * tile.queries.len(), d];
        let t = B::float_reshape(t.clone(), Shape::new(split));
        B::float_reshape(part_of::<B>(t, 3, &tile.queries), Shape::new(joined))
    }

    /// Inverse of [`queries_of`](Self::queries_of) for all tiles.
    fn of_tiles<B: Backend>(&self, tiles: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let [rows, kv_heads, _, d] = tiles[0].shape().dims();
        let group = self.spec.group();
        let split = |t: FloatTensor<B>| {
            let n = t.shape()[2] / group;
            B::float_reshape(t, Shape::new([rows, kv_heads, group, n, d]))
        };
        let all = cat::<B>(tiles.into_iter().map(split).collect(), 3);
        B::float_reshape(all, Shape::new([rows, kv_heads, group * self.q_len, d]))
    }

    /// The first key that each query of a tile sees and the one after its last, counted from the tile's first:
    /// `[rows, queries, 2]`, or `[1, queries, 2]` if that is the same for all rows.
    fn seen<B: Backend>(&self, tile: &Tile, like: &FloatTensor<B>) -> IntTensor<B> {
        let alike = self.rows.windows(2).all(|pair| pair[0].shape() == pair[1].shape());
        let rows = if alike { 1 } else { self.rows.len() };
        let n = tile.queries.len();
        let edges =
            |keys: Range<usize>| [keys.start, keys.end].map(|at| (at - tile.keys.start) as i32);
        let values: Vec<i32> = self.visible(&tile.queries).take(rows * n).flat_map(edges).collect();
        let device = like.device();
        let settings = get_device_settings::<B>(&device);
        let data = TensorData::new(values, [rows, n, 2]).convert_dtype(settings.int_dtype.into());
        B::int_from_data(data, &device)
    }
}

/// Queries whose scores are computed together, and the keys that any of them sees, counted from those of each
/// row.
#[derive(Clone, Debug, PartialEq)]
struct Tile {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// Number of attention scores held in memory at a time: eight times the number of query elements, so that memory grows
/// linearly with the context, but clamped between a minimum for efficient matrix products and a maximum that fits on
/// any device.
fn tile_elements(spec: &AttentionSpec) -> usize {
    (8 * spec.spans.tokens() * spec.q_dim()).clamp(1 << 22, 1 << 25)
}

/// Products of queries and keys, `[rows, kv_heads, group·tile, keys]`.
fn scores<B: Backend>(q: FloatTensor<B>, k: FloatTensor<B>) -> FloatTensor<B> {
    B::float_matmul(q, B::float_transpose(k))
}

/// A slice along one dimension; a view if the backend supports views.
fn part_of<B: Backend>(t: FloatTensor<B>, dim: usize, range: &Range<usize>) -> FloatTensor<B> {
    match places(&t, dim, range) {
        Some(places) => B::float_slice(t, &places),
        None => t,
    }
}

/// Where a range along a dimension is; `None` if it is all of it.
fn places(t: &impl TensorMetadata, dim: usize, range: &Range<usize>) -> Option<Vec<Slice>> {
    let shape = t.shape();
    let all = shape.iter().map(|n| Slice::from(0..*n));
    let mut places: Vec<Slice> = all.collect();
    places[dim] = Slice::from(range.clone());
    (*range != (0..shape[dim])).then_some(places)
}

/// Adds what a tile gives the gradient of its keys or values to that of all, in f32.
fn add_at<B: Backend>(
    sum: FloatTensor<B>,
    keys: &Range<usize>,
    part: FloatTensor<B>,
) -> FloatTensor<B> {
    let part = wide::<B>(part);
    match places(&sum, 2, keys) {
        None => B::float_add(sum, part),
        Some(places) => {
            let there = B::float_slice(sum.clone(), &places);
            B::float_slice_assign(sum, &places, B::float_add(there, part))
        }
    }
}

/// Rows of t by index; zeros for the index one past the last row.
fn select_or_zero<B: Backend>(t: FloatTensor<B>, index: Vec<usize>) -> FloatTensor<B> {
    let [n, d] = t.shape().dims();
    let device = t.device();
    let settings = get_device_settings::<B>(&device);
    let t = if index.contains(&n) {
        let zero = B::float_zeros(Shape::new([1, d]), &device, t.dtype().into());
        B::float_cat(vec![t, zero], 0)
    } else {
        t
    };
    let values: Vec<i32> = index.into_iter().map(|i| i as i32).collect();
    let shape = [values.len()];
    let data = TensorData::new(values, shape).convert_dtype(settings.int_dtype.into());
    let index: IntTensor<B> = B::int_from_data(data, &device);
    B::float_select(t, 0, index)
}

pub(super) fn forward<B: RowBackend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    spec: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    forward_in_tiles::<B>([q, k, v], spec, tile_elements(spec))
}

fn forward_in_tiles<B: RowBackend>(
    [q, k, v]: [FloatTensor<B>; 3],
    spec: &AttentionSpec,
    elements: usize,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let padded = Padded::new(spec);
    let (q, k, v) = (padded.split_q::<B>(q), padded.split_kv::<B>(k), padded.split_kv::<B>(v));
    let tile = |tile: &Tile| {
        let keys_of = |t: &FloatTensor<B>| part_of::<B>(t.clone(), 2, &tile.keys);
        let scores = scores::<B>(padded.queries_of::<B>(&q, tile), keys_of(&k));
        let seen = padded.seen::<B>(tile, &scores);
        let (p, lse) = B::masked_softmax(scores, seen, spec.scale);
        (B::float_matmul(p, keys_of(&v)), lse)
    };
    let (out, lse) = padded.tiles(elements).iter().map(tile).unzip();
    (padded.join_q::<B>(padded.of_tiles::<B>(out)), padded.of_tiles::<B>(lse))
}

/// After FlashAttention's backward pass: P is recomputed from the saved log-sum-exp, and
/// dS = P·(dP − rowsum(dO·O)).
pub(super) fn backward<B: RowBackend>(
    qkv: [FloatTensor<B>; 3],
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    backward_in_tiles::<B>(qkv, [out, lse, grad], spec, tile_elements(spec))
}

fn backward_in_tiles<B: RowBackend>(
    [q, k, v]: [FloatTensor<B>; 3],
    [out, lse, grad]: [FloatTensor<B>; 3],
    spec: &AttentionSpec,
    elements: usize,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (padded, dtype) = (Padded::new(spec), q.dtype());
    let keys = k.shape()[0];
    let (q, k, v) = (padded.split_q::<B>(q), padded.split_kv::<B>(k), padded.split_kv::<B>(v));
    let delta = B::float_mul(wide::<B>(grad.clone()), wide::<B>(out));
    let delta = B::float_sum_dim(padded.split_q::<B>(delta), 3);
    let d_out = padded.split_q::<B>(grad);

    let zeros =
        |t: &FloatTensor<B>| wide::<B>(B::float_zeros(t.shape(), &t.device(), t.dtype().into()));
    let (mut dk, mut dv) = (zeros(&k), zeros(&v));
    let mut dq = Vec::new();
    for tile in padded.tiles(elements) {
        let queries_of = |t: &FloatTensor<B>| padded.queries_of::<B>(t, &tile);
        let keys_of = |t: &FloatTensor<B>| part_of::<B>(t.clone(), 2, &tile.keys);
        let (q, k, d_out) = (queries_of(&q), keys_of(&k), queries_of(&d_out));
        let scores = scores::<B>(q.clone(), k.clone());
        let seen = padded.seen::<B>(&tile, &scores);
        let dp = B::float_matmul(d_out.clone(), B::float_transpose(keys_of(&v)));
        let (lse, delta) = (queries_of(&lse), queries_of(&delta));
        let (p, ds) = B::masked_softmax_backward(scores, seen, lse, delta, dp, spec.scale);
        dv = add_at::<B>(dv, &tile.keys, B::float_matmul(B::float_transpose(p), d_out));
        dk = add_at::<B>(dk, &tile.keys, B::float_matmul(B::float_transpose(ds.clone()), q));
        dq.push(B::float_matmul(ds, k));
    }
    let stored = |t| stored_as::<B>(t, dtype);
    let dq = padded.join_q::<B>(padded.of_tiles::<B>(dq));
    (dq, padded.join_kv::<B>(stored(dk), keys), padded.join_kv::<B>(stored(dv), keys))
}

#[cfg(all(test, feature = "flex"))]
#[path = "flex/attention_tiles_tests.rs"]
mod tests;
