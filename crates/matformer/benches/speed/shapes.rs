//! The models whose training steps are measured.

use anyhow::{Context, Result};
use matformer::{
    bench::products::{self, Product},
    core::{Plan, Resource},
    lm::{self, MatLmConfig, Preset},
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

/// The shapes that `bench train` measures where none is named.
pub const ON_CPU: [&str; 3] = ["d256", "d512", "vit28"];
/// The same on a graphics card.
pub const ON_GPU: [&str; 2] = ["180m", "850m"];

/// The shapes that there are.
fn all() -> Vec<Shape> {
    let vit = Config::Vit(MatVitConfig::default());
    vec![
        Shape::lm("d256", 256, 6, 4096, [8, 256]),
        Shape::lm("d512", 512, 8, 8192, [4, 256]),
        Shape { name: "vit28", rows: 256, config: vit },
        Shape::lm("d512x1024", 512, 8, 8192, [4, 1024]),
        // For memory: how it grows with the context.
        Shape::lm("context-2048", 64, 1, 256, [1, 2048]),
        Shape::lm("context-4096", 64, 1, 256, [1, 4096]),
        // For a device that the CPU emulates.
        Shape::lm("tiny", 64, 2, 256, [2, 64]),
        Shape::preset("180m", Preset::Paper(1), 16),
        Shape::preset("850m", Preset::Paper(4), 8),
    ]
}

/// A shape by its name.
pub fn named(name: &str) -> Result<Shape> {
    let mut known = all();
    let names: Vec<_> = known.iter().map(|shape| shape.name).collect();
    let names = names.join(", ");
    let at = known.iter().position(|shape| shape.name == name);
    Ok(known.swap_remove(at.with_context(|| format!("shape {name}: expected one of {names}"))?))
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

    /// A language model of the paper's table, with rows as long as its context.
    fn preset(name: &'static str, preset: Preset, rows: usize) -> Self {
        Self { name, rows, config: Config::Lm(Box::new(preset.config())) }
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
