//! What the tests of several modules measure.

use burn::tensor::Device;
use matformer_lm::{MatLm, MatLmConfig};

/// A model of two layers, d_ff 32 and a context of 16.
pub(crate) fn tiny(vocab_size: usize, seed: u64) -> MatLm {
    MatLm::new(&tiny_config(vocab_size), seed, &Device::flex()).unwrap()
}

/// Its shape.
pub(crate) fn tiny_config(vocab_size: usize) -> MatLmConfig {
    MatLmConfig {
        vocab_size,
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 32,
        width_multiple: 4,
        context: 16,
        ..MatLmConfig::default()
    }
}
