//! From the bytes of an image file to the pixels of a square.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fast_image_resize::CropBox;
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult,
    Limits, Luma, RgbImage,
};
use matformer_core::guarded;

use matformer_core::fs;

use super::{ImageShape, MAX_IMAGE_PIXELS, jpeg};
use crate::augment::resample::Source;

/// The largest file that is read: more than any image of [`MAX_IMAGE_PIXELS`] needs.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most that a decoder may allocate: four channels of 16 bits.
const MAX_DECODED_BYTES: u64 = 8 * MAX_IMAGE_PIXELS;
/// Images of more pixels, or larger files, are decoded one at a time: what all threads hold at once
/// then stays small.
const ALONE_PIXELS: u64 = 16_000_000;
const ALONE_BYTES: u64 = 32 << 20;

/// Makes squares of images, exactly as the stock image processors of transformers and timm do:
/// transparent images are laid over white, the short side is resized, the middle is cut out.
#[derive(Debug)]
pub(super) struct Decoder {
    kept: ImageShape,
    /// The size that models see, in the middle of what is kept.
    seen: usize,
    alone: Mutex<()>,
}

/// An image as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    /// [channels, size, size].
    pub pixels: Vec<u8>,
    /// The size that it had.
    pub from: Dimensions,
    /// Whether its file lacks an end that no pixel needs.
    pub unended: bool,
}

/// Width and height of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dimensions {
    pub width: usize,
    pub height: usize,
}

impl Dimensions {
    /// Whether these are the sizes of a square of `size` pixels.
    pub(super) fn is_square_of(self, size: usize) -> bool {
        self.width == size && self.height == size
    }

    fn of(image: &DynamicImage) -> Self {
        Self { width: image.width() as usize, height: image.height() as usize }
    }
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
    /// Images become squares of the shape `kept`, of which models see the middle `seen` pixels.
    pub(super) fn new(kept: ImageShape, seen: usize) -> Self {
        Self { kept, seen, alone: Mutex::new(()) }
    }

    /// What images become.
    pub(super) fn shape(&self) -> ImageShape {
        self.kept
    }

    /// The image in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn file(&self, path: &Path) -> Result<Decoded, String> {
        let reason = |error: std::io::Error| error.to_string();
        let file = fs::open(path).map_err(|error| match error {
            matformer_core::Error::Io { source, .. } => reason(source),
            other => other.to_string(),
        })?;
        let length = file.metadata().map_err(reason)?.len();
        if length > MAX_FILE_BYTES {
            return Err(format!("{length} bytes, expected: at most {MAX_FILE_BYTES}"));
        }
        let alone = (length > ALONE_BYTES).then(|| self.alone());
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(reason)?;
        self.guarded(&bytes, alone)
    }

    /// The image in these bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<Decoded, String> {
        self.guarded(bytes, None)
    }

    /// Decoders meet bytes that nobody has checked; one that panics has met a bad image.
    fn guarded(&self, bytes: &[u8], alone: Option<MutexGuard<'_, ()>>) -> Result<Decoded, String> {
        guarded(|| self.decode(bytes, alone)).unwrap_or_else(|| Err("its decoder panicked".into()))
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decode(&self, bytes: &[u8], alone: Option<MutexGuard<'_, ()>>) -> Result<Decoded, String> {
        let (format, decoder) = open(bytes)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if !(1..=MAX_IMAGE_PIXELS).contains(&pixels) {
            return Err(too_large(width, height));
        }
        let _alone = alone.or_else(|| (pixels > ALONE_PIXELS).then(|| self.alone()));
        let decode = |bytes: &[u8]| upright(open(bytes)?.1);
        let ended = if format == ImageFormat::Png { png_with_end(bytes) } else { None };
        let unended = ended.is_some() || format == ImageFormat::Jpeg && !jpeg::has_end(bytes);
        let image = match ended {
            Some(ended) => decode(&ended)?,
            None if unended => jpeg::without_end(bytes, decode)?,
            None => upright(decoder)?,
        };
        let from = Dimensions::of(&image);
        Ok(Decoded { pixels: self.square(image)?, from, unended })
    }

    /// An image that is not compressed.
    ///
    /// # Errors
    /// Too few bytes.
    pub(super) fn raster(&self, bytes: &[u8], raster: Raster) -> Result<Decoded, String> {
        let Raster { channels, rows, columns } = raster;
        let from = Dimensions { width: columns, height: rows };
        if channels == self.kept.channels && from.is_square_of(self.kept.size) {
            return Ok(Decoded { pixels: bytes.to_vec(), from, unended: false });
        }
        let image: Option<DynamicImage> = if channels == 1 {
            GrayImage::from_raw(columns as u32, rows as u32, bytes.to_vec()).map(Into::into)
        } else {
            let plane = |channel: usize| bytes.iter().skip(channel * rows * columns);
            let colours = plane(0).zip(plane(1)).zip(plane(2));
            let interleaved = colours.flat_map(|((r, g), b)| [*r, *g, *b]).collect();
            RgbImage::from_raw(columns as u32, rows as u32, interleaved).map(Into::into)
        };
        let image =
            image.ok_or_else(|| format!("{} bytes, expected: {}", bytes.len(), raster.bytes()))?;
        Ok(Decoded { pixels: self.square(image)?, from, unended: false })
    }

    /// The pixels that are kept of an image, a channel after the other: what is in the middle once the
    /// short side was resized. Only the pixels that are kept are computed: of an image of one pixel by
    /// a million, the whole would be a large one.
    fn square(&self, image: DynamicImage) -> Result<Vec<u8>, String> {
        let image = if image.color().has_alpha() { over_white(&image) } else { image };
        let Dimensions { width, height } = Dimensions::of(&image);
        let (size, side) = (self.kept.size, width.min(height));
        // Where what is kept begins, and how far it goes.
        let kept = |from: usize| {
            let to = (size as u64 * from as u64 / side as u64) as usize;
            // What is seen lies as far from both ends as the whole numbers allow, and what is kept
            // around that. One more pixel goes behind, as in Hugging Face's `center_crop`.
            let start = (to - self.seen) / 2 - (size - self.seen) / 2;
            let scale = from as f64 / to as f64;
            let first = start as f64 * scale;
            (first, (size as f64 * scale).min(from as f64 - first))
        };
        let ((left, wide), (top, high)) = (kept(width), kept(height));
        let part = CropBox { left, top, width: wide, height: high };
        let (bytes, channels) = match (self.kept.channels, image.color().has_color()) {
            (1, true) => (luma(&image.into_rgb8()).into_raw(), 1),
            (_, true) => (image.into_rgb8().into_raw(), 3),
            (_, false) => (image.into_luma8().into_raw(), 1),
        };
        let pixels = Source { bytes: &bytes, width, height, channels }.resize(part, size)?;
        if channels == self.kept.channels {
            let plane = |channel| pixels.iter().skip(channel).step_by(channels).copied();
            Ok((0..channels).flat_map(plane).collect())
        } else {
            Ok(pixels.repeat(self.kept.channels))
        }
    }
}

/// A PNG that lacks nothing but its end, with that.
fn png_with_end(bytes: &[u8]) -> Option<Vec<u8>> {
    const END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";
    let mut rest = bytes.get(8..)?;
    while let Some((length, _)) = rest.split_first_chunk() {
        if rest.starts_with(END) {
            return None;
        }
        // Length, kind and checksum of a chunk have four bytes each.
        match rest.get(u32::from_be_bytes(*length) as usize + 12..) {
            Some(next) => rest = next,
            None => break,
        }
    }
    let whole = bytes.len() - rest.len();
    END.starts_with(rest).then(|| [&bytes[..whole], END].concat())
}

/// The image of a decoder; a photograph that says how it was held is turned upright.
fn upright(mut decoder: impl ImageDecoder) -> Result<DynamicImage, String> {
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    image.apply_orientation(turned);
    Ok(image)
}

/// Size and colors of the image in a file, by its header; nothing where that cannot be read. A
/// photograph that is to be turned has its sides the other way round.
pub(super) fn header(path: &Path) -> Option<Raster> {
    header_in(std::io::BufReader::new(std::fs::File::open(path).ok()?))
}

/// Size and colors of the image in these bytes, by its header.
pub(super) fn header_of(bytes: &[u8]) -> Option<Raster> {
    header_in(std::io::Cursor::new(bytes))
}

fn header_in(file: impl std::io::BufRead + std::io::Seek) -> Option<Raster> {
    let read = || {
        let mut reader = ImageReader::new(file).with_guessed_format().ok()?;
        reader.limits(limits());
        let decoder = reader.into_decoder().ok()?;
        let (columns, rows) = decoder.dimensions();
        let channels = if decoder.color_type().has_color() { 3 } else { 1 };
        Some(Raster { channels, rows: rows as usize, columns: columns as usize })
    };
    guarded(read).unwrap_or_default()
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

/// The luma of ITU-R BT.601, as PIL's `convert("L")` rounds it.
fn luma(rgb: &RgbImage) -> GrayImage {
    GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        let [r, g, b] = rgb.get_pixel(x, y).0.map(u32::from);
        Luma([((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8])
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
