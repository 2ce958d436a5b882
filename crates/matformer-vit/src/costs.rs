//! What a submodel costs, as formulas; a test counts the tensors.

use matformer_core::{CostTable, Costs, Resource};

use crate::MatVitConfig;

/// Cost tables of every submodel: parameters (total, without patch embedding, positions and head,
/// feed-forward), and FLOPs of one image's forward pass.
///
/// FLOPs count 2 per weight in a matrix product and 4·head_dim per key and head, for each of an
/// image's [`MatVitConfig::tokens`].
pub fn costs(config: &MatVitConfig) -> Costs {
    let c = config;
    let (d, tokens) = (c.d_model as f64, c.tokens() as f64);
    let own_tokens = c.extra_tokens() as f64 * d;
    let embedding = (c.patch_pixels() as f64 + 1.0) * d + own_tokens + tokens * d;
    let heads = if c.distillation_token { 2.0 } else { 1.0 };
    let head = heads * (d + 1.0) * c.classes as f64;
    let norm = 2.0 * d;
    // Four projections and two norms, and the second bias of the block.
    let layer = 4.0 * d * (d + 1.0) + 2.0 * norm + d;

    let table = |resource, constant: f64, fixed: f64, per_width: f64| {
        CostTable::affine(resource, constant, &vec![(fixed, per_width); c.n_layers], c.d_ff)
    };
    let outside =
        2.0 * d * (c.patches() * c.patch_pixels()) as f64 + 2.0 * d * heads * c.classes as f64;
    let attention = tokens * (8.0 * d * d + 4.0 * tokens * d);
    Costs::new(vec![
        table(Resource::Params, embedding + norm + head, layer, 2.0 * d + 1.0),
        table(Resource::NonEmbedding, norm, layer, 2.0 * d + 1.0),
        table(Resource::Ffn, 0.0, d, 2.0 * d + 1.0),
        table(Resource::Flops, outside, attention, tokens * 4.0 * d),
    ])
}
