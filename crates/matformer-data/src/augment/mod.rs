//! Augmentation of images for training, as pure functions of (pixels, key).
//!
//! Every draw comes from [`keyed`](matformer_core::rng::keyed), all arithmetic is of the kind that
//! IEEE 754 defines to the last bit, and logarithms, exponentials and sines are those of `libm`: the
//! same key gives the same bits on every machine and in any thread.

mod color;
mod config;
mod mix;
mod ops;
mod planes;
mod rect;
pub(crate) mod resample;
#[cfg(test)]
mod tests;

use matformer_core::rng;
use rand_chacha::ChaCha8Rng;

pub use config::{AugmentConfig, RandAugment};

use crate::{Error, Result};
use mix::Mix;
use ops::Op;
use planes::Planes;
use rect::Rect;

/// The largest side of an image, in pixels.
const MAX_SIDE: usize = 1 << 14;
/// The most channels.
const MAX_CHANNELS: usize = 1 << 8;
/// Shares of an image's area that random erasing takes (Zhong et al., arXiv 1708.04896).
const ERASED: [f64; 2] = [0.02, 1.0 / 3.0];
/// The ratios of its rectangle.
const ERASED_RATIO: [f64; 2] = [0.3, 3.3];

/// Turns images of bytes into what a vision transformer is trained on and evaluated with.
///
/// ```
/// use matformer_data::{Augment, AugmentConfig, RandAugment};
///
/// # fn main() -> matformer_data::Result<()> {
/// let config = AugmentConfig {
///     pad: 2,
///     flip: 0.5,
///     rand_augment: Some(RandAugment::default()),
///     mixup: 0.8,
///     cutmix: 1.0,
///     smoothing: 0.1,
///     ..AugmentConfig::default()
/// };
/// let augment = Augment::new(&config, 28, 1, 28)?;
/// let images = vec![[128_u8; 28 * 28]; 4];
/// let mut pixels = vec![0.0; 4 * 28 * 28];
/// for (row, (image, out)) in images.iter().zip(pixels.chunks_mut(28 * 28)).enumerate() {
///     augment.train(image, out, (0, row as u64))?;
/// }
/// let mut weights = augment.weights(&[3, 1, 4, 1], 10)?;
/// augment.mix(&mut pixels, &mut weights, 4, 10, (0, 0))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Augment {
    config: AugmentConfig,
    from: usize,
    channels: usize,
    to: usize,
    /// What each byte of each channel is after normalisation.
    tables: Vec<[f32; 256]>,
}

impl Augment {
    /// Augmentation of images of `from` by `from` pixels into images of `to` by `to`.
    ///
    /// # Errors
    /// As [`AugmentConfig::validate`]; [`Error::Value`] for sizes or channels of 0 or beyond
    /// any image, and for a `pad` that can shift all of an image away.
    pub fn new(config: &AugmentConfig, from: usize, channels: usize, to: usize) -> Result<Self> {
        let sizes =
            [("from", from, MAX_SIDE), ("channels", channels, MAX_CHANNELS), ("to", to, MAX_SIDE)];
        for (what, found, most) in sizes {
            if !(1..=most).contains(&found) {
                let found = format!("`{what}` is {found}");
                return Err(Error::value(found, format!("from 1 to {most}")));
            }
        }
        config.validate(channels)?;
        if config.pad >= to {
            let found = format!("`data.augment.pad` is {}", config.pad);
            return Err(Error::value(found, format!("less than the {to} pixels of an image")));
        }
        let (means, deviations) = config.normalization(channels);
        let normal =
            |value: usize, mean: f64, std: f64| ((value as f64 / 255.0 - mean) / std) as f32;
        let tables = means.iter().zip(&deviations);
        let tables = tables.map(|(m, s)| std::array::from_fn(|value| normal(value, *m, *s)));
        Ok(Self { config: config.clone(), from, channels, to, tables: tables.collect() })
    }

    /// An image for training: cropped or shifted, flipped, RandAugment, normalised, erased, as far as
    /// the recipe has it.
    ///
    /// Without `crop_scale` an image larger than `to` is cut to `to`, at a random place of the padded
    /// image where there is `pad` and in the centre where there is none; a smaller one is resized
    /// first. What comes from outside an image is 0 before normalisation, black, as torchvision
    /// fills. RandAugment's ops know color if there are 3 channels, red, green and blue.
    ///
    /// The key is (seed, index). The index stands for one showing of the image, not for the image, or
    /// every epoch sees the same: the global row number serves.
    ///
    /// # Shapes
    /// `pixels` [channels, from, from], `out` [channels, to, to].
    ///
    /// # Errors
    /// [`Error::Value`] if a buffer is of another length.
    pub fn train(&self, pixels: &[u8], out: &mut [f32], key: (u64, u64)) -> Result<()> {
        self.check(pixels, out)?;
        let random = &mut rng::keyed(key.0, "augment", key.1);
        let mut image = self.placed(pixels, random)?;
        if rng::unit(random) < self.config.flip {
            image.flip();
        }
        if let Some(RandAugment { n, magnitude }) = self.config.rand_augment {
            for _ in 0..n {
                let op = Op::ALL[rng::index(random, Op::ALL.len())];
                let sign = if rng::index(random, 2) == 0 { 1.0 } else { -1.0 };
                op.apply(&mut image, sign * magnitude / 10.0);
            }
        }
        self.normalize(&image, out);
        if rng::unit(random) < self.config.erase {
            self.erase(out, random);
        }
        Ok(())
    }

    /// An image for evaluation: the centre where it is larger than `to`, resized where it is smaller,
    /// and normalised. Where one more pixel must go on one side, it goes below and on the right, as
    /// in Hugging Face's `center_crop`.
    ///
    /// # Shapes
    /// `pixels` [channels, from, from], `out` [channels, to, to].
    ///
    /// # Errors
    /// [`Error::Value`] if a buffer is of another length.
    pub fn eval(&self, pixels: &[u8], out: &mut [f32]) -> Result<()> {
        self.check(pixels, out)?;
        let resized = self.resized(pixels, None)?;
        let (source, size) = resized.as_deref().map_or((pixels, self.from), |p| (p, self.to));
        self.normalize(&Planes::window(source, size, self.centre(size), self.to), out);
        Ok(())
    }

    /// Mixup or CutMix within a batch: row `i` with row `rows - 1 - i`, as timm pairs them, all by one
    /// λ; one of the two, equally likely, if the recipe has both. Labels are mixed as the images are:
    /// with CutMix by the area that was in fact exchanged. The middle row of an odd number stays as
    /// it is, and so does everything if the recipe has neither.
    ///
    /// The key is (seed, index of the batch); batches of several ranks want different ones.
    ///
    /// # Shapes
    /// `pixels` [rows, channels, to, to], `weights` [rows, classes].
    ///
    /// # Errors
    /// [`Error::Value`] if a buffer is of another length.
    pub fn mix(
        &self,
        pixels: &mut [f32],
        weights: &mut [f32],
        rows: usize,
        classes: usize,
        key: (u64, u64),
    ) -> Result<()> {
        length("pixels", pixels.len(), rows.saturating_mul(self.out_len()))?;
        length("weights", weights.len(), rows.saturating_mul(classes))?;
        let random = &mut rng::keyed(key.0, "mix", key.1);
        let AugmentConfig { mixup, cutmix, .. } = self.config;
        if let Some(mix) = Mix::draw(random, mixup, cutmix, self.to) {
            let keep = mix.keep(self.to);
            mix::pairs(pixels, rows, &mut |a, b| mix.images(a, b, self.to));
            mix::pairs(weights, rows, &mut |a, b| mix::blend(a, b, keep));
        }
        Ok(())
    }

    /// Whether [`mix`](Self::mix) changes anything: rows then depend on others of their batch.
    pub fn mixes(&self) -> bool {
        self.config.mixup > 0.0 || self.config.cutmix > 0.0
    }

    /// The soft labels of a batch, [rows, classes]; rows sum to 1. Of `smoothing` s and K classes a
    /// label has 1 - s + s/K and every other class s/K (Szegedy et al., arXiv 1512.00567, section 7).
    ///
    /// # Errors
    /// [`Error::Value`] for a label that is not below `classes`.
    pub fn weights(&self, labels: &[usize], classes: usize) -> Result<Vec<f32>> {
        let smoothing = self.config.smoothing;
        let share = smoothing / classes as f64;
        let mut weights = vec![share as f32; labels.len() * classes];
        for (row, label) in labels.iter().enumerate() {
            if *label >= classes {
                let found = format!("row {row} has label {label}");
                return Err(Error::value(found, format!("below {classes}")));
            }
            weights[row * classes + label] = (1.0 - smoothing + share) as f32;
        }
        Ok(weights)
    }

    /// The image at its new size and place, [channels, to, to].
    fn placed(&self, pixels: &[u8], random: &mut ChaCha8Rng) -> Result<Planes> {
        let AugmentConfig { crop_scale, crop_ratio, pad, .. } = self.config;
        let crop = crop_scale.map(|scale| Rect::crop(random, self.from, scale, crop_ratio));
        let resized = self.resized(pixels, crop)?;
        let (source, size) = resized.as_deref().map_or((pixels, self.from), |p| (p, self.to));
        let corner = if pad == 0 {
            self.centre(size)
        } else {
            let mut start = || rng::index(random, size + 2 * pad - self.to + 1) as isize;
            [start(), start()].map(|start| start - pad as isize)
        };
        Ok(Planes::window(source, size, corner, self.to))
    }

    /// The crop, or an image that is too small, at `to` by `to` pixels.
    fn resized(&self, pixels: &[u8], crop: Option<Rect>) -> Result<Option<Vec<u8>>> {
        let small = (self.from < self.to).then(|| Rect::whole(self.from));
        let resize = |rect| resample::resize(pixels, self.from, rect, self.to);
        let resized = crop.or(small).map(resize).transpose();
        resized.map_err(|found| Error::value(found, "a part of the image"))
    }

    /// The corner of the window in the middle of an image of `size`, which is at least `to`.
    fn centre(&self, size: usize) -> [isize; 2] {
        [((size - self.to) / 2) as isize; 2]
    }

    fn normalize(&self, image: &Planes, out: &mut [f32]) {
        let planes = image.pixels.chunks_exact(image.area());
        let outs = out.chunks_exact_mut(image.area());
        for ((plane, out), table) in planes.zip(outs).zip(&self.tables) {
            let values = plane.iter().map(|value| table[usize::from(*value)]);
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
        }
    }

    /// Sets a rectangle to 0; never the whole image, which a tiny one's would round to.
    fn erase(&self, out: &mut [f32], random: &mut ChaCha8Rng) {
        let area = self.to * self.to;
        let rect = Rect::draw(random, self.to, ERASED, ERASED_RATIO);
        if let Some(rect) = rect.filter(|rect| rect.area() < area) {
            for plane in out.chunks_exact_mut(area) {
                let lines = plane.chunks_exact_mut(self.to).skip(rect.top).take(rect.height);
                lines.for_each(|line| line[rect.left..][..rect.width].fill(0.0));
            }
        }
    }

    /// Values of an image that comes out.
    fn out_len(&self) -> usize {
        self.channels * self.to * self.to
    }

    fn check(&self, pixels: &[u8], out: &[f32]) -> Result<()> {
        length("pixels", pixels.len(), self.channels * self.from * self.from)?;
        length("out", out.len(), self.out_len())
    }
}

/// # Errors
/// [`Error::Value`].
fn length(what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::value(format!("`{what}` has {found} values"), expected.to_string()))
}
