//! Rectangles drawn in a square image.

use matformer_core::rng;
use rand_chacha::ChaCha8Rng;

/// Draws before giving up, as in torchvision.
const ATTEMPTS: usize = 10;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Rect {
    /// All of an image.
    pub(super) fn whole(size: usize) -> Self {
        Self { top: 0, left: 0, height: size, width: size }
    }

    pub(super) fn area(&self) -> usize {
        self.height * self.width
    }

    /// A rectangle whose share of the image's area is uniform in `share`, whose ratio of width to
    /// height is uniform in the logarithm of `ratio`, and that lies anywhere; `None` if no draw fits
    /// into the image.
    pub(super) fn draw(
        random: &mut ChaCha8Rng,
        size: usize,
        share: [f64; 2],
        ratio: [f64; 2],
    ) -> Option<Self> {
        let logarithms = ratio.map(libm::log);
        let side = |square: f64| {
            let side = (square.sqrt().round() as usize).max(1);
            (side <= size).then_some(side)
        };
        (0..ATTEMPTS).find_map(|_| {
            let area = between(random, share) * size as f64 * size as f64;
            let ratio = libm::exp(between(random, logarithms));
            let (width, height) = (side(area * ratio)?, side(area / ratio)?);
            let top = rng::index(random, size - height + 1);
            let left = rng::index(random, size - width + 1);
            Some(Self { top, left, height, width })
        })
    }

    /// The crop to resize: a drawn one or, where none fits, the largest in the centre whose ratio is
    /// in `ratio`.
    pub(super) fn crop(
        random: &mut ChaCha8Rng,
        size: usize,
        share: [f64; 2],
        ratio: [f64; 2],
    ) -> Self {
        Self::draw(random, size, share, ratio).unwrap_or_else(|| {
            let part =
                |of_whole: f64| ((size as f64 * of_whole.min(1.0)).round() as usize).clamp(1, size);
            let (width, height) = (part(ratio[1]), part(1.0 / ratio[0]));
            Self { top: (size - height) / 2, left: (size - width) / 2, height, width }
        })
    }
}

/// Uniform in a range.
fn between(random: &mut ChaCha8Rng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng::unit(random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(a: f64, b: f64) -> [f64; 2] {
        [a.min(b), a.max(b)]
    }

    proptest! {
        #[test]
        fn crops_stay_in_the_image(
            size in 1_usize..300,
            shares in (1e-4..=1.0_f64, 1e-4..=1.0_f64),
            logarithms in (-4.6..4.6_f64, -4.6..4.6_f64),
            seed: u64,
        ) {
            let share = sorted(shares.0, shares.1);
            let ratio = sorted(logarithms.0, logarithms.1).map(f64::exp);
            let mut random = rng::keyed(seed, "test", 0);
            let crop = Rect::crop(&mut random, size, share, ratio);
            prop_assert!(crop.height >= 1 && crop.top + crop.height <= size);
            prop_assert!(crop.width >= 1 && crop.left + crop.width <= size);
            // Within half a pixel on each side, what was asked for, where that is more than a pixel.
            if let Some(rect) = Rect::draw(&mut random, size, share, ratio)
                && rect.width.min(rect.height) > 1
            {
                let (width, height) = (rect.width as f64, rect.height as f64);
                let all = (size * size) as f64;
                prop_assert!((width - 0.5).max(0.0) * (height - 0.5).max(0.0) <= share[1] * all);
                prop_assert!((width + 0.5) * (height + 0.5) >= share[0] * all);
                prop_assert!((width - 0.5) / (height + 0.5) <= ratio[1]);
                prop_assert!((width + 0.5) / (height - 0.5) >= ratio[0]);
            }
        }
    }

    #[test]
    fn the_whole_image_is_drawn_where_nothing_else_may_be() {
        let mut random = rng::keyed(0, "test", 0);
        for size in [1, 2, 7, 224] {
            let drawn = Rect::draw(&mut random, size, [1.0; 2], [1.0; 2]);
            assert_eq!(drawn, Some(Rect::whole(size)));
        }
    }

    #[test]
    fn the_largest_centre_of_the_ratio_is_taken_where_nothing_fits() {
        let mut random = rng::keyed(0, "test", 0);
        let wide = Rect::crop(&mut random, 8, [1.0; 2], [2.0, 3.0]);
        assert_eq!(wide, Rect { top: 2, left: 0, height: 4, width: 8 });
        let high = Rect::crop(&mut random, 9, [1.0; 2], [0.1, 1.0 / 3.0]);
        assert_eq!(high, Rect { top: 0, left: 3, height: 9, width: 3 });
    }

    #[test]
    fn draws_are_spread_over_area_and_place() {
        let mut random = rng::keyed(0, "test", 0);
        let drawn: Vec<_> = (0..2000)
            .filter_map(|_| Rect::draw(&mut random, 100, [0.1, 0.3], [0.5, 2.0]))
            .collect();
        let mean = |of: &dyn Fn(&Rect) -> usize| {
            drawn.iter().map(of).sum::<usize>() as f64 / drawn.len() as f64
        };
        assert_eq!(drawn.len(), 2000);
        assert!((mean(&|rect| rect.area()) / 2000.0 - 1.0).abs() < 0.03);
        assert!((mean(&|rect| rect.left + rect.width / 2) / 50.0 - 1.0).abs() < 0.05);
        let wide = drawn.iter().filter(|rect| rect.width > rect.height).count();
        assert!((900..1100).contains(&wide), "{wide}");
    }
}
