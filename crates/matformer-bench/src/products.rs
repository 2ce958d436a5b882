//! The matrix products of a training step: their shapes, and how many of each a step computes.
//!
//! A benchmark times them to learn how fast a step could be on this machine.

use matformer_lm::MatLmConfig;
use matformer_vit::MatVitConfig;

/// Independent products `[m, k] · [k, n]` of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The operation that computes it, such as `ffn up, forward`.
    pub name: String,
    /// Number of products that one call computes: 1, or one per sequence and head.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Which of the factors are stored transposed.
    pub layout: Layout,
    /// Calls in one training step.
    pub calls: usize,
}

/// How the two factors of a product are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Both row-major.
    Plain,
    /// The left factor is the transpose of a row-major matrix.
    LeftTransposed,
    /// The right factor is the transpose of a row-major matrix.
    RightTransposed,
}

impl Product {
    /// FLOPs of one call.
    pub fn flops(&self) -> f64 {
        2.0 * (self.batch * self.m * self.n * self.k) as f64
    }

    /// Whether both are the same work, whatever computes it.
    pub fn same_shape(&self, other: &Self) -> bool {
        let shape = |p: &Self| (p.layout, [p.batch, p.m, p.n, p.k]);
        shape(self) == shape(other)
    }
}

/// The products of a language model's step on `rows` full rows of tokens, at one width.
pub fn of_lm(config: &MatLmConfig, rows: usize, width: usize) -> Vec<Product> {
    let c = config;
    let (tokens, layers) = (rows * c.context, c.n_layers);
    let (q_dim, kv_dim) = (c.n_heads * c.head_dim(), c.n_kv_heads * c.head_dim());
    let up_matrices = if c.activation.gate().is_some() { 2 } else { 1 };
    let d = c.d_model;
    [
        linear("query projection", layers, tokens, d, q_dim),
        linear("key or value projection", 2 * layers, tokens, d, kv_dim),
        linear("output projection", layers, tokens, q_dim, d),
        attention(layers, rows * c.n_heads, c.context, c.head_dim()),
        linear("ffn up", up_matrices * layers, tokens, d, width),
        linear("ffn down", layers, tokens, width, d),
        linear("head", 1, tokens, d, c.vocab_size),
    ]
    .concat()
}

/// The products of a vision transformer's step on `images` images, at one width.
pub fn of_vit(config: &MatVitConfig, images: usize, width: usize) -> Vec<Product> {
    let c = config;
    let (tokens, layers, d) = (images * c.tokens(), c.n_layers, c.d_model);
    let heads = if c.distillation_token { 2 } else { 1 };
    let mut patches = linear("patches", 1, images * c.patches(), c.patch_pixels(), d);
    // Images have no gradient.
    patches.retain(|product| product.layout != Layout::Plain);
    [
        patches,
        linear("projection", 4 * layers, tokens, d, d),
        attention(layers, images * c.n_heads, c.tokens(), c.head_dim()),
        linear("ffn up", layers, tokens, d, width),
        linear("ffn down", layers, tokens, width, d),
        linear("head", heads, images, d, c.classes),
    ]
    .concat()
}

/// FLOPs that a step saves per image because nothing asks for the gradient of the pixels.
pub fn pixels_gradient(config: &MatVitConfig) -> f64 {
    2.0 * (config.patches() * config.patch_pixels() * config.d_model) as f64
}

/// `x · weightᵀ` and its two gradients; x is `[rows, d_in]`, the weight `[d_out, d_in]`.
fn linear(name: &str, calls: usize, rows: usize, d_in: usize, d_out: usize) -> Vec<Product> {
    let product = |what: &str, layout, [m, n, k]: [usize; 3]| Product {
        name: format!("{name}, {what}"),
        batch: 1,
        m,
        n,
        k,
        layout,
        calls,
    };
    vec![
        product("forward", Layout::RightTransposed, [rows, d_out, d_in]),
        product("input gradient", Layout::Plain, [rows, d_in, d_out]),
        product("weight gradient", Layout::LeftTransposed, [d_out, d_in, rows]),
    ]
}

/// The products of attention, all pairs of `seq` tokens in every head; `batch` counts the heads of
/// all sequences.
fn attention(layers: usize, batch: usize, seq: usize, head_dim: usize) -> Vec<Product> {
    let product = |what: &str, layout, [m, n, k]: [usize; 3]| Product {
        name: format!("attention, {what}"),
        batch,
        m,
        n,
        k,
        layout,
        calls: 2 * layers,
    };
    vec![
        product("scores or their gradient", Layout::RightTransposed, [seq, seq, head_dim]),
        product("output or query gradient", Layout::Plain, [seq, head_dim, seq]),
        product("key or value gradient", Layout::LeftTransposed, [seq, head_dim, seq]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use matformer_core::{Costs, Resource, Submodel};
    use matformer_lm::{self as lm};
    use matformer_nn::Activation;
    use matformer_vit::{self as vit, Pooling};

    /// FLOPs of a step; `visible` is the share of the pairs that attention needs.
    fn flops(products: &[Product], visible: f64) -> f64 {
        let of = |p: &Product| {
            let share = if p.name.starts_with("attention") { visible } else { 1.0 };
            p.calls as f64 * p.flops() * share
        };
        products.iter().map(of).sum()
    }

    fn forward(costs: &Costs, submodel: &Submodel) -> f64 {
        costs.get(Resource::Flops).unwrap().cost(submodel).unwrap()
    }

    fn assert_equal(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found}, expected {expected}");
    }

    #[test]
    fn a_language_models_products_cost_three_forward_passes() {
        for activation in [Activation::SwiGlu, Activation::GeGlu, Activation::Gelu] {
            let config = MatLmConfig {
                vocab_size: 40,
                d_model: 24,
                n_layers: 3,
                n_heads: 4,
                n_kv_heads: 2,
                d_ff: 64,
                context: 16,
                activation,
                ..MatLmConfig::default()
            };
            for width in [8, 64] {
                let forward = forward(&lm::costs(&config), &Submodel::uniform(width, 3));
                // A causal query sees itself and what is before it.
                let found = flops(&of_lm(&config, 5, width), 17.0 / 32.0);
                assert_equal(found, 3.0 * 5.0 * 16.0 * forward);
            }
        }
    }

    #[test]
    fn a_vision_transformers_products_cost_three_forward_passes_without_the_pixels_gradient() {
        for (pooling, distillation_token) in
            [(Pooling::ClassToken, true), (Pooling::ClassToken, false), (Pooling::Mean, false)]
        {
            let config = MatVitConfig { pooling, distillation_token, ..MatVitConfig::default() };
            let submodel = Submodel::uniform(96, config.n_layers);
            let forward = forward(&vit::costs(&config), &submodel);
            let found = flops(&of_vit(&config, 7, 96), 1.0);
            assert_equal(found, 7.0 * (3.0 * forward - pixels_gradient(&config)));
        }
    }

    #[test]
    fn gradients_of_a_linear_layer_have_the_shapes_of_input_and_weight() {
        let [forward, input, weight] = &linear("layer", 1, 5, 3, 2)[..] else { panic!() };
        assert_eq!([forward.m, forward.n, forward.k], [5, 2, 3]);
        assert_eq!([input.m, input.n, input.k], [5, 3, 2]);
        assert_eq!([weight.m, weight.n, weight.k], [2, 3, 5]);
    }

    #[test]
    fn names_do_not_make_shapes_different_and_layouts_do() {
        let [a, b] = [("a", 2), ("b", 1)].map(|(name, calls)| linear(name, calls, 4, 4, 4));
        assert!(a[0].same_shape(&b[0]));
        assert!(!a[0].same_shape(&a[1]));
    }
}
