//! Spans: which tokens a batch holds, row by row.

use std::{ops::Range, sync::Arc};

/// One row of a batch: `len` consecutive tokens, the first at position `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// KV cache slot of the row: it holds the earlier tokens and takes the new ones. `None` without
    /// a cache.
    pub slot: Option<usize>,
    /// Position of the first token.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
}

/// The rows of a batch, packed without padding. The tokens of all rows are concatenated: hidden
/// states are `[tokens, d_model]`, and row `i` has the hidden rows
/// [`tokens_of`](Self::tokens_of)`(i..i + 1)`.
///
/// Rows may differ in length, start and slot. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    spans: Arc<[Span]>,
    /// Cumulative lengths of the rows (`cu_seqlens`), `[rows + 1]`.
    offsets: Arc<[usize]>,
}

impl Spans {
    /// Rows in the order of their tokens.
    pub fn new(spans: Vec<Span>) -> Self {
        let mut offsets = Vec::with_capacity(spans.len() + 1);
        let mut tokens = 0;
        offsets.push(tokens);
        for span in &spans {
            tokens += span.len;
            offsets.push(tokens);
        }
        Self { spans: spans.into(), offsets: offsets.into() }
    }

    /// `rows` rows of `len` tokens each, from position 0, without a cache: a batch of training or
    /// evaluation.
    pub fn equal(rows: usize, len: usize) -> Self {
        Self::new(vec![Span { slot: None, start: 0, len }; rows])
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.spans.len()
    }

    /// Number of tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.offsets[self.spans.len()]
    }

    /// The rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Span> {
        self.spans.iter()
    }

    /// Row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> Span {
        self.spans[row]
    }

    /// The tokens of a contiguous range of rows, as a range of hidden rows.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn tokens_of(&self, rows: Range<usize>) -> Range<usize> {
        self.offsets[rows.start]..self.offsets[rows.end]
    }

    /// The common length of the rows; `None` if they differ or there are none.
    pub fn common_len(&self) -> Option<usize> {
        let first = self.spans.first()?.len;
        self.spans.iter().all(|span| span.len == first).then_some(first)
    }

    /// The common start of the rows; `None` if they differ or there are none.
    pub fn common_start(&self) -> Option<usize> {
        let first = self.spans.first()?.start;
        self.spans.iter().all(|span| span.start == first).then_some(first)
    }

    /// A contiguous range of rows.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn select(&self, rows: Range<usize>) -> Self {
        if rows == (0..self.rows()) {
            return self.clone();
        }
        Self::new(self.spans[rows].to_vec())
    }

    /// The same rows `copies` times: a merged plan holds a copy of the batch per submodel.
    pub fn repeat(&self, copies: usize) -> Self {
        if copies == 1 {
            return self.clone();
        }
        Self::new(self.spans.repeat(copies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_own_their_tokens_in_order() {
        let span = |start, len| Span { slot: None, start, len };
        let spans = Spans::new(vec![span(0, 3), span(7, 1), span(2, 4)]);
        assert_eq!((spans.rows(), spans.tokens()), (3, 8));
        assert_eq!([spans.tokens_of(0..1), spans.tokens_of(1..3)], [0..3, 3..8]);
        assert_eq!((spans.common_len(), spans.common_start()), (None, None));
        assert_eq!(spans.select(1..2), Spans::new(vec![span(7, 1)]));
        assert_eq!(spans.repeat(2).tokens_of(3..6), 8..16);
        let equal = Spans::equal(2, 5);
        assert_eq!((equal.common_len(), equal.common_start()), (Some(5), Some(0)));
        let none = Spans::new(Vec::new());
        assert_eq!((none.tokens(), none.common_len()), (0, None));
    }
}
