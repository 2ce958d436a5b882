//! Grouped-query attention, causal or full, straight from token-major projections.

use burn::backend::{
    Backend, Dispatch, TensorMetadata, get_device_settings,
    tensor::{BoolTensor, FloatTensor},
};
use burn::tensor::{Shape, Tensor, TensorData};

use super::NnBackend;

/// Shapes of one attention call and which keys each query sees.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Sequences in the batch.
    pub rows: usize,
    /// Queries of each row.
    pub q_len: usize,
    /// Keys of each row.
    pub kv_len: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// `None`: every query sees every key. Otherwise the position of each row's first query
    /// (one entry if it is the same for all rows): query i sees the keys up to position
    /// `start + i`.
    pub causal: Option<Vec<usize>>,
}

impl AttentionSpec {
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Factor on the products of queries and keys: 1/√head_dim.
    pub fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }

    /// Whether some query must not see some key.
    fn masks(&self) -> Option<&[usize]> {
        self.causal.as_deref().filter(|starts| starts.iter().any(|s| s + 1 < self.kv_len))
    }
}

/// Softmax attention: `softmax(q·kᵀ/√head_dim)·v`, per head; query heads share key and value
/// heads in groups (GQA).
///
/// # Shapes
/// - q: `[rows·q_len, heads·head_dim]`
/// - k, v: `[rows·kv_len, kv_heads·head_dim]`
/// - output: `[rows·q_len, heads·head_dim]`
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, spec: AttentionSpec) -> Tensor<2> {
    let out =
        <Dispatch as NnBackend>::gqa(q.into_dispatch(), k.into_dispatch(), v.into_dispatch(), spec);
    Tensor::from_dispatch(out)
}

/// `[rows·q_len, heads·head_dim]` → `[rows, kv_heads, group·q_len, head_dim]`
fn split_q<B: Backend>(q: FloatTensor<B>, s: &AttentionSpec) -> FloatTensor<B> {
    let q = B::float_reshape(q, Shape::new([s.rows, s.q_len, s.kv_heads, s.group(), s.head_dim]));
    let q = B::float_permute(q, &[0, 2, 3, 1, 4]);
    B::float_reshape(q, Shape::new([s.rows, s.kv_heads, s.group() * s.q_len, s.head_dim]))
}

/// The way back of [`split_q`].
fn join_q<B: Backend>(q: FloatTensor<B>, s: &AttentionSpec) -> FloatTensor<B> {
    let q = B::float_reshape(q, Shape::new([s.rows, s.kv_heads, s.group(), s.q_len, s.head_dim]));
    let q = B::float_permute(q, &[0, 3, 1, 2, 4]);
    B::float_reshape(q, Shape::new([s.rows * s.q_len, s.heads * s.head_dim]))
}

/// `[rows·kv_len, kv_heads·head_dim]` → `[rows, kv_heads, kv_len, head_dim]`
fn split_kv<B: Backend>(k: FloatTensor<B>, s: &AttentionSpec) -> FloatTensor<B> {
    let k = B::float_reshape(k, Shape::new([s.rows, s.kv_len, s.kv_heads, s.head_dim]));
    B::float_permute(k, &[0, 2, 1, 3])
}

/// The way back of [`split_kv`].
fn join_kv<B: Backend>(k: FloatTensor<B>, s: &AttentionSpec) -> FloatTensor<B> {
    let k = B::float_permute(k, &[0, 2, 1, 3]);
    B::float_reshape(k, Shape::new([s.rows * s.kv_len, s.kv_heads * s.head_dim]))
}

/// True where a key lies beyond its query: `[rows, kv_heads, group·q_len, kv_len]`.
fn hidden_keys<B: Backend>(
    starts: &[usize],
    s: &AttentionSpec,
    like: &FloatTensor<B>,
) -> BoolTensor<B> {
    let device = like.device();
    let settings = get_device_settings::<B>(&device);
    // Last position that each query sees, for one row if all rows start alike.
    let last: Vec<i32> = starts
        .iter()
        .flat_map(|start| {
            (0..s.group()).flat_map(move |_| (0..s.q_len).map(move |i| (start + i) as i32))
        })
        .collect();
    let shape = Shape::new([starts.len(), 1, s.group() * s.q_len, s.kv_len]);
    let last = TensorData::new(last, [starts.len(), 1, s.group() * s.q_len, 1])
        .convert_dtype(settings.int_dtype.into());
    let last = B::int_expand(B::int_from_data(last, &device), shape.clone());
    let keys = B::int_arange(0..s.kv_len as i64, &device, settings.int_dtype);
    let keys = B::int_expand(B::int_reshape(keys, Shape::new([1, 1, 1, s.kv_len])), shape);
    let mask = B::int_greater(keys, last, settings.bool_dtype);
    B::bool_expand(mask, Shape::new([s.rows, s.kv_heads, s.group() * s.q_len, s.kv_len]))
}

/// Scaled products of queries and keys, minus infinity where a query does not see a key.
fn scores<B: Backend>(q4: FloatTensor<B>, k4: FloatTensor<B>, s: &AttentionSpec) -> FloatTensor<B> {
    let q4 = B::float_mul_scalar(q4, (s.scale() as f32).into());
    let scores = B::float_matmul(q4, B::float_transpose(k4));
    match s.masks() {
        Some(starts) => {
            let mask = hidden_keys::<B>(starts, s, &scores);
            B::float_mask_fill(scores, mask, f32::NEG_INFINITY.into())
        }
        None => scores,
    }
}

pub(super) fn forward<B: Backend>(
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    s: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let scores = scores::<B>(split_q::<B>(q, s), split_kv::<B>(k, s), s);
    let max = B::float_max_dim(scores.clone(), 3); // [rows, kv_heads, group·q_len, 1]
    let p = B::float_exp(B::float_sub(scores, max.clone()));
    let sum = B::float_sum_dim(p.clone(), 3);
    let out = B::float_div(B::float_matmul(p, split_kv::<B>(v, s)), sum.clone());
    let lse = B::float_add(B::float_log(sum), max);
    (join_q::<B>(out, s), lse)
}

/// After FlashAttention's backward pass: P is recomputed from the saved log-sum-exp, and
/// dS = P·(dP − rowsum(dO·O)).
pub(super) fn backward<B: Backend>(
    [q, k, v]: [FloatTensor<B>; 3],
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    grad: FloatTensor<B>,
    s: &AttentionSpec,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (q4, k4, v4) = (split_q::<B>(q, s), split_kv::<B>(k, s), split_kv::<B>(v, s));
    let delta = B::float_sum_dim(split_q::<B>(B::float_mul(grad.clone(), out), s), 3);
    let d_out = split_q::<B>(grad, s);

    let p = B::float_exp(B::float_sub(scores::<B>(q4.clone(), k4.clone(), s), lse));
    let dv = B::float_matmul(B::float_transpose(p.clone()), d_out.clone());
    let dp = B::float_matmul(d_out, B::float_transpose(v4));
    let ds = B::float_mul(p, B::float_sub(dp, delta)); // [rows, kv_heads, group·q_len, kv_len]
    let scale = s.scale() as f32;
    let dq = B::float_mul_scalar(B::float_matmul(ds.clone(), k4), scale.into());
    let dk = B::float_mul_scalar(B::float_matmul(B::float_transpose(ds), q4), scale.into());
    (join_q::<B>(dq, s), join_kv::<B>(dk, s), join_kv::<B>(dv, s))
}
