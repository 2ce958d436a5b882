//! What a submodel costs, as formulas; a test counts the tensors.

use matformer_core::{CostTable, Costs, Resource};
use matformer_nn::Activation;

use crate::MatLmConfig;

/// Cost tables of every submodel: parameters (total, non-embedding, feed-forward), FLOPs of one
/// token's forward pass at the full context, bytes of keys and values per token (f32).
///
/// FLOPs count 2 per weight in a matrix product (the head included, the embedding lookup not)
/// and 4·head_dim per visible key and query head, at the mean number of visible keys: in a layer
/// without a window, (context+1)/2. The cache of a layer with a window holds all positions too.
pub fn costs(config: &MatLmConfig) -> Costs {
    let c = config;
    let matrices = match c.activation {
        Activation::SwiGlu | Activation::GeGlu => 3,
        Activation::Gelu => 2,
    };
    let (d, q_dim, kv_dim) = (c.d_model, c.n_heads * c.head_dim(), c.n_kv_heads * c.head_dim());
    let projections = 2 * d * q_dim + 2 * d * kv_dim;
    let biases = if c.qkv_bias { q_dim + 2 * kv_dim } else { 0 } + if c.o_bias { d } else { 0 };
    let head_norms = if c.qk_norm { 2 * c.head_dim() } else { 0 };
    let norms = if c.post_norms { 4 * d } else { 2 * d };
    let embedding = c.vocab_size * d;
    let head = if c.tied_embeddings { 0 } else { c.vocab_size * d };

    let per_width = (matrices * d) as f64;
    let by_layer = |resource, constant: f64, fixed: &dyn Fn(usize) -> f64, per_width: f64| {
        let layers: Vec<_> = (0..c.n_layers).map(|layer| (fixed(layer), per_width)).collect();
        CostTable::affine(resource, constant, &layers, c.d_ff)
    };
    let table = |resource, constant: f64, fixed: f64, per_width: f64| {
        by_layer(resource, constant, &|_| fixed, per_width)
    };
    let layer = (projections + biases + head_norms + norms) as f64;
    let attention_flops = |layer: usize| {
        let keys = visible_keys(c.context, c.window_of(layer).map(|window| window.size));
        2.0 * projections as f64 + 4.0 * keys * q_dim as f64
    };
    let head_flops = 2.0 * (c.vocab_size * d) as f64;
    Costs::new(vec![
        table(Resource::Params, (embedding + head + d) as f64, layer, per_width),
        table(Resource::NonEmbedding, d as f64, layer, per_width),
        table(Resource::Ffn, 0.0, 0.0, per_width),
        by_layer(Resource::Flops, head_flops, &attention_flops, 2.0 * per_width),
        table(Resource::KvBytes, 0.0, (2 * kv_dim * size_of::<f32>()) as f64, 0.0),
    ])
}

/// Mean number of keys that the positions of a context see, through a window or all before them.
fn visible_keys(context: usize, window: Option<usize>) -> f64 {
    let (context, window) = (context as f64, window.map_or(f64::INFINITY, |size| size as f64));
    let growing = context.min(window); // positions that see one key more than the one before
    (growing * (growing + 1.0) / 2.0 + (context - growing) * growing) / context
}

#[cfg(test)]
mod tests {
    use super::visible_keys;

    #[test]
    fn visible_keys_are_the_mean_over_positions() {
        for (context, window) in [(1, None), (9, None), (9, Some(1)), (9, Some(4)), (9, Some(20))] {
            let seen = (1..=context).map(|n| n.min(window.unwrap_or(n)) as f64);
            let mean = seen.sum::<f64>() / context as f64;
            assert!((visible_keys(context, window) - mean).abs() < 1e-12, "{context} {window:?}");
        }
        assert_eq!(visible_keys(256, None), 128.5);
    }
}
