//! Vision models: shape, costs, weights.

use super::*;

impl Model for Vit {
    type Net = MatVit;

    fn targets_per_row(_: &MatVitConfig) -> usize {
        1
    }

    fn dims(shape: &MatVitConfig) -> Result<Dims> {
        Ok(Dims {
            params: params::<Self>(shape)?,
            seq: shape.tokens(),
            d_model: shape.d_model,
            q_dim: shape.d_model,
            kv_dim: shape.d_model,
            gated: false,
            outputs: shape.classes,
            targets: 1,
        })
    }

    fn create(shape: &MatVitConfig, seed: u64, device: &Device) -> Result<MatVit> {
        MatVit::new(shape, seed, device).bad_input()
    }

    fn costs(shape: &MatVitConfig) -> Costs {
        costs(shape)
    }

    /// timm has every form with equal widths; transformers' `vit` has no mean pooling and no
    /// distillation token.
    fn exports(c: &MatVitConfig) -> Vec<&'static str> {
        let plain = c.pooling == Pooling::ClassToken && !c.distillation_token;
        let mut exports = Vec::new();
        if plain && c.layer_d_ff.is_none() {
            exports.push("transformers");
        }
        if c.layer_d_ff.is_none() {
            exports.push("timm");
        }
        exports
    }

    fn describe(c: &MatVitConfig) -> String {
        format!(
            "images {0}×{0}×{1}, patches {2}×{2}, {3} tokens, d_model {4}, {5} layers, {6} heads, \
             d_ff {7}, {8} classes",
            c.image_size,
            c.channels,
            c.patch_size,
            c.tokens(),
            c.d_model,
            c.n_layers,
            c.n_heads,
            c.d_ff,
            c.classes
        )
    }

    fn like(shape: &MatVitConfig, of: &MatVitConfig) -> MatVitConfig {
        MatVitConfig { classes: of.classes, image_size: of.image_size, ..shape.clone() }
    }

    fn start(model: &MatVit, shape: &MatVitConfig) -> Result<MatVit> {
        let names = shape.class_names.as_deref().unwrap_or_default();
        let classes = places_of(model.config(), names);
        say_once(match (&classes, &model.config().class_names) {
            (Some(_), Some(_)) => "the head starts from the weights of the classes of these names",
            (Some(_), None) => {
                "note: the model's classes have no names; the head starts as if they were the data's, \
                 in the same order"
            }
            (None, _) => "the head starts at zero: the classes are not the model's",
        });
        vit::adapted(model, shape, classes.as_deref()).bad_input()
    }

    const MILLIS_OF: &'static str = "forward";

    fn prompt_and_next(_: &MatVit) -> Result<Option<[vit::Images; 2]>> {
        Ok(None)
    }

    fn synthetic(model: &MatVit, _: &MatVitConfig, rows: usize) -> Result<OneBatch<MatVit>> {
        Ok(images(model, rows)?)
    }
}
