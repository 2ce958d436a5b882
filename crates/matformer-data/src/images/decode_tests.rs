//! What becomes of image files and of pixels.

use image::{GrayAlphaImage, LumaA, Rgb, Rgba, RgbaImage};
use proptest::prelude::*;

use super::super::testing::{Place, encode, huge_png, png};
use super::*;
use crate::{Augment, AugmentConfig};

const GREY: ImageShape = ImageShape { size: 4, channels: 1 };
const COLOUR: ImageShape = ImageShape { size: 4, channels: 3 };

/// A decoder that keeps what models see.
fn decoder(shape: ImageShape) -> Decoder {
    Decoder::new(shape, shape.size)
}

fn decode(bytes: &[u8], shape: ImageShape) -> Result<Vec<u8>, String> {
    decoder(shape).decode(bytes, None).map(|image| image.pixels)
}

fn decode_png(image: impl Into<DynamicImage>, shape: ImageShape) -> Vec<u8> {
    decode(&encode(&image.into(), ImageFormat::Png), shape).unwrap()
}

/// Grey pixels that rise to the right and to the bottom.
fn slope(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([(x * 10 + y * 20) as u8]))
}

#[test]
fn channels_become_planes() {
    let image = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, 10 + y as u8, 200]));
    let planes = decode_png(image, COLOUR);
    assert_eq!(planes[..8], [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(planes[16..24], [10, 10, 10, 10, 11, 11, 11, 11]);
    assert_eq!(planes[32..], [200; 16]);
}

#[test]
fn grey_and_colour_become_each_other() {
    let grey = decode_png(slope(4, 4), GREY);
    assert_eq!(grey, slope(4, 4).into_raw());
    assert_eq!(decode_png(slope(4, 4), COLOUR), grey.repeat(3));
    // As PIL's `convert("L")`.
    for (colour, luma) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29)] {
        assert_eq!(decode(&png(4, colour), GREY).unwrap(), [luma; 16], "{colour:?}");
    }
}

#[test]
fn transparent_images_lie_on_white() {
    let pixel = |alpha| RgbaImage::from_pixel(4, 4, Rgba([100, 0, 255, alpha]));
    let first = |alpha| {
        let planes = decode_png(pixel(alpha), COLOUR);
        [planes[0], planes[16], planes[32]]
    };
    assert_eq!(first(0), [255, 255, 255]);
    assert_eq!(first(255), [100, 0, 255]);
    assert_eq!(first(51), [224, 204, 255]);
    let grey = GrayAlphaImage::from_pixel(4, 4, LumaA([0, 51]));
    assert_eq!(decode_png(grey, GREY), [204; 16]);
}

#[test]
fn wide_and_tall_images_lose_their_ends() {
    let middle = |x: u32, y: u32| {
        GrayImage::from_fn(4, 4, |column, row| *slope(10, 9).get_pixel(x + column, y + row))
    };
    let cut = |width, height, x: u32, y: u32| {
        let image = image::imageops::crop_imm(&slope(10, 9), x, y, width, height).to_image();
        decode_png(image, GREY)
    };
    assert_eq!(cut(10, 4, 0, 1), middle(3, 1).into_raw());
    assert_eq!(cut(4, 9, 2, 0), middle(2, 2).into_raw());
    assert_eq!(decode_png(slope(1, 1), GREY), [0; 16]);
    assert_eq!(decode_png(GrayImage::from_pixel(3000, 1, Luma([9])), GREY), [9; 16]);
}

#[test]
fn resizing_keeps_what_is_linear() {
    let half = decode_png(slope(8, 8), GREY);
    // A pixel of the half lies between two of the whole; at the border there is nothing beyond.
    let inner = |x: usize, y: usize| half[y * 4 + x];
    let expected = |x: usize, y: usize| ((2 * x + 1) * 10 + (2 * y + 1) * 20 - 15) as u8;
    for (x, y) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        assert!(inner(x, y).abs_diff(expected(x, y)) <= 1, "{half:?}");
    }
    let flat = GrayImage::from_pixel(7, 11, Luma([123]));
    assert_eq!(decode_png(flat, GREY), [123; 16]);
}

#[test]
fn what_an_image_is_tells_its_content() {
    let image: DynamicImage = slope(4, 4).into();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let found = decode(&encode(&image, format), GREY).unwrap();
        let far = found.iter().zip(slope(4, 4).into_raw()).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far.unwrap() <= 16, "{format:?}: {found:?}");
    }
    let deep = DynamicImage::from(slope(4, 4)).into_luma16();
    assert_eq!(decode_png(deep, GREY), slope(4, 4).into_raw());
}

/// A JPEG that is black on the left, with the EXIF orientation 6: it is to be turned clockwise.
fn turned_jpeg() -> Vec<u8> {
    let image = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 0 } else { 255 }]));
    let jpeg = encode(&image.into(), ImageFormat::Jpeg);
    let tag = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut bytes = jpeg[..2].to_vec();
    bytes.extend([0xff, 0xe1, 0, tag.len() as u8 + 2]);
    bytes.extend(tag);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn photographs_are_turned_upright() {
    let pixels = decode(&turned_jpeg(), GREY).unwrap();
    assert!(pixels[..8].iter().all(|grey| *grey < 60), "{pixels:?}");
    assert!(pixels[8..].iter().all(|grey| *grey > 195), "{pixels:?}");
}

#[test]
fn a_file_that_is_cut_is_a_bad_image() {
    let image: DynamicImage = slope(12, 12).into();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let whole = encode(&image, format);
        assert!(decode(&whole, GREY).is_ok());
        for length in [0, 1, 20, whole.len() / 2, whole.len() - 5] {
            let found = decode(&whole[..length], GREY);
            // What is cut off may be what nobody needs.
            let spared = format != ImageFormat::Jpeg && length == whole.len() - 5;
            assert!(found.is_err() || spared, "{format:?} of {length} bytes");
        }
    }
    let jpeg = turned_jpeg();
    assert!(decode(&[&jpeg[..], b"more"].concat(), GREY).is_ok());
}

/// A baseline and a progressive JPEG of 40 by 27 pixels, made by PIL.
const JPEGS: [&[u8]; 2] = [
    include_bytes!("../../tests/fixtures/images/baseline.jpg"),
    include_bytes!("../../tests/fixtures/images/progressive.jpg"),
];

#[test]
fn a_jpeg_that_lacks_its_end_alone_is_an_image() {
    let small: DynamicImage = slope(12, 12).into();
    let small = encode(&small, ImageFormat::Jpeg);
    for jpeg in [&small, JPEGS[0], JPEGS[1]] {
        let whole = decoder(GREY).decode(jpeg, None).unwrap();
        assert!(!whole.unended);
        for missing in [1, 2] {
            let found = decoder(GREY).decode(&jpeg[..jpeg.len() - missing], None).unwrap();
            assert_eq!(found, Decoded { unended: true, ..whole.clone() });
        }
    }
}

#[test]
fn a_png_that_lacks_its_end_alone_is_an_image() {
    let png = encode(&slope(12, 9).into(), ImageFormat::Png);
    let whole = decoder(GREY).decode(&png, None).unwrap();
    assert!(!whole.unended);
    for missing in [1, 5, 12] {
        let found = decoder(GREY).decode(&png[..png.len() - missing], None).unwrap();
        assert_eq!(found, Decoded { unended: true, ..whole.clone() }, "{missing}");
    }
    for missing in [13, 16, 24, 40] {
        assert!(decode(&png[..png.len() - missing], GREY).is_err(), "{missing}");
    }
    assert!(decode(&[&png[..], b"more"].concat(), GREY).is_ok());
}

#[test]
fn a_jpeg_that_lacks_pixels_is_a_bad_image() {
    for jpeg in JPEGS {
        for length in [jpeg.len() - 8, jpeg.len() - 40, jpeg.len() * 3 / 4, jpeg.len() / 2] {
            let error = decode(&jpeg[..length], GREY).unwrap_err();
            assert_eq!(error, "it ends before its last pixel", "{length} of {}", jpeg.len());
        }
    }
    // Whole scans of a progressive one: what is left is blurred.
    let jpeg = JPEGS[1];
    let scans: Vec<usize> =
        (0..jpeg.len() - 1).filter(|at| jpeg[*at..][..2] == [0xff, 0xda]).collect();
    assert!(scans.len() > 3);
    for scan in &scans[1..] {
        assert_eq!(decode(&jpeg[..*scan], GREY).unwrap_err(), "it ends before its last pixel");
    }
}

#[test]
fn other_formats_are_named_as_such() {
    for bytes in [&b"GIF89a\x01\0\x01\0"[..], b"text", b""] {
        assert_eq!(decode(bytes, GREY).unwrap_err(), "it is no PNG, JPEG or WebP");
    }
}

#[test]
fn a_huge_header_is_no_allocation() {
    let expected = "20000 by 30000 pixels, expected: 1 to 64000000 pixels";
    assert_eq!(decode(&huge_png(), GREY).unwrap_err(), expected);
}

#[test]
fn large_images_take_turns() {
    let place = Place::new();
    let image = GrayImage::from_pixel(16_001, 1000, Luma([7]));
    place.write("large.png", encode(&image.into(), ImageFormat::Png));
    let decoder = decoder(GREY);
    let held = decoder.alone();
    std::thread::scope(|scope| {
        let large = scope.spawn(|| decoder.file(&place.path("large.png")));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!large.is_finished());
        drop(held);
        assert_eq!(large.join().unwrap().unwrap().pixels, [7; 16]);
    });
}

#[test]
fn headers_tell_the_size() {
    let place = Place::new();
    for (format, name) in
        [(ImageFormat::Png, "a.jpg"), (ImageFormat::Jpeg, "b"), (ImageFormat::WebP, "c.png")]
    {
        place.write(name, encode(&slope(5, 3).into(), format));
        let found = header(&place.path(name)).map(|found| (found.columns, found.rows));
        assert_eq!(found, Some((5, 3)), "{name}");
    }
    place.write("d.png", "no image");
    assert_eq!(header(&place.path("d.png")), None);
}

/// Images and what transformers and timm make of them, by `make_images.py`.
#[test]
fn pixels_are_those_of_stock_image_processors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_str(&expected).unwrap();
    assert!(expected.len() > 20);
    for case in &expected {
        let decoder =
            Decoder::new(ImageShape { size: case.kept, channels: case.channels }, case.seen);
        let decoded = decoder.file(&folder.join(&case.name)).unwrap();
        let augment = AugmentConfig { mean: None, std: None, ..AugmentConfig::default() };
        let augment = Augment::new(&augment, case.kept, case.channels, case.seen).unwrap();
        let mut pixels = vec![0.0; case.channels * case.seen * case.seen];
        augment.eval(&decoded.pixels, &mut pixels).unwrap();
        // From -1 to 1 back to 0 to 255.
        let off = |expected: &String| {
            assert_eq!(expected.len(), 2 * pixels.len());
            let byte = |at: usize| u8::from_str_radix(&expected[2 * at..][..2], 16).unwrap();
            let far = |(at, p): (usize, &f32)| (f32::from(byte(at)) - (p + 1.0) * 127.5).abs();
            pixels.iter().enumerate().map(far).fold(0.0, f32::max)
        };
        for (program, theirs) in [("transformers", &case.transformers), ("timm", &case.timm)] {
            if let Some(theirs) = theirs {
                assert!(off(theirs) <= 1.01, "{program}, {}: {}", case.name, off(theirs));
            }
        }
    }
}

/// What the image processors of other programs make of an image: hexadecimal bytes.
#[derive(serde::Deserialize)]
struct Expected {
    name: String,
    channels: usize,
    /// The size of the short side after resizing.
    kept: usize,
    /// The size of the square in the middle.
    seen: usize,
    transformers: Option<String>,
    timm: Option<String>,
}

#[test]
fn rasters_are_resized_like_files() {
    let raster = Raster { channels: 1, rows: 6, columns: 9 };
    let decoder = decoder(COLOUR);
    let image = slope(9, 6);
    let found = decoder.raster(image.as_raw(), raster).unwrap().pixels;
    assert_eq!(found, decode_png(image, COLOUR));
    assert_eq!(decoder.raster(&[0; 3], raster).unwrap_err(), "3 bytes, expected: 54");
    let whole: Vec<u8> = (0..48).collect();
    let same = Raster { channels: 3, rows: 4, columns: 4 };
    assert_eq!(decoder.raster(&whole, same).unwrap().pixels, whole);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_are_images_or_errors(
        format in 0..3_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let format = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP][format];
        let mut bytes = encode(&slope(9, 7).into(), format);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(image) = decoder(COLOUR).decode(&bytes, None) {
            prop_assert_eq!(image.pixels.len(), COLOUR.bytes());
        }
    }

    #[test]
    fn any_size_becomes_the_square(width in 1_u32..40, height in 1_u32..40) {
        let raster = Raster { channels: 1, rows: height as usize, columns: width as usize };
        let bytes = slope(width, height).into_raw();
        let found = decoder(COLOUR).raster(&bytes, raster).unwrap().pixels;
        prop_assert_eq!(found.len(), COLOUR.bytes());
        let (low, high) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        prop_assert!(found.iter().all(|grey| (low..=high).contains(&grey)));
    }
}
