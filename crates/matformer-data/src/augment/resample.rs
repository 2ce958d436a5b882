//! Resizing with the triangle filter: bilinear upwards, with as wide a filter as it takes not to
//! alias downwards. Within 1 of 255 of PIL's `resize` with `BILINEAR`, and the same bits with every
//! instruction set: sums are of integers.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{CropBox, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::rect::Rect;

/// An image in memory, row by row; the channels of a pixel lie together.
pub(crate) struct Source<'a> {
    pub bytes: &'a [u8],
    pub width: usize,
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl Source<'_> {
    /// A part of the image as a square of `to` by `to` pixels.
    ///
    /// # Errors
    /// Fewer bytes than pixels, a part that is not within the image.
    pub(crate) fn resize(&self, part: CropBox, to: usize) -> Result<Vec<u8>, String> {
        let kind = if self.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
        let source = ImageRef::new(self.width as u32, self.height as u32, self.bytes, kind);
        let mut square = Image::new(to as u32, to as u32, kind);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .crop(part.left, part.top, part.width, part.height);
        Resizer::new()
            .resize(&source.map_err(|error| error.to_string())?, &mut square, &options)
            .map_err(|error| error.to_string())?;
        Ok(square.into_vec())
    }
}

/// Resizes `rect` of each plane; what is around it is not read.
///
/// # Shapes
/// `pixels` [channels, from, from], result [channels, to, to].
///
/// # Errors
/// None of a rectangle within the image.
pub(super) fn resize(pixels: &[u8], from: usize, rect: Rect, to: usize) -> Result<Vec<u8>, String> {
    let Rect { left, top, width, height } = rect;
    let whole = CropBox { left: 0.0, top: 0.0, width: width as f64, height: height as f64 };
    let plane = |plane: &[u8]| {
        let rows = plane.chunks_exact(from).skip(top).take(height);
        let bytes: Vec<u8> = rows.flat_map(|row| &row[left..left + width]).copied().collect();
        Source { bytes: &bytes, width, height, channels: 1 }.resize(whole, to)
    };
    let planes: Result<Vec<_>, _> = pixels.chunks_exact(from * from).map(plane).collect();
    Ok(planes?.concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn by_hand() {
        let resize = |pixels: &[u8], from, to| resize(pixels, from, Rect::whole(from), to).unwrap();
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
        assert_eq!(resize(&pixels, 6, rect, 5).unwrap(), [9; 25]);
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
            prop_assert_eq!(resize(&pixels, from, Rect::whole(from), from).unwrap(), pixels);
            let flat = resize(&vec![value; from * from * 3], from, Rect::whole(from), to).unwrap();
            prop_assert_eq!(flat, vec![value; to * to * 3]);
        }
    }
}
