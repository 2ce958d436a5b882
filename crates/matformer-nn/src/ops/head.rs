//! The gradients of losses on an output head, and whether its own is wanted.

use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

use super::{
    nested_ffn::{add_to, cat},
    precision::{stored_as, wide},
};

/// Whether the gradient of an output head is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// It is.
    Trained,
    /// The head is frozen; the matrix product for its gradient is skipped.
    Frozen,
}

/// Gradients of a loss on an output head.
#[derive(Clone, Debug)]
pub struct HeadGradients<B: Backend> {
    /// Of the hidden states, `[tokens, d_model]`.
    pub hidden: FloatTensor<B>,
    /// Of the head, `[vocab, d_model]`; `None` if it is frozen.
    pub weight: Option<FloatTensor<B>>,
}

/// [`HeadGradients`], chunk by chunk.
pub(super) struct HeadSum<B: Backend> {
    head: Head,
    hidden: Vec<FloatTensor<B>>,
    weight: Option<FloatTensor<B>>,
}

impl<B: Backend> HeadSum<B> {
    pub(super) fn of(head: Head) -> Self {
        Self { head, hidden: Vec::new(), weight: None }
    }

    /// Adds a chunk of rows, from the gradient of its logits `[chunk, vocab]`.
    pub(super) fn add(
        &mut self,
        d_logits: FloatTensor<B>,
        hidden: FloatTensor<B>,
        weight: FloatTensor<B>,
    ) {
        self.hidden.push(B::float_matmul(d_logits.clone(), weight));
        if self.head == Head::Trained {
            let part = wide::<B>(B::float_matmul(B::float_transpose(d_logits), hidden));
            self.weight = Some(add_to::<B>(self.weight.take(), part));
        }
    }

    /// The sums; `weight` is the head itself.
    pub(super) fn finish(self, weight: &FloatTensor<B>) -> HeadGradients<B> {
        let zero = || B::float_mul_scalar(weight.clone(), 0f32.into());
        let of_weight = (self.head == Head::Trained)
            .then(|| stored_as::<B>(self.weight.unwrap_or_else(zero), weight.dtype()));
        HeadGradients { hidden: cat::<B>(self.hidden, 0), weight: of_weight }
    }
}
