//! Image classification data: from files of images to memory-mapped pixels with labels.
//!
//! [`prepare_images`] finds the images in a folder, decodes them once and writes them to a cache folder, which is
//! reused later. The layout is detected from the contents of the folder; the first match is used:
//!
//! | layout | what lies there |
//! |---|---|
//! | [IDX](ImageLayout::Idx) | `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, for the held-out images, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`: each plain or `.gz`, all in one folder, wherever it lies. Classes are `0` to `9`, or what `classes.txt` beside them names, a line each. |
//! | [CIFAR-10](ImageLayout::Cifar10) | `data_batch_1.bin`, `data_batch_2.bin`, … and `test_batch.bin` in one folder, wherever it lies. `batches.meta.txt` names the classes. |
//! | [CIFAR-100](ImageLayout::Cifar100) | `train.bin`, `test.bin` and `fine_label_names.txt` in one folder, wherever it lies. The fine labels are used. |
//! | [parquet](ImageLayout::Parquet) | `.parquet` files, as `datasets` writes them: a column of bytes, or of objects with `bytes`, and a column of labels. Names of files say their splits: `train`, and `validation` or else `test`. |
//! | [folders](ImageLayout::Folders) | `train/CLASS/…` with `val/CLASS/…` or else `test/CLASS/…`, under any of their usual names, or `CLASS/…`. Folders below a class belong to it. |
//!
//! Where the data has no held-out images of its own, a share of each class is held out by a hash of
//! the images' names. Symbolic links are followed; hidden files, caches and folders of models are passed
//! over.
//!
//! In the folder layout, image formats (PNG, JPEG, WebP) are detected from the file contents. Images that cannot be
//! decoded are reported, skipped and counted; more than 1 % of them is an error.

mod batches;
mod cifar;
mod columns;
mod config;
mod decode;
mod find;
mod folders;
mod found;
mod idx;
mod in_order;
mod jpeg;
mod listing;
mod packed;
mod prepare;
#[cfg(test)]
mod prepare_tests;
mod set;
mod split;
mod summary;
mod survey;
mod tables;
#[cfg(test)]
mod testing;
mod writing;

pub use batches::{ImageBatch, ImageBatches, spread};
pub use config::ImageConfig;
pub use found::{ImageLayout, composed};
pub use prepare::{PreparedImages, find_prepared_images, prepare_images};
pub use set::ImageSet;
pub use summary::{
    Copies, ImagePair, ImageSummary, PixelSizes, Resized, Skipped, SkippedImage, SplitImages,
    Unended, UnreadFolder,
};
pub use survey::survey_images;

pub(crate) use columns::declares_images;
pub(crate) use survey::are_images;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The largest image that is decoded, in pixels: 64 megapixels.
pub const MAX_IMAGE_PIXELS: u64 = 64_000_000;
/// The largest [`ImageShape::size`] that can be asked for.
pub const MAX_IMAGE_SIZE: usize = 2048;

/// The pixels of a square image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageShape {
    /// Height and width in pixels.
    pub size: usize,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
}

impl ImageShape {
    /// Checks that there may be such images.
    ///
    /// # Errors
    /// [`Error::Value`].
    pub fn validate(&self) -> Result<()> {
        match self.fault(MAX_IMAGE_SIZE) {
            Some((key, found, expected)) => {
                Err(Error::value(format!("images of {key} {found}"), expected))
            }
            None => Ok(()),
        }
    }

    /// What is impossible about it: the key, its value, and what it may be.
    fn fault(&self, largest: usize) -> Option<(&'static str, usize, String)> {
        if !(1..=largest).contains(&self.size) {
            return Some(("size", self.size, format!("1 to {largest}")));
        }
        match self.channels {
            1 | 3 => None,
            other => Some(("channels", other, "1 or 3".into())),
        }
    }

    /// Bytes of an image, one a pixel and channel.
    pub fn bytes(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// The shape that is kept of images of many sizes: an eighth more than is seen, so that training
    /// may crop and evaluation take the centre. The usual 256 for 224. Of an odd difference, the
    /// centre is rounded down by transformers and to an even number by torchvision: one pixel more
    /// where these are not the same.
    fn with_margin(self) -> Self {
        let size = (self.size * 8).div_ceil(7);
        let odd = (size - self.size) % 4 == 3;
        Self { size: size + usize::from(odd), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        let message = |size, channels| {
            ImageShape { size, channels }.validate().map_err(|error| error.to_string())
        };
        assert!(message(1, 1).is_ok() && message(2048, 3).is_ok());
        assert_eq!(message(0, 3).unwrap_err(), "images of size 0, expected: 1 to 2048");
        assert_eq!(message(2049, 3).unwrap_err(), "images of size 2049, expected: 1 to 2048");
        assert_eq!(message(8, 4).unwrap_err(), "images of channels 4, expected: 1 or 3");
    }

    #[test]
    fn the_margin_is_the_usual_one() {
        let size = |size| ImageShape { size, channels: 3 }.with_margin().size;
        assert_eq!([224, 28, 32, 1, 18].map(size), [256, 32, 37, 2, 22]);
    }
}
