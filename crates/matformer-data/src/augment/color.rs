//! Ops on the values of pixels, wherever they lie. As PIL's `ImageOps` and `ImageEnhance`, which
//! torchvision and timm call, except that blends round to the nearest value where PIL cuts off.

use super::planes::Planes;

/// Stretches each channel so that its darkest value is 0 and its brightest 255.
pub(super) fn autocontrast(image: &mut Planes) {
    let area = image.area();
    for plane in image.pixels.chunks_exact_mut(area) {
        let low = plane.iter().copied().min().unwrap_or(0);
        let high = plane.iter().copied().max().unwrap_or(0);
        if low < high {
            let range = u32::from(high - low);
            let stretch =
                |value: u8| (u32::from(value.saturating_sub(low)) * 255 / range).min(255) as u8;
            replace(plane, stretch);
        }
    }
}

/// Spreads the values of each channel so that all are about equally frequent. A channel of fewer
/// than 255 pixels beside its brightest stays as it is.
pub(super) fn equalize(image: &mut Planes) {
    let area = image.area();
    for plane in image.pixels.chunks_exact_mut(area) {
        let mut counts = [0; 256];
        plane.iter().for_each(|value| counts[usize::from(*value)] += 1);
        let brightest = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
        let step = (area - brightest) / 255;
        if step > 0 {
            let mut below = step / 2;
            let levels = counts.map(|count: usize| {
                let level = (below / step).min(255) as u8;
                below += count;
                level
            });
            replace(plane, |value| levels[usize::from(value)]);
        }
    }
}

/// Inverts values of `threshold` and more.
pub(super) fn solarize(image: &mut Planes, threshold: f64) {
    let solar = |value: u8| if f64::from(value) < threshold { value } else { 255 - value };
    replace(&mut image.pixels, solar);
}

/// Keeps the upper `bits` of each value, 1 to 8.
pub(super) fn posterize(image: &mut Planes, bits: u32) {
    let mask = 0xff_u8 << (8 - bits);
    replace(&mut image.pixels, |value| value & mask);
}

/// From black (factor 0) through the image (1) to a brighter one.
pub(super) fn brightness(image: &mut Planes, factor: f64) {
    replace(&mut image.pixels, |value| blend(0, value, factor as f32));
}

/// From its mean grey (factor 0) through the image (1) to more contrast.
pub(super) fn contrast(image: &mut Planes, factor: f64) {
    let (sum, count): (u64, _) = match planes_of_color(image) {
        Some([red, green, blue]) => {
            let colors = red.iter().zip(&*green).zip(&*blue);
            let luma = colors.map(|((red, green), blue)| luma(*red, *green, *blue));
            (luma.map(u64::from).sum(), red.len() as u64)
        }
        None => {
            let values = image.pixels.iter().copied();
            (values.map(u64::from).sum(), image.pixels.len() as u64)
        }
    };
    let mean = ((2 * sum + count) / (2 * count)).min(255) as u8;
    replace(&mut image.pixels, |value| blend(mean, value, factor as f32));
}

/// From grey (factor 0) through the image (1) to stronger colors; images without color stay.
pub(super) fn saturation(image: &mut Planes, factor: f64) {
    let Some([red, green, blue]) = planes_of_color(image) else {
        return;
    };
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let grey = luma(*red, *green, *blue);
        for value in [red, green, blue] {
            *value = blend(grey, *value, factor as f32);
        }
    }
}

/// From a smoothed image (factor 0) through the image (1) to a sharper one; the pixels of the border
/// stay.
pub(super) fn sharpness(image: &mut Planes, factor: f64) {
    let (size, area) = (image.size, image.area());
    if size < 3 {
        return;
    }
    let mut before = vec![0; area];
    for plane in image.pixels.chunks_exact_mut(area) {
        before.copy_from_slice(plane);
        for row in 1..size - 1 {
            let line = |row: usize| &before[row * size..][..size];
            let above = line(row - 1).windows(3);
            let here = line(row).windows(3);
            let below = line(row + 1).windows(3);
            let values = plane[row * size + 1..].iter_mut();
            for (((value, above), here), below) in values.zip(above).zip(here).zip(below) {
                let all = above.iter().chain(here).chain(below);
                let sum = all.map(|value| u32::from(*value)).sum::<u32>() + 4 * u32::from(*value);
                let smooth = (sum + SMOOTH / 2) / SMOOTH;
                *value = blend(smooth.min(255) as u8, *value, factor as f32);
            }
        }
    }
}

/// The sum of PIL's smoothing filter: 5 in the centre, 1 for each of the eight around it.
const SMOOTH: u32 = 13;
/// Channels of an image in color.
const COLORS: usize = 3;

/// `base + factor (value - base)`, rounded and kept from 0 to 255.
fn blend(base: u8, value: u8, factor: f32) -> u8 {
    let base = f32::from(base);
    (base + factor * (f32::from(value) - base) + 0.5) as u8
}

/// Luma by ITU-R BT.601, in PIL's fixed point.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = u32::from(red) * 19_595 + u32::from(green) * 38_470 + u32::from(blue) * 7_471;
    ((sum + (1 << 15)) >> 16) as u8
}

/// The three planes of an image in color.
fn planes_of_color(image: &mut Planes) -> Option<[&mut [u8]; COLORS]> {
    let (area, colors) = (image.area(), image.channels() == COLORS);
    let (red, others) = image.pixels.split_at_mut(area);
    let (green, blue) = others.split_at_mut_checked(area)?;
    colors.then_some([red, green, blue])
}

/// Puts `f` of each value in its place, by a table.
fn replace(pixels: &mut [u8], f: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| f(value as u8));
    pixels.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `op` makes of an image of one or of three planes.
    fn of(pixels: &[u8], size: usize, op: impl FnOnce(&mut Planes)) -> Vec<u8> {
        let mut image = Planes { pixels: pixels.into(), size };
        op(&mut image);
        image.pixels
    }

    #[test]
    fn autocontrast_by_hand() {
        // 50 to 150: 255/100 = 2.55 for each value, cut off.
        assert_eq!(of(&[50, 60, 71, 150], 2, autocontrast), [0, 25, 53, 255]);
        assert_eq!(of(&[9, 9, 9, 9], 2, autocontrast), [9; 4], "no range");
        assert_eq!(of(&[1, 7, 3], 1, autocontrast), [1, 7, 3]);
        // Each channel by itself.
        let color = [0, 1, 2, 5, 100, 100, 200, 200, 0, 0, 0, 255];
        let stretched = [0, 51, 102, 255, 0, 0, 255, 255, 0, 0, 0, 255];
        assert_eq!(of(&color, 2, autocontrast), stretched);
    }

    #[test]
    fn equalize_by_hand() {
        // 289 pixels: 100 of 10, 155 of 20, 34 of 200. All but the brightest are 255, a step of one.
        let image = [vec![10; 100], vec![20; 155], vec![200; 34]].concat();
        let spread = [vec![0; 100], vec![100; 155], vec![255; 34]].concat();
        assert_eq!(of(&image, 17, equalize), spread);
        // 1024: 400 of 0, 300 of 1, 300 of 2, 24 of 3. 1000 / 255 is a step of 3, from 1:
        // 1/3, 401/3, 701/3, 1001/3 which is above 255.
        let image = [vec![0; 400], vec![1; 300], vec![2; 300], vec![3; 24]].concat();
        let spread = [vec![0; 400], vec![133; 300], vec![233; 300], vec![255; 24]].concat();
        assert_eq!(of(&image, 32, equalize), spread);
        assert_eq!(of(&[1, 2, 3, 4], 2, equalize), [1, 2, 3, 4], "too few pixels");
    }

    #[test]
    fn solarize_and_posterize_by_hand() {
        let image = [0, 127, 128, 255];
        assert_eq!(of(&image, 2, |image| solarize(image, 128.0)), [0, 127, 127, 0]);
        assert_eq!(of(&image, 2, |image| solarize(image, 256.0)), image);
        assert_eq!(of(&image, 2, |image| solarize(image, 0.0)), [255, 128, 127, 0]);
        let image = [0b0101_0101, 0b1111_1111, 15, 16];
        assert_eq!(of(&image, 2, |image| posterize(image, 4)), [0b0101_0000, 0b1111_0000, 0, 16]);
        assert_eq!(of(&image, 2, |image| posterize(image, 1)), [0, 128, 0, 0]);
        assert_eq!(of(&image, 2, |image| posterize(image, 8)), image);
    }

    #[test]
    fn brightness_and_contrast_by_hand() {
        let image = [0, 100, 100, 200];
        assert_eq!(of(&image, 2, |image| brightness(image, 1.9)), [0, 190, 190, 255]);
        assert_eq!(of(&image, 2, |image| brightness(image, 0.1)), [0, 10, 10, 20]);
        // Around the mean, 100.
        assert_eq!(of(&image, 2, |image| contrast(image, 1.5)), [0, 100, 100, 250]);
        assert_eq!(of(&image, 2, |image| contrast(image, 0.1)), [90, 100, 100, 110]);
        assert_eq!(of(&image, 2, |image| contrast(image, 0.0)), [100; 4]);
    }

    #[test]
    fn color_goes_through_luma_by_hand() {
        // Pure red, green, blue, white: luma 76, 150, 29, 255; their mean is 127.5, 128.
        let image = [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255];
        let grey = of(&image, 2, |image| saturation(image, 0.0));
        assert_eq!(grey, [76, 150, 29, 255].repeat(3));
        assert_eq!(of(&image, 2, |image| contrast(image, 0.0)), [128; 12]);
        let half = of(&image, 2, |image| saturation(image, 0.5));
        assert_eq!(half[..4], [166, 75, 15, 255]);
        assert_eq!(of(&image[..4], 2, |image| saturation(image, 0.0)), image[..4]);
        assert_eq!(of(&image[..8], 2, |image| saturation(image, 0.0)), image[..8]);
    }

    #[test]
    fn sharpness_by_hand() {
        let image = [0, 0, 0, 0, 130, 0, 0, 0, 13];
        // Smoothed (5 · 130 + 13) / 13 = 51.
        let smooth = of(&image, 3, |image| sharpness(image, 0.0));
        assert_eq!(smooth, [0, 0, 0, 0, 51, 0, 0, 0, 13]);
        assert_eq!(of(&image, 3, |image| sharpness(image, 1.5))[4], 170);
        assert_eq!(of(&[1, 2, 3, 4], 2, |image| sharpness(image, 0.0)), [1, 2, 3, 4]);
    }
}
