//! Gradients of losses on an output head, in chunks of rows.

use burn::backend::Flex;

use super::{
    kernel::{tensor, zeros},
    product::{Mat, Size, Write, product},
};
use crate::ops::{Head, HeadGradients};

/// Values of [`HeadGradients`].
pub(super) struct HeadValues {
    hidden: Vec<f32>,
    weight: Option<Vec<f32>>,
}

impl HeadValues {
    pub(super) fn zeros(head: Head, tokens: usize, vocab: usize, d: usize) -> Self {
        let weight = (head == Head::Trained).then(|| zeros(vocab * d));
        Self { hidden: zeros(tokens * d), weight }
    }

    /// From the gradient of the logits of a chunk of rows to those of its hidden states and its part of
    /// weight's. `first` is the chunk's first row.
    pub(super) fn add(
        &mut self,
        first: usize,
        d_logits: &[f32],
        hidden: Mat<'_>,
        weight: Mat<'_>,
        [rows, vocab, d]: [usize; 3],
    ) {
        let d_logits = Mat::rows(d_logits, vocab);
        let d_hidden = &mut self.hidden[first * d..];
        product(d_hidden, d, d_logits, weight, Size { m: rows, n: d, k: vocab }, Write::PARALLEL);
        if let Some(d_weight) = &mut self.weight {
            let size = Size { m: vocab, n: d, k: rows };
            let write = Write { add: true, ..Write::PARALLEL };
            product(d_weight, d, d_logits.t(), hidden, size, write);
        }
    }

    pub(super) fn into_tensors(self, hidden: &[usize], weight: &[usize]) -> HeadGradients<Flex> {
        HeadGradients {
            hidden: tensor(self.hidden, hidden),
            weight: self.weight.map(|values| tensor(values, weight)),
        }
    }
}
