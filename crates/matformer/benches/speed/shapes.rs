//! The models whose training steps are measured.

use anyhow::Result;
use matformer::{
    core::{Plan, Resource},
    lm::{self, MatLmConfig},
    products::{self, Product},
    vit::{self, MatVitConfig},
};
use serde_json::{Value, json};

/// A model and the rows of its batch.
pub struct Shape {
    /// Its name in the tables.
    pub name: &'static str,
    /// Rows of the batch.
    pub rows: usize,
    /// The model.
    pub config: Config,
}

/// The configuration of a model.
pub enum Config {
    Lm(Box<MatLmConfig>),
    Vit(MatVitConfig),
}

/// The shapes that `bench train` knows.
pub fn all() -> Vec<Shape> {
    let vit = Shape { name: "vit28", rows: 256, config: Config::Vit(MatVitConfig::default()) };
    vec![Shape::lm("d256", 256, 6, 4096, [8, 256]), Shape::lm("d512", 512, 8, 8192, [4, 256]), vit]
}

impl Shape {
    /// A language model with heads of 32 and a d_ff of four times d_model; its batch has `rows` rows
    /// of `context` tokens.
    pub fn lm(
        name: &'static str,
        d_model: usize,
        n_layers: usize,
        vocab_size: usize,
        [rows, context]: [usize; 2],
    ) -> Self {
        let config = MatLmConfig {
            vocab_size,
            d_model,
            n_layers,
            n_heads: d_model / 32,
            n_kv_heads: d_model / 32,
            d_ff: 4 * d_model,
            context,
            tied_embeddings: true,
            ..MatLmConfig::default()
        };
        Self { name, rows, config: Config::Lm(Box::new(config)) }
    }

    /// FLOPs of the matrix products of a training step that follows a plan.
    pub fn flops(&self, plan: &Plan) -> Result<f64> {
        // Each product of the forward pass has two gradients, of about its own FLOPs each.
        Ok(match &self.config {
            Config::Lm(c) => {
                let forward = lm::costs(c).get(Resource::Flops)?.plan(plan)?;
                3.0 * forward * (self.rows * c.context) as f64
            }
            Config::Vit(c) => {
                let forward = vit::costs(c).get(Resource::Flops)?.plan(plan)?;
                (3.0 * forward - products::pixels_gradient(c)) * self.rows as f64
            }
        })
    }

    /// The matrix products of a training step at one width.
    pub fn products(&self, width: usize) -> Vec<Product> {
        match &self.config {
            Config::Lm(c) => products::of_lm(c, self.rows, width),
            Config::Vit(c) => products::of_vit(c, self.rows, width),
        }
    }

    /// The same model and batch for the script that asks PyTorch.
    pub fn request(&self, widths: &[usize]) -> Value {
        match &self.config {
            Config::Lm(c) => json!({
                "d_model": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads, "d_ff": c.d_ff,
                "vocab": c.vocab_size, "rows": self.rows, "seq": c.context, "widths": widths,
            }),
            Config::Vit(c) => json!({
                "d_model": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads, "d_ff": c.d_ff,
                "classes": c.classes, "rows": self.rows, "image": c.image_size,
                "patch": c.patch_size, "channels": c.channels, "widths": widths,
            }),
        }
    }
}
