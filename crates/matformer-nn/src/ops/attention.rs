//! Grouped-query attention, causal or full, straight from token-major projections.

use std::ops::Range;

use burn::backend::{
    Backend, Dispatch, TensorMetadata, get_device_settings,
    tensor::{BoolTensor, FloatTensor, IntTensor},
};
use burn::tensor::{Shape, Tensor, TensorData};
use matformer_core::Spans;

use super::{
    NnBackend,
    precision::{stored_as, wide},
};

/// Which queries meet which keys, and how they are cut into heads.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// The rows that the queries belong to.
    pub spans: Spans,
    /// Capacity of a slot if k and v are a KV cache `[slots·capacity, kv_dim]`, of which each row
    /// reads its slot from position 0; `None` if they are the keys and values of this batch,
    /// `[tokens, kv_dim]`.
    pub capacity: Option<usize>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Factor on the products of queries and keys, usually 1/√head_dim.
    pub scale: f64,
    /// Which of its row's keys a query sees.
    pub mask: Mask,
}

/// Which of its row's keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    Full,
    /// Those up to its own position.
    Causal,
    /// Its own position and the `size − 1` before it (Mistral's sliding window).
    Window {
        /// Keys that a query sees at most; at least 1.
        size: usize,
    },
}

/// Where the queries and keys of one row lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttentionRow {
    /// First of its queries, a row of q.
    pub(super) q: usize,
    /// Queries.
    pub(super) q_len: usize,
    /// First of its keys, a row of k and v.
    pub(super) k: usize,
    /// Keys.
    pub(super) kv_len: usize,
    /// Place of the first query among the keys.
    start: usize,
    mask: Mask,
}

impl AttentionRow {
    /// The keys that query `i` sees, counted from the row's first.
    pub(super) fn visible(&self, i: usize) -> Range<usize> {
        let end = (self.start + i + 1).min(self.kv_len);
        match self.mask {
            Mask::Full => 0..self.kv_len,
            Mask::Causal => 0..end,
            Mask::Window { size } => end.saturating_sub(size)..end,
        }
    }

    /// The values that determine the row's mask: rows with equal ones share it.
    fn shape(&self) -> [usize; 3] {
        [self.q_len, self.kv_len, self.start]
    }
}

impl AttentionSpec {
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Size of all query heads together.
    pub(super) fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Size of all key heads together.
    pub(super) fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    pub(super) fn rows(&self) -> Vec<AttentionRow> {
        let row = |(row, span): (usize, &matformer_core::Span)| {
            let q = self.spans.tokens_of(row..row + 1).start;
            let (q_len, mask) = (span.len, self.mask);
            match (self.capacity, span.slot) {
                (Some(capacity), Some(slot)) => {
                    let (k, kv_len) = (slot * capacity, span.start + span.len);
                    AttentionRow { q, q_len, k, kv_len, start: span.start, mask }
                }
                (Some(_), None) => panic!("row {row} of attention over a cache has no slot"),
                (None, _) => AttentionRow { q, q_len, k: q, kv_len: q_len, start: 0, mask },
            }
        };
        self.spans.iter().enumerate().map(row).collect()
    }
}

/// Softmax attention: `softmax(q·kᵀ·scale)·v`, per row and head; query heads share key and value
/// heads in groups (GQA).
///
/// # Shapes
/// - q: `[tokens, heads·head_dim]`
/// - k, v: `[tokens, kv_heads·head_dim]`, or of a cache `[slots·capacity, kv_heads·head_dim]`
/// - output: `[tokens, heads·head_dim]`
///
/// # Panics
/// If a row has no tokens, or no slot where the keys are those of a cache: the walk refuses both.
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, spec: AttentionSpec) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as NnBackend>::gqa(q, k, v, spec))
}

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

    /// The attention mask, true for masked keys, `[rows, kv_heads, group·q_len, kv_len]`; `None` if
    /// every query sees every key.
    fn hidden_keys<B: Backend>(&self, like: &FloatTensor<B>) -> Option<BoolTensor<B>> {
        let visible: Vec<Range<usize>> = self
            .rows
            .iter()
            .flat_map(|row| {
                (0..self.q_len).map(|i| row.visible(i.min(row.q_len.saturating_sub(1))))
            })
            .collect();
        if visible.iter().all(|keys| *keys == (0..self.kv_len)) {
            return None;
        }
        // If all rows have the same shape, they share one mask.
        let alike = self.rows.windows(2).all(|pair| pair[0].shape() == pair[1].shape());
        let rows = if alike { 1 } else { self.rows.len() };
        let device = like.device();
        let settings = get_device_settings::<B>(&device);
        let (n, group) = (self.q_len, self.spec.group());
        let shape = Shape::new([rows, 1, group * n, self.kv_len]);
        let ends = |end: &dyn Fn(&Range<usize>) -> usize| {
            let row = |row: usize| (0..group * n).map(move |i| row * n + i % n);
            let values: Vec<i32> =
                (0..rows).flat_map(row).map(|at| end(&visible[at]) as i32).collect();
            let data = TensorData::new(values, [rows, 1, group * n, 1])
                .convert_dtype(settings.int_dtype.into());
            B::int_expand(B::int_from_data(data, &device), shape.clone())
        };
        let keys = B::int_arange(0..self.kv_len as i64, &device, settings.int_dtype);
        let keys = B::int_reshape(keys, Shape::new([1, 1, 1, self.kv_len]));
        let keys = B::int_expand(keys, shape.clone());
        let behind =
            B::int_greater_equal(keys.clone(), ends(&|keys| keys.end), settings.bool_dtype);
        let mask = if visible.iter().all(|keys| keys.start == 0) {
            behind
        } else {
            let before = B::int_lower(keys, ends(&|keys| keys.start), settings.bool_dtype);
            B::bool_or(behind, before)
        };
        let all = [self.rows.len(), self.spec.kv_heads, group * n, self.kv_len];
        Some(B::bool_expand(mask, Shape::new(all)))
    }

    /// Scaled products of queries and keys, minus infinity for masked keys,
    /// `[rows, kv_heads, group·q_len, kv_len]`, in f32.
    fn scores<B: Backend>(&self, q4: FloatTensor<B>, k4: FloatTensor<B>) -> FloatTensor<B> {
        let q4 = B::float_mul_scalar(q4, (self.spec.scale as f32).into());
        let scores = wide::<B>(B::float_matmul(q4, B::float_transpose(k4)));
        match self.hidden_keys::<B>(&scores) {
            Some(mask) => B::float_mask_fill(scores, mask, f32::NEG_INFINITY.into()),
            None => scores,
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

pub(super) fn forward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    spec: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (padded, dtype) = (Padded::new(spec), q.dtype());
    let scores = padded.scores::<B>(padded.split_q::<B>(q), padded.split_kv::<B>(k));
    let max = B::float_max_dim(scores.clone(), 3); // [rows, kv_heads, group·q_len, 1]
    let p = B::float_exp(B::float_sub(scores, max.clone()));
    let sum = B::float_sum_dim(p.clone(), 3);
    let out = B::float_matmul(stored_as::<B>(p, dtype), padded.split_kv::<B>(v));
    let out = stored_as::<B>(B::float_div(wide::<B>(out), sum.clone()), dtype);
    let lse = B::float_add(B::float_log(sum), max);
    (padded.join_q::<B>(out), lse)
}

/// After FlashAttention's backward pass: P is recomputed from the saved log-sum-exp, and
/// dS = P·(dP − rowsum(dO·O)).
pub(super) fn backward<B: Backend>(
    [q, k, v]: [FloatTensor<B>; 3],
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (padded, dtype) = (Padded::new(spec), q.dtype());
    let keys = k.shape()[0];
    let (q4, k4, v4) = (padded.split_q::<B>(q), padded.split_kv::<B>(k), padded.split_kv::<B>(v));
    let delta = B::float_mul(wide::<B>(grad.clone()), wide::<B>(out));
    let delta = padded.split_q::<B>(delta);
    let delta = B::float_sum_dim(delta, 3);
    let d_out = padded.split_q::<B>(grad);

    let p = B::float_exp(B::float_sub(padded.scores::<B>(q4.clone(), k4.clone()), lse));
    let low = |t| stored_as::<B>(t, dtype);
    let dv = B::float_matmul(B::float_transpose(low(p.clone())), d_out.clone());
    let dp = wide::<B>(B::float_matmul(d_out, B::float_transpose(v4)));
    let ds = low(B::float_mul(p, B::float_sub(dp, delta))); // [rows, kv_heads, group·q_len, kv_len]
    let scale = spec.scale as f32;
    let dq = B::float_mul_scalar(B::float_matmul(ds.clone(), k4), scale.into());
    let dk = B::float_mul_scalar(B::float_matmul(B::float_transpose(ds), q4), scale.into());
    (padded.join_q::<B>(dq), padded.join_kv::<B>(dk, keys), padded.join_kv::<B>(dv, keys))
}
