//! What can go wrong between a file of images and a set of them.

use std::path::PathBuf;

use super::summary::NAMED;
use super::{MAX_IMAGE_PIXELS, SkippedImage};

/// What can go wrong between a file of images and a set of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// There are no such images.
    #[error("images of {key} {found}, expected: {expected}")]
    Shape {
        /// `size` or `channels`.
        key: &'static str,
        /// What it is.
        found: usize,
        /// What it may be.
        expected: String,
    },
    /// `data.path` is a file.
    #[error("`{}` is a file, expected: a folder of images", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// Folders whose images cannot be joined.
    #[error("`{}` cannot be joined with others: expected {expected}", path.display())]
    Joined {
        /// The folder that differs.
        path: PathBuf,
        /// What it should have.
        expected: &'static str,
    },
    /// A folder holds no images that are known as such.
    #[error("no images in `{}`", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// A row of a `.parquet` file has no class.
    #[error(
        "`{file}`, row {row}: the label is {found}, expected: a number of a class, or its name"
    )]
    NoLabel {
        /// The file.
        file: String,
        /// The row, from 1.
        row: usize,
        /// What its label is.
        found: String,
    },
    /// Fewer images than a batch has.
    #[error("{found} training images; a batch has {needed}")]
    TooFew {
        /// The images.
        found: usize,
        /// What a batch needs.
        needed: usize,
    },
    /// There is nothing to tell apart.
    #[error("`{}` has images of one class, `{class}`, expected: at least two", path.display())]
    OneClass {
        /// The folder.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// A held-out class that is not trained on.
    #[error("`{}` has a class `{class}`, which is not in `train`", path.display())]
    UnknownClass {
        /// The folder of the held-out images.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// Held-out images without training images.
    #[error(
        "`{}` has held-out images in `{}`, expected: training images in a folder `train` beside it",
        path.display(), folder.display()
    )]
    NoTrain {
        /// The folder of the data.
        path: PathBuf,
        /// The folder of the held-out images.
        folder: PathBuf,
    },
    /// The images of the splits are in no folders of classes.
    #[error(
        "`{}`: images lie right in {}, expected: a folder per class in each",
        path.display(), quoted(folders)
    )]
    NoClasses {
        /// The folder of the data.
        path: PathBuf,
        /// The folders of the splits in it.
        folders: Vec<String>,
    },
    /// A set lacks a file.
    #[error("`{}` has no `{name}`", folder.display())]
    Missing {
        /// The folder of the set.
        folder: PathBuf,
        /// The file.
        name: String,
    },
    /// More than one set lies below the folder.
    #[error(
        "there is a set of images in `{}` and in `{}`, expected: one",
        folders[0].display(), folders[1].display()
    )]
    TwoSets {
        /// The first two folders with a set.
        folders: [PathBuf; 2],
    },
    /// A list of class names does not serve.
    #[error("class names `{}`: {reason}", path.display())]
    ClassNames {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not what its name says.
    #[error("`{}` starts with 0x{found:08x}, expected: 0x{expected:08x}", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The first four bytes, big-endian.
        found: u32,
        /// The magic.
        expected: u32,
    },
    /// A file of images has images of an impossible size.
    #[error(
        "`{}` has images of {rows} by {columns} pixels, expected: 1 to {} pixels",
        path.display(), MAX_IMAGE_PIXELS
    )]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// Their height by the header.
        rows: u32,
        /// Their width by the header.
        columns: u32,
    },
    /// A file ends before its header says.
    #[error("`{}` ends after {found} bytes, expected: {expected} (its header)", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes that it holds, unpacked.
        found: u64,
        /// Bytes by its header, or of its header.
        expected: u128,
    },
    /// A file goes on after its end.
    #[error("`{}` goes on after {expected} bytes (its header)", path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// Bytes by its header.
        expected: u128,
    },
    /// A file is no list of records.
    #[error("`{}` has {found} bytes, expected: records of {record}", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// Bytes of a record.
        record: usize,
    },
    /// There are more images than labels, or fewer.
    #[error(
        "`{}` has {images} images and `{}` {labels} labels", images_path.display(),
        labels_path.display()
    )]
    Count {
        /// The file of the images.
        images_path: PathBuf,
        /// Images in it.
        images: usize,
        /// The file of the labels.
        labels_path: PathBuf,
        /// Labels in it.
        labels: usize,
    },
    /// A label is no class.
    #[error("`{}`: the label of image {index} is {found}, expected: below {classes}", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The image, from 0.
        index: usize,
        /// Its label.
        found: u32,
        /// The number of classes.
        classes: usize,
    },
    /// More images are bad than may be.
    #[error("{}", bad_images(*bad, *total, *allowed, first))]
    BadImages {
        /// Number of undecodable images found. There may be more if reading stopped early.
        bad: usize,
        /// Images in all.
        total: usize,
        /// The share that may be bad; under `data.strict` there is none.
        allowed: Option<f64>,
        /// The first of them.
        first: Vec<SkippedImage>,
    },
    /// A split holds no image.
    #[error(
        "no image is left for `{split}` out of {images}{}",
        if *copies > 0 { format!("; {copies} held-out images are training images too") }
        else { String::new() }
    )]
    EmptySplit {
        /// `train` or `held_out`.
        split: &'static str,
        /// Images in both splits.
        images: usize,
        /// Held-out images that were dropped, because they are training images too.
        copies: usize,
    },
}

impl ImageError {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotAFolder { .. } => "name the folder that it lies in".into(),
            Self::NoImages { .. } => {
                "images lie in a folder per class (PNG, JPEG or WebP; `CLASS/…`, or `train/CLASS/…` \
                 and `val/CLASS/…`), in the files of MNIST (`train-images-idx3-ubyte`) or CIFAR \
                 (`data_batch_1.bin`), or in `.parquet` files with columns of images and labels"
                    .into()
            }
            Self::NoLabel { .. } => {
                "files without labels, such as those of a hidden test, are left out by naming a folder \
                 without them"
                    .into()
            }
            Self::OneClass { .. } => {
                "images lie in a folder per class: name the folder that holds those".into()
            }
            Self::NoTrain { .. } => {
                "to train on these images, name their folder in `data.path`".into()
            }
            Self::NoClasses { .. } => {
                "a class is told by its folder: `train/CLASS/1.jpg`, `test/CLASS/2.jpg`".into()
            }
            Self::UnknownClass { .. } => {
                "give the class training images, or move its folder away".into()
            }
            Self::TwoSets { .. } => "name one of them in `data.path`".into(),
            Self::Magic { .. }
            | Self::Dimensions { .. }
            | Self::Short { .. }
            | Self::Long { .. }
            | Self::Records { .. }
            | Self::Count { .. } => "it is damaged, or not what its name says".into(),
            Self::Label { .. } => {
                "it is damaged, or a list of class names lies beside it that is not its own: \
                 `classes.txt` for IDX files, `batches.meta.txt` for CIFAR-10, \
                 `fine_label_names.txt` for CIFAR-100"
                    .into()
            }
            Self::BadImages { allowed: None, .. } => {
                "repair them, or remove `data.strict` to skip them".into()
            }
            Self::BadImages { .. } => {
                "repair or remove them, or raise `data.max_bad_images` to skip more of them".into()
            }
            Self::EmptySplit { .. } => "give more images, or change `data.held_out`".into(),
            _ => return None,
        };
        Some(text)
    }
}

/// The message of [`ImageError::BadImages`], with the first of them below it.
fn bad_images(bad: usize, total: usize, allowed: Option<f64>, first: &[SkippedImage]) -> String {
    let images = if bad == 1 { "image is" } else { "images are" };
    // Reading stops once there are enough to name.
    let least = if bad < NAMED { "" } else { "at least " };
    let mut text = match allowed {
        Some(share) => {
            format!(
                "{least}{bad} {images} bad out of {total}, more than `data.max_bad_images` = {share} allows:"
            )
        }
        None => format!("{least}{bad} {images} bad out of {total}, `data.strict` allows none:"),
    };
    for image in first {
        text.push_str(&format!("\n  {image}"));
    }
    if bad > first.len() {
        text.push_str(&format!("\n  and {} more", bad - first.len()));
    }
    text
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
