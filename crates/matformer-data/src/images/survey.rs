//! Which images lie in some folders, by names and headers.

use std::path::Path;

use super::found::Found;
use super::listing::Listing;
use super::{find, folders};
use crate::format::Format;
use crate::{ImageSurvey, PassedOver, Result};

/// Images whose headers are read.
const SAMPLE: usize = 64;
/// What the names of files that hold many images begin with.
const PACKED: [&str; 6] = [
    "train-images-idx3-ubyte",
    "t10k-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-labels-idx1-ubyte",
    "data_batch_",
    "fine_label_names",
];

/// Whether most files, judging by their names, are images or files of many images.
pub(crate) fn are_images<'a>(files: impl Iterator<Item = &'a Path> + Clone) -> bool {
    let is_packed = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        PACKED.iter().any(|start| name.starts_with(start))
    };
    let images = files.clone().filter(|path| folders::has_image_suffix(path)).count();
    let texts = files.clone().filter(|path| Format::of(path).is_some()).count();
    images > texts || files.clone().any(is_packed)
}

/// Which images are in these folders.
///
/// # Errors
/// As [`prepare_images`](crate::prepare_images), as far as no image is decoded.
pub fn survey_images(roots: &[&Path]) -> Result<ImageSurvey> {
    let listings = Listing::all(roots, &mut PassedOver::default())?;
    let Found { classes, train, .. } = find::find(&listings)?;
    let sample = train.sample(SAMPLE);
    let mut sides: Vec<usize> =
        sample.iter().map(|raster| raster.rows.min(raster.columns)).collect();
    sides.sort_unstable();
    Ok(ImageSurvey {
        images: train.len(),
        classes: classes.len(),
        side: sides.get(sides.len() / 2).copied().unwrap_or_default(),
        channels: sample.iter().map(|raster| raster.channels).max().unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

    use super::super::testing::Place;
    use super::*;

    fn encoded(image: DynamicImage) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn sides_and_colors_are_those_of_the_images() {
        let place = Place::new();
        for i in 0..5_u32 {
            let grey = GrayImage::from_pixel(20 + i, 30, Luma([i as u8]));
            place.write(&format!("a/{i}.png"), encoded(grey.into()));
        }
        place.write("b/broken.png", b"");
        let survey = || survey_images(&[&place.root()]).unwrap();
        let found = ImageSurvey { images: 6, classes: 2, side: 22, channels: 1 };
        assert_eq!(survey(), found);
        place.write("b/red.png", encoded(RgbImage::from_pixel(9, 9, Rgb([200, 0, 0])).into()));
        assert_eq!(survey().channels, 3);
    }
}
