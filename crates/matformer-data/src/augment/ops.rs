//! The 14 ops of RandAugment and what a magnitude means to each.

use super::color;
use super::planes::Planes;

/// An op of RandAugment (Cubuk et al., arXiv 1909.13719, section 3), with torchvision's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Identity,
    AutoContrast,
    Equalize,
    /// By up to 30 degrees around the centre.
    Rotate,
    /// From a threshold of 256 down to 0; torchvision starts at 255, which turns white to black at
    /// magnitude 0.
    Solarize,
    /// By a factor of up to 1 ± 0.9, as contrast, brightness and sharpness.
    Color,
    /// From 8 bits down to 4.
    Posterize,
    Contrast,
    Brightness,
    Sharpness,
    /// By up to 0.3 pixels for each pixel from the upper left corner.
    ShearX,
    ShearY,
    /// By up to 150/331 of the image, in whole pixels.
    TranslateX,
    TranslateY,
}

impl Op {
    pub(super) const ALL: [Self; 14] = [
        Self::Identity,
        Self::AutoContrast,
        Self::Equalize,
        Self::Rotate,
        Self::Solarize,
        Self::Color,
        Self::Posterize,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// Applies the op with a share of its range, from -1 to 1; those without a direction take its
    /// size. What comes from outside the image is 0.
    pub(super) fn apply(self, image: &mut Planes, share: f64) {
        let factor = 1.0 + 0.9 * share;
        let shear = 0.3 * share;
        let shift = (150.0 / 331.0 * share * image.size as f64).trunc();
        match self {
            Self::Identity => {}
            Self::AutoContrast => color::autocontrast(image),
            Self::Equalize => color::equalize(image),
            Self::Rotate => image.warp(rotation(30.0 * share, image.size)),
            Self::Solarize => color::solarize(image, 256.0 * (1.0 - share.abs())),
            Self::Color => color::saturation(image, factor),
            Self::Posterize => color::posterize(image, 8 - (4.0 * share.abs()).round() as u32),
            Self::Contrast => color::contrast(image, factor),
            Self::Brightness => color::brightness(image, factor),
            Self::Sharpness => color::sharpness(image, factor),
            // From the centres of pixels, half a pixel off the corner.
            Self::ShearX => image.warp([1.0, shear, shear / 2.0, 0.0, 1.0, 0.0]),
            Self::ShearY => image.warp([1.0, 0.0, 0.0, shear, 1.0, shear / 2.0]),
            Self::TranslateX => image.warp([1.0, 0.0, shift, 0.0, 1.0, 0.0]),
            Self::TranslateY => image.warp([1.0, 0.0, 0.0, 0.0, 1.0, shift]),
        }
    }
}

/// The turn by an angle around the centre, for [`Planes::warp`].
fn rotation(degrees: f64, size: usize) -> [f64; 6] {
    let (sine, cosine) = libm::sincos(degrees.to_radians());
    let centre = (size - 1) as f64 / 2.0;
    let across = centre - centre * (cosine + sine);
    let down = centre - centre * (cosine - sine);
    [cosine, sine, across, -sine, cosine, down]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Soft shapes in the middle, as photographs have them; the brightest value is 255.
    fn image(size: usize, channels: usize) -> Planes {
        let middle = (size - 1) as f64 / 2.0;
        let value = |channel: usize, x: usize, y: usize| {
            let (x, y) = (x as f64 - middle, y as f64 - middle);
            let squared = (x * x * (1.0 + channel as f64) + y * y) / (middle * middle).max(1.0);
            (250.0 / (1.0 + squared) + 5.0 / (1.0 + x.abs())) as u8
        };
        let pixels = (0..channels * size * size)
            .map(|i| value(i / (size * size), i % size, i / size % size))
            .collect();
        Planes { pixels, size }
    }

    fn applied(op: Op, before: &Planes, share: f64) -> Planes {
        let mut image = before.clone();
        op.apply(&mut image, share);
        image
    }

    #[test]
    fn magnitude_zero_is_the_identity() {
        for (size, channels) in [(1, 1), (2, 3), (17, 1), (28, 1), (31, 3)] {
            let before = image(size, channels);
            for op in Op::ALL {
                // These two know no magnitude.
                if !matches!(op, Op::AutoContrast | Op::Equalize) {
                    assert_eq!(applied(op, &before, 0.0), before, "{op:?} of {size} pixels");
                }
            }
        }
    }

    #[test]
    fn magnitude_ten_changes_an_image_in_both_directions() {
        for channels in [1, 3] {
            let before = image(29, channels);
            for op in Op::ALL {
                let same = op == Op::Identity || op == Op::Color && channels == 1;
                let (up, down) = (applied(op, &before, 1.0), applied(op, &before, -1.0));
                assert_eq!(up == before, same, "{op:?}");
                assert_eq!(down == before, same, "{op:?}");
                let undirected = [Op::AutoContrast, Op::Equalize, Op::Solarize, Op::Posterize];
                assert_eq!(up == down, same || undirected.contains(&op), "{op:?}");
            }
        }
    }

    #[test]
    fn more_magnitude_is_more_change() {
        let before = image(32, 3);
        let change = |op: Op, share: f64| {
            let after = applied(op, &before, share);
            let pairs = after.pixels.iter().zip(&before.pixels);
            pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
        };
        for op in Op::ALL {
            if !matches!(op, Op::Identity | Op::AutoContrast | Op::Equalize | Op::Solarize) {
                assert!(change(op, 0.3) < change(op, 0.6), "{op:?}");
                assert!(change(op, 0.6) < change(op, 1.0), "{op:?}");
            }
        }
    }

    #[test]
    fn images_of_one_pixel_survive_every_op() {
        for op in Op::ALL {
            for share in [-1.0, -0.5, 0.5, 1.0] {
                for channels in [1, 2, 3, 4] {
                    assert_eq!(applied(op, &image(1, channels), share).pixels.len(), channels);
                }
            }
        }
    }

    #[test]
    fn translations_are_in_whole_pixels_and_keep_the_rest() {
        let before = image(28, 1);
        let moved = applied(Op::TranslateX, &before, 1.0); // 12.7 pixels
        assert_eq!(moved, Planes::window(&before.pixels, 28, [0, 12], 28));
        let moved = applied(Op::TranslateY, &before, -0.5); // 6.3 pixels
        assert_eq!(moved, Planes::window(&before.pixels, 28, [-6, 0], 28));
    }

    #[test]
    fn rotations_undo_each_other_in_the_middle() {
        let before = image(33, 1);
        let mut after = applied(Op::Rotate, &before, 1.0);
        assert_eq!(after.pixels[16 * 33 + 16], before.pixels[16 * 33 + 16]);
        Op::Rotate.apply(&mut after, -1.0);
        for (i, (a, b)) in after.pixels.iter().zip(&before.pixels).enumerate() {
            let near = (i % 33).abs_diff(16) < 8 && (i / 33).abs_diff(16) < 8;
            assert!(!near || a.abs_diff(*b) <= 8, "pixel {i}: {a} and {b}");
        }
    }
}
