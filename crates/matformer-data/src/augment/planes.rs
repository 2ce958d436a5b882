//! A square image in memory: a plane of bytes for each channel.

/// A square image, [channels, size, size].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) pixels: Vec<u8>,
    pub(super) size: usize, // at least 1
}

impl Planes {
    /// The window of `to` by `to` pixels of a square image whose upper left corner is at `corner`
    /// (row, column), which may lie outside: what lies outside is 0.
    ///
    /// # Shapes
    /// `pixels` [channels, from, from], result [channels, to, to].
    pub(super) fn window(pixels: &[u8], from: usize, corner: [isize; 2], to: usize) -> Self {
        let [top, left] = corner;
        // Of the target: what the source covers.
        let covered = |corner: isize| {
            let first = corner.saturating_neg().max(0) as usize;
            let end = (from as isize).saturating_sub(corner).max(0) as usize;
            first.min(to)..end.min(to).max(first.min(to))
        };
        let (rows, columns) = (covered(top), covered(left));
        let start = (columns.start as isize + left).clamp(0, from as isize) as usize;
        let mut window = vec![0; pixels.len() / (from * from) * to * to];
        let planes = pixels.chunks_exact(from * from).zip(window.chunks_exact_mut(to * to));
        for (source, target) in planes {
            let lines = source.chunks_exact(from).skip(top.max(0) as usize);
            let targets = target.chunks_exact_mut(to).skip(rows.start).take(rows.len());
            for (source, target) in lines.zip(targets) {
                let target = &mut target[columns.clone()];
                target.copy_from_slice(&source[start..][..target.len()]);
            }
        }
        Self { pixels: window, size: to }
    }

    /// Pixels of a plane.
    pub(super) fn area(&self) -> usize {
        self.size * self.size
    }

    pub(super) fn channels(&self) -> usize {
        self.pixels.len() / self.area()
    }

    /// Left and right change places.
    pub(super) fn flip(&mut self) {
        self.pixels.chunks_exact_mut(self.size).for_each(<[u8]>::reverse);
    }

    /// Resamples the image with an affine map: the output pixel in column x and row y is the input at (a x + b y + c, d
    /// x + e y + f), interpolated bilinearly; points outside the image are 0. Same as torchvision's `affine` with
    /// `BILINEAR`.
    pub(super) fn warp(&mut self, [a, b, c, d, e, f]: [f64; 6]) {
        let size = self.size;
        let source = self.framed();
        let wide = size + FRAME;
        let last = (size + 1) as f32;
        let mut taps = vec![(0, 0.0, 0.0); size];
        for row in 0..size {
            // By 1 to the right and down: the frame's first zeros.
            let (x0, y0) = ((b * row as f64 + c + 1.0) as f32, (e * row as f64 + f + 1.0) as f32);
            for (column, tap) in taps.iter_mut().enumerate() {
                let x = (a as f32 * column as f32 + x0).clamp(0.0, last);
                let y = (d as f32 * column as f32 + y0).clamp(0.0, last);
                let (left, top) = (x as usize, y as usize);
                *tap = (top * wide + left, x - left as f32, y - top as f32);
            }
            let planes = source.chunks_exact(wide * wide);
            for (plane, target) in planes.zip(self.pixels.chunks_exact_mut(size * size)) {
                for (value, (at, right, down)) in target[row * size..].iter_mut().zip(&taps) {
                    let pair = |at: usize| {
                        let (first, second) = (f32::from(plane[at]), f32::from(plane[at + 1]));
                        first + (second - first) * right
                    };
                    let (upper, lower) = (pair(*at), pair(at + wide));
                    *value = (upper + (lower - upper) * down + 0.5) as u8;
                }
            }
        }
    }

    /// The planes with a frame of zeros: one row and column before, two after, so that a place that
    /// is clamped into the frame needs no other check.
    fn framed(&self) -> Vec<u8> {
        let (size, wide) = (self.size, self.size + FRAME);
        let mut framed = vec![0; self.channels() * wide * wide];
        let planes = self.pixels.chunks_exact(size * size);
        for (source, target) in planes.zip(framed.chunks_exact_mut(wide * wide)) {
            let targets = target.chunks_exact_mut(wide).skip(1);
            for (source, target) in source.chunks_exact(size).zip(targets) {
                target[1..=size].copy_from_slice(source);
            }
        }
        framed
    }
}

/// Rows and columns of zeros around a plane.
const FRAME: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(size: usize, channels: usize) -> Planes {
        let pixels = (0..size * size * channels).map(|i| (i * 31 % 255 + 1) as u8).collect();
        Planes { pixels, size }
    }

    #[test]
    fn windows_by_hand() {
        let pixels = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let window = |corner, to| Planes::window(&pixels, 3, corner, to).pixels;
        assert_eq!(window([0, 0], 3), pixels);
        assert_eq!(window([1, 1], 2), [5, 6, 8, 9]);
        assert_eq!(window([-1, 2], 2), [0, 0, 3, 0]);
        assert_eq!(window([2, -1], 3), [0, 7, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(window([-1, -1], 5).iter().filter(|pixel| **pixel == 0).count(), 16);
        for outside in [[3, 0], [0, -2], [isize::MIN, 0], [0, isize::MAX]] {
            assert_eq!(window(outside, 2), [0; 4]);
        }
    }

    #[test]
    fn whole_pixels_move_as_windows_do() {
        for (size, channels) in [(1, 1), (4, 3), (7, 2)] {
            for (x, y) in [(0, 0), (2, -1), (-3, 0), (9, 1), (100, -100)] {
                let mut moved = image(size, channels);
                let window = Planes::window(&moved.pixels, size, [y, x], size);
                moved.warp([1.0, 0.0, x as f64, 0.0, 1.0, y as f64]);
                assert_eq!(moved, window);
            }
        }
    }

    #[test]
    fn between_pixels_by_hand() {
        let mut half = Planes { pixels: vec![0, 100, 200, 40], size: 2 };
        half.warp([1.0, 0.0, 0.5, 0.0, 1.0, 0.25]);
        // Columns half way to the right: 50 and 50, then 120 and 20; rows a quarter down; outside 0.
        assert_eq!(half.pixels, [68, 43, 90, 15]);
    }

    #[test]
    fn a_quarter_turn_is_exact() {
        let mut turned = Planes { pixels: vec![1, 2, 3, 4, 5, 6, 7, 8, 9], size: 3 };
        turned.warp([0.0, 1.0, 0.0, -1.0, 0.0, 2.0]);
        assert_eq!(turned.pixels, [7, 4, 1, 8, 5, 2, 9, 6, 3]);
    }

    proptest! {
        #[test]
        fn two_flips_are_none(size in 1_usize..9, channels in 1_usize..4) {
            let (before, mut after) = (image(size, channels), image(size, channels));
            after.flip();
            prop_assert_eq!(after.pixels[0], before.pixels[size - 1]);
            after.flip();
            prop_assert_eq!(after, before);
        }

        #[test]
        fn any_warp_stays_within_the_image(size in 1_usize..6, matrix: [f64; 6]) {
            image(size, 3).warp(matrix);
        }
    }
}
