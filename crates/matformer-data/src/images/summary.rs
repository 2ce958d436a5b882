//! What a prepared folder of images holds, and what became of the images on the way.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ImageLayout;
use crate::error::too_many;
use crate::{Error, Hash, Result};

/// Images that are named; the rest are counted.
pub(super) const NAMED: usize = 5;
/// Goes into the key: a folder of another version is never reused.
pub(super) const FORMAT_VERSION: u32 = 4;
/// Written last before the folder is published.
pub(super) const SUMMARY: &str = "summary.json";
/// Files of each split: its images, and their names as a JSON list.
pub(super) const TRAIN: [&str; 2] = ["train.bin", "train.names.json"];
pub(super) const HELD_OUT: [&str; 2] = ["held_out.bin", "held_out.names.json"];

/// What a prepared folder of images holds: `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSummary {
    /// Version of the folder's format.
    pub format_version: u32,
    /// Hash over the class names and the labels and pixels of both splits. Accuracies are comparable
    /// at equal hash only.
    pub data_hash: Hash,
    /// How the images lay in their folder.
    pub layout: ImageLayout,
    /// The names of the classes; labels are places in this list.
    pub classes: Vec<String>,
    /// 1 for grey, 3 for red, green and blue.
    pub channels: usize,
    /// Height and width that are kept; may be more than a model sees.
    pub size: usize,
    /// The images to train on.
    pub train: SplitImages,
    /// The held-out images.
    pub held_out: SplitImages,
    /// Whether the data came with held-out images; otherwise they were split off.
    pub own_held_out: bool,
    /// The folder of the held-out images, where they lie in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_folder: Option<String>,
    /// What became of the pixels.
    pub pixels: PixelSizes,
    /// Images with the same pixels as others.
    pub copies: Copies,
    /// Images that could not be decoded or have no label.
    pub skipped: Skipped,
    /// Images whose files lack their end, but no pixel. They are used.
    pub unended: Unended,
    /// Folders of images that were not read: neither training nor held-out images.
    pub unread: Vec<UnreadFolder>,
    /// Other files that were not read: they are no image, or lie in no folder of a class.
    pub ignored: usize,
    /// Where the images are of several folders, what the names of each folder's begin with, before a
    /// `/`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
}

/// The images of one split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitImages {
    /// How many there are.
    pub images: usize,
    /// The classes that none of them is of.
    pub empty_classes: Vec<String>,
}

/// What became of the pixels of all images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelSizes {
    /// Images whose size was the one that is kept.
    pub as_they_are: usize,
    /// Images whose short side was resized, and whose middle is kept.
    pub resized: usize,
    /// The sizes of most of them.
    pub most: Vec<Resized>,
}

/// Images of one size that were resized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resized {
    /// Their width.
    pub width: usize,
    /// Their height.
    pub height: usize,
    /// How many there are.
    pub images: usize,
}

impl fmt::Display for Resized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}×{}", self.images, self.width, self.height)
    }
}

/// Images with the same pixels as others, as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copies {
    /// Images that are the same as one before them.
    pub images: usize,
    /// Held-out images that were dropped, because they are training images too.
    pub dropped: usize,
    /// The same of a published set (IDX, CIFAR), which is kept whole, so that results on it compare.
    pub in_both: usize,
    /// The first of the images that are dropped or in both splits, with the training image.
    pub first: Option<ImagePair>,
    /// Images that are the same as one of another class.
    pub in_two_classes: usize,
    /// The first few of them.
    pub of_two_classes: Vec<ImagePair>,
}

/// The names of two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePair {
    /// The one that comes first.
    pub first: String,
    /// The other.
    pub second: String,
}

impl fmt::Display for ImagePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` and `{}`", self.first, self.second)
    }
}

/// Images that could not be decoded or have no label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// How many there are.
    pub images: usize,
    /// The first five of them.
    pub first: Vec<SkippedImage>,
}

impl Skipped {
    /// Checks that they are not too many of `images`.
    ///
    /// # Errors
    /// [`Error::Images`].
    pub(super) fn check(&self, images: usize, allowed: Option<f64>) -> Result<()> {
        if self.images as f64 <= allowed.unwrap_or(0.0) * images as f64 {
            return Ok(());
        }
        let hint = match allowed {
            None => "repair them, or remove `data.strict` to skip them",
            Some(_) => "repair or remove them, or raise `data.max_bad_images` to skip more of them",
        };
        Err(Error::images(self.too_many(images, allowed), hint))
    }

    /// That they are too many, with the first of them below.
    fn too_many(&self, total: usize, allowed: Option<f64>) -> String {
        let Self { images: bad, first } = self;
        let images = if *bad == 1 { "image is" } else { "images are" };
        // Reading stops once there are enough to name.
        let least = if *bad < NAMED { "" } else { "at least " };
        let said = format!("{least}{bad} {images} bad out of {total}");
        too_many(&said, ("data.max_bad_images", allowed), *bad, first)
    }
}

/// An image that could not be decoded or has no label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkippedImage {
    /// Its path from the folder of the data.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for SkippedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.name, self.reason)
    }
}

/// Images whose files lack their end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unended {
    /// How many there are.
    pub images: usize,
    /// The first of them.
    pub first: Option<String>,
}

/// A folder of images that is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnreadFolder {
    /// Its path from the folder of the data, with a `/` behind it.
    pub name: String,
    /// The images below it.
    pub images: usize,
}

impl fmt::Display for UnreadFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = if self.images == 1 { "image" } else { "images" };
        write!(f, "`{}` ({} {images})", self.name, self.images)
    }
}
