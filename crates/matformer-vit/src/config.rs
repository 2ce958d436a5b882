//! Shape of a MatViT.

use matformer_core::{Granularities, Space};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Feed-forward width of each layer, where layers differ: an extracted submodel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_d_ff: Option<Vec<usize>>,
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

/// The largest size of anything: products of two sizes stay far within 64 bits.
const MAX_SIZE: usize = 1 << 24;
/// The most layers.
const MAX_LAYERS: usize = 10_000;

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
            norm_eps: 1e-6,
            layer_d_ff: None,
        }
    }
}

impl MatVitConfig {
    /// Size of a head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// Feed-forward width of a layer's matrices.
    pub fn d_ff_of(&self, layer: usize) -> usize {
        self.layer_d_ff.as_ref().and_then(|widths| widths.get(layer).copied()).unwrap_or(self.d_ff)
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size.max(1)).pow(2)
    }

    /// Tokens of an image: its patches, and the class token where there is one.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.pooling == Pooling::ClassToken)
    }

    /// Values of an image.
    pub fn pixels(&self) -> usize {
        self.channels * self.image_size.pow(2)
    }

    /// Values of a patch.
    pub fn patch_pixels(&self) -> usize {
        self.channels * self.patch_size.pow(2)
    }

    /// Layers, widths and granularities.
    ///
    /// # Errors
    /// When widths are not ascending, too wide or not multiples.
    pub fn space(&self) -> Result<Space> {
        let granularities = match &self.granularities {
            Some(widths) => Granularities::new(widths)?,
            None => Granularities::default_for(self.d_ff)?,
        };
        Ok(Space::new(self.n_layers, self.d_ff, self.width_multiple, granularities)?)
    }

    /// Checks everything that building relies on.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("patch_size", self.patch_size),
            ("classes", self.classes),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("d_ff", self.d_ff),
            ("width_multiple", self.width_multiple),
        ];
        let wrong =
            |field, found: String, expected: String| Err(Error::Config { field, found, expected });
        if let Some((field, n)) = sizes.iter().find(|(_, n)| !(1..=MAX_SIZE).contains(n)) {
            return wrong(field, n.to_string(), format!("from 1 to {MAX_SIZE}"));
        }
        if self.n_layers > MAX_LAYERS {
            return wrong("n_layers", self.n_layers.to_string(), format!("at most {MAX_LAYERS}"));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            let expected = format!("a divisor of `image_size` {}", self.image_size);
            return wrong("patch_size", self.patch_size.to_string(), expected);
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let expected = format!("a divisor of `d_model` {}", self.d_model);
            return wrong("n_heads", self.n_heads.to_string(), expected);
        }
        // In single precision: less is 0, more leaves nothing of the hidden state.
        if !(1e-30..=1.0).contains(&self.norm_eps) {
            return wrong("norm_eps", self.norm_eps.to_string(), "from 1e-30 to 1".to_owned());
        }
        if let Some(widths) = &self.layer_d_ff
            && (widths.len() != self.n_layers || widths.iter().any(|w| *w == 0 || *w > self.d_ff))
        {
            let expected = format!("{} widths from 1 to `d_ff` {}", self.n_layers, self.d_ff);
            return wrong("layer_d_ff", format!("{widths:?}"), expected);
        }
        self.space().map(|_| ())
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
        assert_eq!(refused(|c| c.classes = 0), "`classes` is 0; expected from 1 to 16777216");
        assert_eq!(
            refused(|c| c.d_model = 1 << 25),
            "`d_model` is 33554432; expected from 1 to 16777216"
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
