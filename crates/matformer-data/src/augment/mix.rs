//! What happens between the images of a batch: mixup, CutMix, and the labels that go with them.

use std::ops::Range;

use matformer_core::rng;
use rand_chacha::ChaCha8Rng;

/// How two images become one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mix {
    /// A sum of which the image itself makes this share (Zhang et al., arXiv 1710.09412).
    Up { keep: f32 },
    /// A rectangle comes from the other image (Yun et al., arXiv 1905.04899).
    Cut { rows: Range<usize>, columns: Range<usize> },
}

impl Mix {
    /// What a batch of images of `size` by `size` pixels gets, if anything.
    pub(super) fn draw(
        random: &mut ChaCha8Rng,
        mixup: f64,
        cutmix: f64,
        size: usize,
    ) -> Option<Self> {
        let cut = match (mixup > 0.0, cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => rng::index(random, 2) == 1,
            (_, cut) => cut,
        };
        if !cut {
            return Some(Self::Up { keep: beta(random, mixup) as f32 });
        }
        let side = (size as f64 * (1.0 - beta(random, cutmix)).sqrt()) as usize;
        let mut range = || {
            let first = rng::index(random, size) as isize - (side / 2) as isize;
            first.max(0) as usize..((first + side as isize).max(0) as usize).min(size)
        };
        Some(Self::Cut { rows: range(), columns: range() })
    }

    /// The fraction of the original image that is kept. For CutMix, this is the area outside the rectangle after
    /// clipping it to the image.
    pub(super) fn keep(&self, size: usize) -> f32 {
        match self {
            Self::Up { keep } => *keep,
            Self::Cut { rows, columns } => {
                (1.0 - (rows.len() * columns.len()) as f64 / (size * size) as f64) as f32
            }
        }
    }

    /// Mixes two images, each into the other.
    ///
    /// # Shapes
    /// [channels, size, size] both.
    pub(super) fn images(&self, a: &mut [f32], b: &mut [f32], size: usize) {
        match self {
            Self::Up { keep } => blend(a, b, *keep),
            Self::Cut { rows, columns } => {
                for (a, b) in a.chunks_exact_mut(size * size).zip(b.chunks_exact_mut(size * size)) {
                    let lines = a.chunks_exact_mut(size).zip(b.chunks_exact_mut(size));
                    for (a, b) in lines.skip(rows.start).take(rows.len()) {
                        a[columns.clone()].swap_with_slice(&mut b[columns.clone()]);
                    }
                }
            }
        }
    }
}

/// `a` becomes `keep` of itself and the rest of `b`, and `b` the other way round.
pub(super) fn blend(a: &mut [f32], b: &mut [f32], keep: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (keep * *a + (1.0 - keep) * *b, keep * *b + (1.0 - keep) * *a);
    }
}

/// Calls `f` with row `i` and row `rows - 1 - i` for each such pair; the middle row of an odd number
/// has no other.
pub(super) fn pairs(values: &mut [f32], rows: usize, f: &mut dyn FnMut(&mut [f32], &mut [f32])) {
    let row = values.len().checked_div(rows).unwrap_or(0);
    for i in 0..rows / 2 {
        let (head, tail) = values.split_at_mut((rows - 1 - i) * row);
        f(&mut head[i * row..][..row], &mut tail[..row]);
    }
}

/// A draw from Beta(`alpha`, `alpha`), of any `alpha` above 0: Student's t by the polar method
/// (Bailey, "Polar generation of random variates with the t-distribution", 1994), carried over to a
/// beta (Devroye, "Random variate generation in one line of code", 1996).
fn beta(random: &mut ChaCha8Rng, alpha: f64) -> f64 {
    loop {
        let (x, y) = (2.0 * rng::unit(random) - 1.0, 2.0 * rng::unit(random) - 1.0);
        let squared = x * x + y * y;
        if squared < 1.0 && x != 0.0 {
            // The squared radius is uniform and knows nothing of the angle.
            let power = libm::exp(libm::log(squared) / alpha);
            return 0.5 + 0.5 * x / (x * x + squared * power / (1.0 - power)).sqrt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_its_moments() {
        let n = 40_000;
        for alpha in [0.1, 0.5, 0.8, 1.0, 2.0, 8.0] {
            let mut random = rng::keyed(0, "test", 0);
            let drawn: Vec<f64> = (0..n).map(|_| beta(&mut random, alpha)).collect();
            assert!(drawn.iter().all(|x| (0.0..=1.0).contains(x)));
            let moment = |power: i32| {
                drawn.iter().map(|x| (x - 0.5).powi(power)).sum::<f64>() / f64::from(n)
            };
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let fourth = 3.0 * variance / (4.0 * (2.0 * alpha + 3.0));
            assert!(moment(1).abs() < 0.01, "{alpha}: {}", moment(1));
            assert!((moment(2) / variance - 1.0).abs() < 0.03, "{alpha}: {}", moment(2));
            assert!((moment(4) / fourth - 1.0).abs() < 0.06, "{alpha}: {}", moment(4));
        }
    }

    #[test]
    fn beta_takes_any_alpha() {
        let mut random = rng::keyed(0, "test", 0);
        for alpha in [f64::MIN_POSITIVE, 1e-6, 1e6, f64::MAX] {
            for _ in 0..100 {
                let x = beta(&mut random, alpha);
                let far = (x - 0.5).abs();
                assert!(if alpha < 1.0 { far > 0.4 } else { far < 0.1 }, "{alpha}: {x}");
            }
        }
    }

    #[test]
    fn rectangles_are_cut_off_at_the_border_and_lambda_knows() {
        let mut random = rng::keyed(0, "test", 0);
        let (mut cut_off, mut sum) = (0, 0.0);
        for _ in 0..4000 {
            let Some(mix @ Mix::Cut { .. }) = Mix::draw(&mut random, 0.0, 1.0, 64) else {
                panic!();
            };
            let Mix::Cut { rows, columns } = &mix else { panic!() };
            assert!(rows.end <= 64 && columns.end <= 64);
            cut_off += usize::from(rows.len() != columns.len());
            sum += mix.keep(64);
        }
        assert!((1000..3500).contains(&cut_off), "{cut_off}");
        // Without the border half would go; with it less.
        assert!((0.6..0.75).contains(&(sum / 4000.0)), "{sum}");
    }

    #[test]
    fn rows_are_paired_from_both_ends() {
        let paired = |rows: usize| {
            let mut values: Vec<f32> = (0..rows * 2).map(|i| (i / 2) as f32).collect();
            pairs(&mut values, rows, &mut |a, b| a.swap_with_slice(b));
            values.chunks(2).map(|row| row[0] as usize).collect::<Vec<_>>()
        };
        for rows in 0..7 {
            assert_eq!(paired(rows), (0..rows).rev().collect::<Vec<_>>());
        }
    }
}
