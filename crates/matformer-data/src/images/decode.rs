//! From the bytes of an image file to the pixels of a square.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult,
    Limits, RgbImage,
};

use super::{ImageShape, MAX_IMAGE_PIXELS};

/// The largest file that is read: more than any image of [`MAX_IMAGE_PIXELS`] needs.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most that a decoder may allocate: four channels of 16 bits.
const MAX_DECODED_BYTES: u64 = 8 * MAX_IMAGE_PIXELS;
/// Images of more pixels, or larger files, are decoded one at a time: what all threads hold at once
/// then stays small.
const ALONE_PIXELS: u64 = 16_000_000;
const ALONE_BYTES: u64 = 32 << 20;

/// Makes squares of images.
#[derive(Debug)]
pub(super) struct Decoder {
    shape: ImageShape,
    alone: Mutex<()>,
}

/// Uncompressed pixels: all of the first channel, row by row, then all of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Raster {
    /// 1 or 3.
    pub channels: usize,
    /// Height.
    pub rows: usize,
    /// Width.
    pub columns: usize,
}

impl Raster {
    /// Bytes of an image.
    pub(super) const fn bytes(self) -> usize {
        self.channels * self.rows * self.columns
    }
}

impl Decoder {
    pub(super) fn new(shape: ImageShape) -> Self {
        Self { shape, alone: Mutex::new(()) }
    }

    /// What images become.
    pub(super) fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The pixels of the image in a file: [channels, size, size].
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        let reason = |error: std::io::Error| error.to_string();
        let file = std::fs::File::open(path).map_err(reason)?;
        let length = file.metadata().map_err(reason)?.len();
        if length > MAX_FILE_BYTES {
            return Err(format!("{length} bytes, expected: at most {MAX_FILE_BYTES}"));
        }
        let alone = (length > ALONE_BYTES).then(|| self.alone());
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(reason)?;
        // Decoders meet bytes that nobody has checked; one that panics has met a bad image.
        catch_unwind(AssertUnwindSafe(|| self.decode(&bytes, alone)))
            .unwrap_or_else(|_| Err("its decoder panicked".into()))
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode(&self, bytes: &[u8], alone: Option<MutexGuard<'_, ()>>) -> Result<Vec<u8>, String> {
        let (format, mut decoder) = open(bytes)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if !(1..=MAX_IMAGE_PIXELS).contains(&pixels) {
            return Err(too_large(width, height));
        }
        if format == ImageFormat::Jpeg && !is_whole_jpeg(bytes) {
            // The decoder would make up the rest of it.
            return Err("it ends before its last line".into());
        }
        let _alone = alone.or_else(|| (pixels > ALONE_PIXELS).then(|| self.alone()));
        let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
        let mut square = self.square(&image);
        square.apply_orientation(turned);
        Ok(self.planes(square))
    }

    /// The pixels of an image that is not compressed.
    ///
    /// # Errors
    /// Too few bytes.
    pub(super) fn raster(&self, bytes: &[u8], raster: Raster) -> Result<Vec<u8>, String> {
        let Raster { channels, rows, columns } = raster;
        let ImageShape { size, .. } = self.shape;
        if (channels, rows, columns) == (self.shape.channels, size, size) {
            return Ok(bytes.to_vec());
        }
        let image: Option<DynamicImage> = match channels {
            1 => GrayImage::from_raw(columns as u32, rows as u32, bytes.to_vec()).map(Into::into),
            _ => {
                let plane = |channel: usize| bytes.iter().skip(channel * rows * columns);
                let colours = plane(0).zip(plane(1)).zip(plane(2));
                let interleaved = colours.flat_map(|((r, g), b)| [*r, *g, *b]).collect();
                RgbImage::from_raw(columns as u32, rows as u32, interleaved).map(Into::into)
            }
        };
        let image =
            image.ok_or_else(|| format!("{} bytes, expected: {}", bytes.len(), raster.bytes()))?;
        Ok(self.planes(self.square(&image)))
    }

    /// The square in the middle of an image, at the size that is kept; grey if only that is kept, or
    /// if the image is.
    ///
    /// The short side becomes the size and what the long side has more is cut off. It is cut off
    /// first: of an image of one pixel by a million, the other order would make a large one. Pixels
    /// between others are interpolated linearly, over more of them where the image shrinks.
    fn square(&self, image: &DynamicImage) -> DynamicImage {
        let (width, height) = (image.width(), image.height());
        let side = width.min(height);
        let cut = image.crop_imm((width - side) / 2, (height - side) / 2, side, side);
        let opaque = if cut.has_alpha() { over_white(&cut) } else { cut };
        let flat = match self.shape.channels == 3 && opaque.color().has_color() {
            true => DynamicImage::ImageRgb8(opaque.to_rgb8()),
            // Grey that becomes colour is repeated last.
            false => DynamicImage::ImageLuma8(opaque.to_luma8()),
        };
        let size = self.shape.size as u32;
        flat.resize_exact(size, size, FilterType::Triangle)
    }

    /// The pixels of a square, a channel after the other.
    fn planes(&self, square: DynamicImage) -> Vec<u8> {
        match self.shape.channels {
            1 => square.into_luma8().into_raw(),
            _ => {
                let colours = square.into_rgb8();
                let channel = |channel| colours.pixels().map(move |pixel| pixel.0[channel]);
                (0..3).flat_map(channel).collect()
            }
        }
    }
}

/// Width and height of the image in a file, by its header; nothing where that cannot be read.
pub(super) fn dimensions(path: &Path) -> Option<(u32, u32)> {
    let read = || {
        let mut reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
        reader.limits(limits());
        reader.into_dimensions().ok()
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_default()
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

/// The decoder of an image, which has read its header.
fn open(bytes: &[u8]) -> Result<(ImageFormat, impl ImageDecoder + '_), String> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => format,
        _ => return Err("it is no PNG, JPEG or WebP".into()),
    };
    let decoder = || -> ImageResult<_> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits());
        reader.into_decoder()
    };
    match decoder() {
        Ok(decoder) => Ok((format, decoder)),
        // It would take more memory than any image that is decoded.
        Err(ImageError::Limits(_)) => Err(match unlimited_dimensions(bytes, format) {
            Some((width, height)) => too_large(width, height),
            None => "it is too large".into(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

fn too_large(width: u32, height: u32) -> String {
    format!("{width} by {height} pixels, expected: 1 to {MAX_IMAGE_PIXELS} pixels")
}

/// Width and height by the header alone.
fn unlimited_dimensions(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits();
    reader.into_dimensions().ok()
}

/// Lays an image with an alpha channel over white.
fn over_white(image: &DynamicImage) -> DynamicImage {
    let image = image.to_rgba8();
    let (width, height) = image.dimensions();
    let mut flat = RgbImage::new(width, height);
    for (over, under) in image.pixels().zip(flat.pixels_mut()) {
        let [r, g, b, alpha] = over.0.map(u32::from);
        under.0 = [r, g, b].map(|c| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    flat.into()
}

/// Whether a JPEG has its end marker, behind its segments and scans.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        at = match (first, second) {
            (0xff, 0xd9) => return true,
            (0xff, 0xff) => at + 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at + 2,
            (0xff, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at + 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            // What a scan is coded in.
            _ => next_marker(bytes, at),
        };
    }
    false
}

/// Where the next 0xff is.
fn next_marker(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|&byte| byte == 0xff).map_or(bytes.len(), |next| at + next)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
