//! Grouped-query attention, causal or full, straight from token-major projections.

use std::ops::Range;

use burn::{backend::Dispatch, tensor::Tensor};
use matformer_core::Spans;

use super::NnBackend;

/// Which queries attend to which keys, and the number and size of heads.
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
    pub(super) fn shape(&self) -> [usize; 3] {
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
/// If a row has no tokens, or no slot where the keys are those of a cache: the forward pass refuses both.
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, spec: AttentionSpec) -> Tensor<2> {
    let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as NnBackend>::gqa(q, k, v, spec))
}
