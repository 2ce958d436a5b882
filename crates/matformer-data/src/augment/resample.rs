//! Resizing with the triangle filter: bilinear upwards, with as wide a filter as it takes not to
//! alias downwards. As PIL's `resize` with `BILINEAR`, without its rounding between the two passes.

use std::ops::Range;

use super::rect::Rect;

/// Which pixels of one axis, with which weights, make each pixel of a part of a resized one.
pub(crate) struct Axis {
    firsts: Vec<usize>,
    weights: Vec<f32>, // [part, taps]
    taps: usize,
}

impl Axis {
    /// The pixels `part` of an axis of `from` pixels that is resized to `to` pixels.
    pub(crate) fn new(from: usize, to: usize, part: Range<usize>) -> Self {
        let scale = from as f64 / to as f64;
        let reach = scale.max(1.0);
        let taps = (2 * reach.ceil() as usize).min(from);
        let n = part.len();
        let (mut firsts, mut weights) = (Vec::with_capacity(n), Vec::with_capacity(n * taps));
        for at in part {
            let centre = (at as f64 + 0.5) * scale;
            let first = ((centre - reach + 0.5).max(0.0) as usize).min(from - taps);
            let weight = |tap| (1.0 - ((first + tap) as f64 + 0.5 - centre).abs() / reach).max(0.0);
            let sum: f64 = (0..taps).map(weight).sum();
            firsts.push(first);
            weights.extend((0..taps).map(|tap| (weight(tap) / sum) as f32));
        }
        Self { firsts, weights, taps }
    }

    /// All pixels of a resized axis.
    fn whole(from: usize, to: usize) -> Self {
        Self::new(from, to, 0..to)
    }

    fn len(&self) -> usize {
        self.firsts.len()
    }

    /// The pixels that are read.
    fn read(&self) -> Range<usize> {
        let first = self.firsts.first().copied().unwrap_or_default();
        first..self.firsts.last().map_or(first, |last| last + self.taps)
    }

    /// The first pixel and the weights from there on, for each pixel of the resized axis.
    fn pixels(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.firsts.iter().copied().zip(self.weights.chunks_exact(self.taps))
    }
}

/// Resizes a plane and appends it to `out`. `row` gives a row of the source, whose pixels are `step`
/// bytes apart. Only the rows that are needed are read.
pub(crate) fn plane<'a>(
    row: impl Fn(usize) -> &'a [u8],
    step: usize,
    columns: &Axis,
    rows: &Axis,
    out: &mut Vec<u8>,
) {
    let (to, read) = (columns.len(), rows.read());
    let mut narrow = vec![0.0; read.len() * to]; // [rows that are read, to]
    for (y, target) in read.clone().zip(narrow.chunks_exact_mut(to)) {
        let source = row(y);
        for (value, (first, weights)) in target.iter_mut().zip(columns.pixels()) {
            let pixels = source[first * step..].iter().step_by(step);
            *value = pixels.zip(weights).map(|(v, w)| f32::from(*v) * w).sum();
        }
    }
    let mut line = vec![0.0; to];
    for (first, weights) in rows.pixels() {
        line.fill(0.0);
        for (source, weight) in narrow.chunks_exact(to).skip(first - read.start).zip(weights) {
            line.iter_mut().zip(source).for_each(|(sum, value)| *sum += value * weight);
        }
        out.extend(line.iter().map(|value: &f32| (value + 0.5) as u8));
    }
}

/// Resizes `rect` of each plane.
///
/// # Shapes
/// `pixels` [channels, from, from], result [channels, to, to].
pub(super) fn resize(pixels: &[u8], from: usize, rect: Rect, to: usize) -> Vec<u8> {
    let (columns, rows) = (Axis::whole(rect.width, to), Axis::whole(rect.height, to));
    let mut resized = Vec::with_capacity(pixels.len() / (from * from) * to * to);
    for source in pixels.chunks_exact(from * from) {
        let row = |y| &source[(rect.top + y) * from + rect.left..][..rect.width];
        plane(row, 1, &columns, &rows, &mut resized);
    }
    resized
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let resize = |pixels: &[u8], from, to| resize(pixels, from, Rect::whole(from), to);
        assert_eq!(resize(&[7, 9], 1, 2), [7, 7, 7, 7, 9, 9, 9, 9], "two planes of one pixel");
        // Centres at 0.25, 0.75, 1.25, 1.75 between pixel centres at 0.5 and 1.5.
        let up = resize(&[0, 100, 0, 100], 2, 4);
        assert_eq!(up, [0, 25, 75, 100].repeat(4));
        // To the half the filter is 4 wide: weights 1, 3, 3, 1 over 8, cut and normalised at the
        // border, where they are 3, 3, 1 over 7.
        let down = resize(&[0, 0, 70, 70].repeat(4), 4, 2);
        assert_eq!(down, [10, 60, 10, 60]);
    }

    #[test]
    fn only_the_rectangle_is_read() {
        let mut pixels = [255; 36];
        let rect = Rect { top: 1, left: 2, height: 3, width: 2 };
        for y in rect.top..rect.top + rect.height {
            pixels[y * 6 + rect.left..][..rect.width].fill(9);
        }
        assert_eq!(resize(&pixels, 6, rect, 5), [9; 25]);
    }

    proptest! {
        #[test]
        fn the_same_size_is_the_same_image_and_a_constant_stays(
            from in 1_usize..12,
            to in 1_usize..30,
            value: u8,
            seed: u8,
        ) {
            let pixels: Vec<u8> =
                (0..from * from).map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed)).collect();
            prop_assert_eq!(resize(&pixels, from, Rect::whole(from), from), pixels);
            let flat = resize(&vec![value; from * from * 3], from, Rect::whole(from), to);
            prop_assert_eq!(flat, vec![value; to * to * 3]);
        }
    }
}
