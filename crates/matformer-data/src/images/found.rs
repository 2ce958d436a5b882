//! What lies in a folder of image data: classes, labels, and images that are not decoded yet.

use std::fmt;
use std::path::{Path, PathBuf};

use matformer_core::fs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokenizers::normalizers::NFC;
use tokenizers::{NormalizedString, Normalizer};

use super::decode::{self, Decoder, Raster};
use super::in_order::{InOrder, Sink};
use super::listing::Listed;
use super::packed::Packed;
use super::tables::Tables;
use super::{ImageShape, UnreadFolder};
use crate::{Error, Result};

/// How image data lies in its folder: see [`images`](crate::images).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageLayout {
    /// The files of MNIST.
    Idx,
    /// CIFAR-10, binary.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// CIFAR-100, binary.
    #[serde(rename = "cifar-100")]
    Cifar100,
    /// `.parquet` files with columns of images and labels.
    Parquet,
    /// A folder per class.
    Folders,
}

impl fmt::Display for ImageLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idx => "IDX files",
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
            Self::Parquet => "parquet files",
            Self::Folders => "a folder per class",
        })
    }
}

/// Image data before it is decoded.
#[derive(Debug)]
pub(super) struct Found {
    /// How it lies there.
    pub layout: ImageLayout,
    /// Class names; labels are indices into this list.
    pub classes: Vec<String>,
    /// The images to train on; all of them where there are no others.
    pub train: Images,
    /// The held-out images, where the data has its own.
    pub held_out: Option<Images>,
    /// The folder of the held-out images, where there is one beside that of the training images.
    pub held_out_folder: Option<String>,
    /// Folders with images that are not used.
    pub unread: Vec<UnreadFolder>,
    /// Other files that are not used: no image, or in no folder of a class.
    pub ignored: usize,
    /// What stands before the names of the images of each folder, where there are several.
    pub folders: Vec<String>,
}

impl Found {
    /// Images, and nothing beside them.
    pub(super) fn new(
        layout: ImageLayout,
        classes: Vec<String>,
        train: Images,
        held_out: Option<Images>,
    ) -> Self {
        Self {
            layout,
            classes,
            train,
            held_out,
            held_out_folder: None,
            unread: Vec::new(),
            ignored: 0,
            folders: Vec::new(),
        }
    }

    /// All images.
    pub(super) fn images(&self) -> impl Iterator<Item = &Images> {
        [Some(&self.train), self.held_out.as_ref()].into_iter().flatten()
    }
}

/// A name in Unicode's composed form (NFC): file systems and programs differ in the form that they
/// give, and the same name must be the same class.
pub fn composed(name: &str) -> String {
    let mut text = NormalizedString::from(name);
    match NFC.normalize(&mut text) {
        Ok(()) => text.get().to_owned(),
        Err(_) => name.to_owned(),
    }
}

/// Images with labels.
#[derive(Debug)]
pub(super) struct Images {
    /// The class of each image.
    pub labels: Vec<u32>,
    pixels: Pixels,
}

/// Where the pixels of images are.
#[derive(Debug)]
enum Pixels {
    /// In a file for each image, below one of these folders.
    Files { roots: Vec<Root>, files: Vec<(usize, Listed)> },
    /// In files of many images.
    Packed(Packed),
    /// In columns of `.parquet` files.
    Tables(Tables),
}

/// A folder of images.
#[derive(Debug, Clone)]
struct Root {
    path: PathBuf,
    /// What tells its images from those of other folders: empty where there are none.
    prefix: String,
}

/// The names in a file, a line each; empty lines are passed over.
///
/// # Errors
/// A file that cannot be read, [`Error::Images`] if a name is there twice.
pub(super) fn class_names(path: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in fs::read_to_string(path)?.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let name = composed(name);
        if names.contains(&name) {
            let problem = format!("class names `{}`: `{name}` is there twice", path.display());
            return Err(Error::images(problem, "each class has a line and a name of its own"));
        }
        names.push(name);
    }
    Ok(names)
}

impl Images {
    /// Images in files of their own, below `root`.
    pub(super) fn files(root: &Path, files: Vec<(Listed, u32)>) -> Self {
        let roots = vec![Root { path: root.into(), prefix: String::new() }];
        let (files, labels) = files.into_iter().map(|(file, label)| ((0, file), label)).unzip();
        Self { labels, pixels: Pixels::Files { roots, files } }
    }

    /// None yet.
    pub(super) fn none() -> Self {
        Self { labels: Vec::new(), pixels: Pixels::Files { roots: Vec::new(), files: Vec::new() } }
    }

    /// Adds images in files of their own; `place` gives their labels here.
    pub(super) fn join(&mut self, other: Self, prefix: &str, place: &dyn Fn(u32) -> u32) {
        let (Pixels::Files { roots, files }, Pixels::Files { roots: theirs, files: more }) =
            (&mut self.pixels, other.pixels)
        else {
            return;
        };
        let first = roots.len();
        roots.extend(theirs.into_iter().map(|root| Root { prefix: prefix.to_owned(), ..root }));
        files.extend(more.into_iter().map(|(root, file)| (first + root, file)));
        self.labels.extend(other.labels.into_iter().map(place));
    }

    /// Images in files of many, as many as there are labels.
    pub(super) fn packed(labels: Vec<u32>, packed: Packed) -> Self {
        debug_assert_eq!(labels.len(), packed.len());
        Self { labels, pixels: Pixels::Packed(packed) }
    }

    /// Images in `.parquet` files, as many as there are labels.
    pub(super) fn tables(labels: Vec<u32>, tables: Tables) -> Self {
        Self { labels, pixels: Pixels::Tables(tables) }
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The name of an image, without a machine's path: of several folders, its folder's name first.
    pub(super) fn name(&self, index: usize) -> String {
        let prefix = match &self.pixels {
            Pixels::Files { roots, files } => {
                files.get(index).map_or("", |(root, _)| &roots[*root].prefix)
            }
            Pixels::Packed(_) | Pixels::Tables(_) => "",
        };
        format!("{prefix}{}", self.name_inside(index))
    }

    /// The name of an image in its folder: that of others in other folders, perhaps.
    pub(super) fn name_inside(&self, index: usize) -> String {
        match &self.pixels {
            Pixels::Files { files, .. } => {
                files.get(index).map(|(_, file)| file.name()).unwrap_or_default()
            }
            Pixels::Packed(packed) => packed.name(index),
            Pixels::Tables(tables) => tables.name(index),
        }
    }

    /// The bytes of the images, as their files have them.
    pub(super) fn bytes(&self) -> u64 {
        match &self.pixels {
            Pixels::Files { files, .. } => files.iter().map(|(_, file)| file.bytes).sum(),
            Pixels::Packed(packed) => packed.bytes(),
            Pixels::Tables(tables) => tables.bytes(),
        }
    }

    /// What the headers of up to `most` images say, spread evenly; those that cannot be read are left out.
    pub(super) fn sample(&self, most: usize) -> Vec<Raster> {
        match &self.pixels {
            Pixels::Files { roots, files } => {
                let step = files.len().div_ceil(most).max(1);
                let sample: Vec<_> = files.iter().step_by(step).collect();
                let header = |(root, file): &&(usize, Listed)| {
                    decode::header(&roots[*root].path.join(&file.inside))
                };
                sample.par_iter().filter_map(header).collect()
            }
            Pixels::Packed(packed) => packed.sample(most),
            Pixels::Tables(tables) => tables.sample(),
        }
    }

    /// Decodes the images, some at once, and hands them over in order.
    ///
    /// # Errors
    /// What `sink` returns; a file of many images that cannot be read, or is of another length than
    /// it says.
    pub(super) fn decode(&self, decoder: &Decoder, sink: &mut Sink<'_>) -> Result<()> {
        let (roots, files) = match &self.pixels {
            Pixels::Packed(packed) => return packed.decode(decoder, sink),
            Pixels::Tables(tables) => return tables.decode(decoder, sink),
            Pixels::Files { roots, files } => (roots, files),
        };
        let mut images = InOrder::new(decoder, sink, |(root, file): &(usize, Listed)| {
            decoder.file(&roots[*root].path.join(&file.inside))
        });
        for file in files {
            images.push(file, file.1.bytes, 0)?;
        }
        images.flush()
    }
}

/// The shape that is kept of images, of which models see `shape`: the same where most of them have its
/// size, so that a few odd ones do not change the rest, and more otherwise.
pub(super) fn kept_shape(found: &Found, shape: ImageShape) -> ImageShape {
    let sizes: Vec<Raster> = found.images().flat_map(|images| images.sample(usize::MAX)).collect();
    let fits = |raster: &&Raster| (raster.rows, raster.columns) == (shape.size, shape.size);
    let same = sizes.iter().filter(fits).count();
    if same > sizes.len() - same { shape } else { shape.with_margin() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_composed() {
        assert_eq!(composed("cafe\u{301}"), "caf\u{e9}");
        assert_eq!(
            composed("\u{fb01}sh \u{2460}"),
            "\u{fb01}sh \u{2460}",
            "not what only looks alike"
        );
    }
}
