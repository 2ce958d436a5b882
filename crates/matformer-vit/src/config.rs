//! Shape of a MatViT.

use matformer_nn::{
    ModelConfig, Result,
    config::{self, Nested, unfit},
};
use serde::{Deserialize, Serialize};

/// Most values of an image.
const MAX_VALUES: u128 = 1 << 32;

/// Shape of a MatViT: the `[model.vit]` table of a run file.
///
/// The defaults are a small one for 28×28 images in grey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatVitConfig {
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Colors of a pixel.
    pub channels: usize,
    /// Height and width of a patch, in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Classes of the head.
    pub classes: usize,
    /// Size of the hidden state.
    pub d_model: usize,
    /// Layers.
    pub n_layers: usize,
    /// Heads; divides `d_model`.
    pub n_heads: usize,
    /// Widest feed-forward width.
    pub d_ff: usize,
    /// Widths that training sees, ascending; d_ff/8, /4, /2, /1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularities: Option<Vec<usize>>,
    /// What every width other than a granularity must be a multiple of.
    pub width_multiple: usize,
    /// What the head sees of an image.
    pub pooling: Pooling,
    /// Whether there is a second token with a head of its own. Both heads are trained, and the logits
    /// are their mean (DeiT, arXiv 2012.12877 section 4).
    pub distillation_token: bool,
    /// Probability that training leaves out a branch of the last layer for an image. It grows
    /// linearly from 0 in the first layer (stochastic depth, arXiv 1603.09382).
    pub drop_path: f64,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
    /// What the classes are called. In a run they follow the data, so a run file has none.
    #[serde(skip)]
    pub class_names: Option<Vec<String>>,
}

/// What the head of a vision transformer sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The hidden state of a token of its own, as in ViT and in the paper.
    #[default]
    ClassToken,
    /// The mean over all patches.
    Mean,
}

impl Default for MatVitConfig {
    fn default() -> Self {
        Self {
            image_size: 28,
            channels: 1,
            patch_size: 4,
            classes: 10,
            d_model: 96,
            n_layers: 6,
            n_heads: 3,
            d_ff: 384,
            granularities: None,
            width_multiple: 16,
            pooling: Pooling::ClassToken,
            distillation_token: false,
            drop_path: 0.0,
            norm_eps: 1e-6,
            layer_d_ff: None,
            class_names: None,
        }
    }
}

impl MatVitConfig {
    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Tokens of an image: its patches, and the class and distillation tokens if it has them.
    pub fn tokens(&self) -> usize {
        self.patches() + self.extra_tokens()
    }

    /// Tokens of an image that are not patches; they come first.
    pub fn extra_tokens(&self) -> usize {
        usize::from(self.pooling == Pooling::ClassToken) + usize::from(self.distillation_token)
    }

    /// Drop-path rate of a layer.
    pub fn drop_path_of(&self, layer: usize) -> f64 {
        self.drop_path * layer as f64 / (self.n_layers.max(2) - 1) as f64
    }

    /// Values of an image.
    pub fn pixels(&self) -> usize {
        self.channels * self.image_size.pow(2)
    }

    /// Values of a patch.
    pub fn patch_pixels(&self) -> usize {
        self.channels * self.patch_size.pow(2)
    }
}

impl ModelConfig for MatVitConfig {
    const WEIGHT_KEYS: &'static [&'static str] = &[
        "image_size",
        "channels",
        "patch_size",
        "classes",
        "d_model",
        "n_layers",
        "n_heads",
        "d_ff",
        "pooling",
        "distillation_token",
        "layer_d_ff",
    ];

    fn nested(&self) -> Nested {
        Nested {
            n_layers: self.n_layers,
            d_ff: self.d_ff,
            width_multiple: self.width_multiple,
            granularities: self.granularities.clone(),
            layer_d_ff: self.layer_d_ff.clone(),
        }
    }

    fn with_nested(&self, nested: Nested) -> Self {
        let Nested { n_layers, d_ff, width_multiple, granularities, layer_d_ff } = nested;
        Self { n_layers, d_ff, width_multiple, granularities, layer_d_ff, ..self.clone() }
    }

    fn validate(&self) -> Result<()> {
        config::check_sizes(&[
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("patch_size", self.patch_size),
            ("classes", self.classes),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("d_ff", self.d_ff),
            ("width_multiple", self.width_multiple),
        ])?;
        // Three sizes: their product may be more than a `usize` holds.
        let values = self.channels as u128 * (self.image_size as u128).pow(2);
        if values > MAX_VALUES {
            let expected = format!("at most {MAX_VALUES} values in an image");
            return unfit("image_size", format!("{values} values"), expected);
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            let expected = format!("a divisor of `image_size` {}", self.image_size);
            return unfit("patch_size", self.patch_size, expected);
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let expected = format!("a divisor of `d_model` {}", self.d_model);
            return unfit("n_heads", self.n_heads, expected);
        }
        if self.distillation_token && self.pooling == Pooling::Mean {
            return unfit("distillation_token", true, "false where `pooling` is `mean`");
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return unfit("drop_path", self.drop_path, "from 0 to below 1");
        }
        if let Some(names) = &self.class_names
            && names.len() != self.classes
        {
            let found = format!("{} names", names.len());
            return unfit("class_names", found, format!("{}, as `classes` says", self.classes));
        }
        config::check_norm_eps(self.norm_eps)?;
        self.nested().check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_model_is_refused_by_name() {
        let refused = |change: fn(&mut MatVitConfig)| {
            let mut config = MatVitConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|c| c.patch_size = 5),
            "`patch_size` is 5; expected a divisor of `image_size` 28"
        );
        assert_eq!(
            refused(|c| c.n_heads = 5),
            "`n_heads` is 5; expected a divisor of `d_model` 96"
        );
        assert_eq!(refused(|c| c.classes = 0), "`classes` is 0; expected at least 1");
        assert!(
            refused(|c| (c.channels, c.image_size, c.patch_size) = (1 << 24, 1 << 24, 1 << 24))
                .ends_with("expected at most 4294967296 values in an image")
        );
        assert_eq!(
            refused(|c| c.d_model = 1 << 25),
            "`d_model` is 33554432; expected at most 16777216"
        );
        assert!(
            refused(|c| c.layer_d_ff = Some(vec![48]))
                .starts_with("`layer_d_ff` is [48]; expected 6 widths")
        );
        assert!(refused(|c| c.granularities = Some(vec![96, 48])).contains("ascending"));
    }

    #[test]
    fn tokens_are_patches_and_the_class_token() {
        let config = MatVitConfig::default();
        assert_eq!((config.patches(), config.tokens()), (49, 50));
        let mean = MatVitConfig { pooling: Pooling::Mean, ..config };
        assert_eq!((mean.tokens(), mean.pixels(), mean.patch_pixels()), (49, 784, 16));
    }
}
