//! What a submodel costs, as formulas; a test counts the tensors.

use matformer_core::{CostTable, Costs, Resource};
use matformer_nn::Activation;

use crate::MatLmConfig;

/// Cost tables of every submodel: parameters (total, non-embedding, feed-forward), FLOPs of one
/// token's forward pass at the full context, bytes of keys and values per token (f32).
///
/// FLOPs count 2 per weight in a matrix product (the head included, the embedding lookup not)
/// and 4·head_dim per visible key and query head, at the mean of (context+1)/2 visible keys.
pub fn costs(config: &MatLmConfig) -> Costs {
    let c = config;
    let matrices = match c.activation {
        Activation::SwiGlu | Activation::GeGlu => 3,
        Activation::Gelu => 2,
    };
    let (d, q_dim, kv_dim) = (c.d_model, c.n_heads * c.head_dim(), c.n_kv_heads * c.head_dim());
    let attention = 2 * d * q_dim + 2 * d * kv_dim;
    let norms = 2 * d;
    let embedding = c.vocab_size * d;
    let head = if c.tied_embeddings { 0 } else { c.vocab_size * d };
    let keys = (c.context as f64 + 1.0) / 2.0;

    let per_width = (matrices * d) as f64;
    let table = |resource, constant: f64, fixed: f64, per_width: f64| {
        CostTable::affine(resource, constant, &vec![(fixed, per_width); c.n_layers], c.d_ff)
    };
    let layer = (attention + norms) as f64;
    let attention_flops = 2.0 * attention as f64 + 4.0 * keys * q_dim as f64;
    let head_flops = 2.0 * (c.vocab_size * d) as f64;
    Costs::new(vec![
        table(Resource::Params, (embedding + head + d) as f64, layer, per_width),
        table(Resource::NonEmbedding, d as f64, layer, per_width),
        table(Resource::Ffn, 0.0, 0.0, per_width),
        table(Resource::Flops, head_flops, attention_flops, 2.0 * per_width),
        table(Resource::KvBytes, 0.0, (2 * kv_dim * size_of::<f32>()) as f64, 0.0),
    ])
}
