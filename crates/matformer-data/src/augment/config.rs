//! How training images are varied: the recipe.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Mean and standard deviation of a channel where none are given, as Hugging Face's ViT.
const HALF: f64 = 0.5;
/// Ratios of width to height beyond this, or its inverse, are slips.
const MAX_RATIO: f64 = 100.0;
/// Applications of an op beyond this are slips.
const MAX_OPS: usize = 16;

/// How training images are varied, in the order of the fields. The default varies nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Random resized crop (Szegedy et al., "Going deeper with convolutions", 2015,
    /// arXiv 1409.4842): the least and the largest share of the image's area that is kept and
    /// resized. The papers on ImageNet take `[0.08, 1.0]`. Default: none, no crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_scale: Option<[f64; 2]>,
    /// The least and the largest ratio of width to height of that crop, drawn uniformly in its
    /// logarithm. No effect without `crop_scale`. Default `[3/4, 4/3]`.
    pub crop_ratio: [f64; 2],
    /// Random shift (He et al., arXiv 1512.03385, section 4.2: 4 for CIFAR's 32 pixels): so many
    /// pixels of zero on every side, and a window at a random place. Default 0, no shift.
    pub pad: usize,
    /// The probability that left and right change places (Krizhevsky et al., "ImageNet
    /// classification with deep convolutional neural networks", 2012: 0.5). Default 0, never.
    pub flip: f64,
    /// RandAugment (Cubuk et al., arXiv 1909.13719). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// Random erasing (Zhong et al., arXiv 1708.04896: 0.5): the probability that a rectangle of
    /// 0.02 to 1/3 of the area, with a ratio from 0.3 to 3.3, is set to 0 after normalisation, which
    /// is the mean color. Default 0, never.
    pub erase: f64,
    /// Mixup (Zhang et al., arXiv 1710.09412; DeiT 0.8): λ is a draw from Beta(α, α), one for a
    /// batch. Default α = 0, off. With `cutmix` too, one of the two is drawn for a batch.
    pub mixup: f64,
    /// CutMix (Yun et al., arXiv 1905.04899; DeiT 1.0): a rectangle of the area 1 - λ comes from
    /// another image, λ from Beta(α, α), one for a batch. Default α = 0, off.
    pub cutmix: f64,
    /// Label smoothing (Szegedy et al., arXiv 1512.00567: 0.1): this share of a label goes to all
    /// classes alike. Default 0, none.
    pub smoothing: f64,
    /// The mean of each channel, on a scale where white is 1. Default 0.5 each, as Hugging Face's
    /// ViT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f64>>,
    /// The standard deviation of each channel, on the same scale. Default 0.5 each, as Hugging
    /// Face's ViT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f64>>,
}

/// RandAugment (Cubuk et al., arXiv 1909.13719): `n` of the paper's 14 ops one after the other, each
/// drawn uniformly, all at one magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table, such as { n = 2, magnitude = 3.0 }")]
pub struct RandAugment {
    /// Ops for an image. Default 2.
    pub n: usize,
    /// From 0, which changes nothing, to 10, the end of torchvision's ranges: magnitude `m` is its
    /// bin `3 m` of 31, so its default of 9 is 3 here, and timm's `m9` is about 9. Autocontrast and
    /// equalize know no magnitude and always act. Default 3.
    pub magnitude: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            crop_scale: None,
            crop_ratio: [3.0 / 4.0, 4.0 / 3.0],
            pad: 0,
            flip: 0.0,
            rand_augment: None,
            erase: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            smoothing: 0.0,
            mean: None,
            std: None,
        }
    }
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { n: 2, magnitude: 3.0 }
    }
}

impl AugmentConfig {
    /// Checks every value that can be judged without the sizes of images.
    ///
    /// # Errors
    /// [`Error::Value`] names the first field that does not fit, what was found and what is
    /// possible.
    pub fn validate(&self, channels: usize) -> Result<()> {
        if let Some(scale) = self.crop_scale {
            let good = ascending(scale) && scale[0] > 0.0 && scale[1] <= 1.0;
            refuse(good, "crop_scale", &scale, "two shares above 0 and up to 1, ascending")?;
        }
        let ratio = self.crop_ratio;
        let good = ascending(ratio) && ratio[0] >= 1.0 / MAX_RATIO && ratio[1] <= MAX_RATIO;
        refuse(good, "crop_ratio", &ratio, "two ratios from 0.01 to 100, ascending")?;
        let probability = "a probability from 0 to 1";
        refuse((0.0..=1.0).contains(&self.flip), "flip", &self.flip, probability)?;
        if let Some(RandAugment { n, magnitude }) = self.rand_augment {
            let field = "rand_augment.n";
            refuse((1..=MAX_OPS).contains(&n), field, &n, "from 1 to 16 ops")?;
            let field = "rand_augment.magnitude";
            refuse((0.0..=10.0).contains(&magnitude), field, &magnitude, "from 0 to 10")?;
        }
        refuse((0.0..=1.0).contains(&self.erase), "erase", &self.erase, probability)?;
        for (field, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            refuse(alpha >= 0.0 && alpha.is_finite(), field, &alpha, "0 or a number above it")?;
        }
        let good = (0.0..1.0).contains(&self.smoothing);
        refuse(good, "smoothing", &self.smoothing, "a share from 0 to below 1")?;
        per_channel("mean", self.mean.as_deref(), channels, [0.0, 1.0])?;
        per_channel("std", self.std.as_deref(), channels, [1e-6, 1.0])
    }

    /// Mean and standard deviation of each channel: those given, or the defaults. What an image
    /// processor beside an exported model must be told.
    pub fn normalization(&self, channels: usize) -> (Vec<f64>, Vec<f64>) {
        let all = |given: &Option<Vec<f64>>| given.clone().unwrap_or_else(|| vec![HALF; channels]);
        (all(&self.mean), all(&self.std))
    }
}

fn ascending([low, high]: [f64; 2]) -> bool {
    low <= high
}

/// One value for each channel, each within `range`.
fn per_channel(
    field: &'static str,
    values: Option<&[f64]>,
    channels: usize,
    range: [f64; 2],
) -> Result<()> {
    let Some(values) = values else {
        return Ok(());
    };
    let [low, high] = range;
    let good = values.len() == channels && values.iter().all(|value| (low..=high).contains(value));
    let expected = format!("a number from {low} to {high} for each of {channels} channels");
    refuse(good, field, &values, &expected)
}

fn refuse(
    good: bool,
    field: &'static str,
    found: &dyn std::fmt::Debug,
    expected: &str,
) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::value(format!("`data.augment.{field}` is {found:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_table_and_refuses_unknown_keys() {
        let text = "crop_scale = [0.5, 1.0]\npad = 4\n[rand_augment]\nmagnitude = 5";
        let config: AugmentConfig = toml::from_str(text).unwrap();
        config.validate(3).unwrap();
        assert_eq!(config.rand_augment, Some(RandAugment { n: 2, magnitude: 5.0 }));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<AugmentConfig>(&written).unwrap(), config);
        for text in ["mixupp = 1", "[rand_augment]\nm = 9"] {
            assert!(toml::from_str::<AugmentConfig>(text).is_err(), "{text}");
        }
        assert_eq!(toml::from_str::<AugmentConfig>("").unwrap(), AugmentConfig::default());
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        let refused = |change: &dyn Fn(&mut AugmentConfig)| {
            let mut config = AugmentConfig::default();
            change(&mut config);
            let message = config.validate(3).unwrap_err().to_string();
            message.split('`').nth(1).unwrap().to_owned()
        };
        for scale in [[0.0, 1.0], [0.5, 1.1], [0.9, 0.5], [f64::NAN, 1.0]] {
            assert_eq!(refused(&|c| c.crop_scale = Some(scale)), "data.augment.crop_scale");
        }
        for ratio in [[0.0, 1.0], [2.0, 1.0], [1.0, 101.0], [1.0, f64::NAN]] {
            assert_eq!(refused(&|c| c.crop_ratio = ratio), "data.augment.crop_ratio");
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(refused(&|c| c.flip = bad), "data.augment.flip");
            assert_eq!(refused(&|c| c.erase = bad), "data.augment.erase");
            assert_eq!(refused(&|c| c.smoothing = bad), "data.augment.smoothing");
            assert_eq!(refused(&|c| c.mean = Some(vec![0.5, 0.5, bad])), "data.augment.mean");
            assert_eq!(refused(&|c| c.std = Some(vec![0.5, 0.5, bad])), "data.augment.std");
        }
        for bad in [-1.0, f64::INFINITY, f64::NAN] {
            assert_eq!(refused(&|c| c.mixup = bad), "data.augment.mixup");
            assert_eq!(refused(&|c| c.cutmix = bad), "data.augment.cutmix");
        }
        assert_eq!(refused(&|c| c.smoothing = 1.0), "data.augment.smoothing");
        assert_eq!(refused(&|c| c.std = Some(vec![0.0; 3])), "data.augment.std");
        let ops = |n, magnitude| Some(RandAugment { n, magnitude });
        assert_eq!(refused(&|c| c.rand_augment = ops(0, 1.0)), "data.augment.rand_augment.n");
        assert_eq!(
            refused(&|c| c.rand_augment = ops(2, 10.5)),
            "data.augment.rand_augment.magnitude"
        );
    }

    #[test]
    fn says_what_was_found_and_what_is_possible() {
        let config = AugmentConfig { mean: Some(vec![0.5]), ..AugmentConfig::default() };
        config.validate(1).unwrap();
        let expected = "`data.augment.mean` is [0.5], expected: a number from 0 to 1 for each of 3 \
                        channels";
        assert_eq!(config.validate(3).unwrap_err().to_string(), expected);
    }
}
