//! From images to a folder of memory-mapped pixels, made once and reused.

use std::fmt;
use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde::{Deserialize, Serialize};

use super::decode::Decoder;
use super::find;
use super::found::{self, Found, ImageLayout, Images};
use super::set::{ImageSet, SetWriter, fault_of};
use super::split::split;
use super::{ImageConfig, ImageError, ImageShape, SetFault};
use crate::fetch::Content;
use crate::hash::Hasher;
use crate::held_out::numbered;
use crate::progress::{Progress, Stage};
use crate::{Error, Hash, Result, Source, cache, fetch};

/// Goes into the key: a folder of another version is never reused.
const FORMAT_VERSION: u32 = 2;
/// Written last before the folder is published.
const SUMMARY: &str = "summary.json";
/// Of each split its images, and their names as a JSON list.
const TRAIN: [&str; 2] = ["train.bin", "train.names.json"];
const HELD_OUT: [&str; 2] = ["held_out.bin", "held_out.names.json"];
/// What every prepared folder has.
const FILES: [&str; 5] = [SUMMARY, TRAIN[0], TRAIN[1], HELD_OUT[0], HELD_OUT[1]];
/// The share of the images that may be bad.
const MAX_BAD: f64 = 0.01;
/// Bad images that are named; the rest are counted.
const NAMED: usize = 5;

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
    /// Images that could not be decoded.
    pub skipped: Skipped,
    /// Files that were not read: they are no image, or lie in no folder of a class that is used.
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

/// Images that could not be decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// How many there are.
    pub images: usize,
    /// The first five of them.
    pub first: Vec<SkippedImage>,
}

/// An image that could not be decoded.
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

/// A folder with `train.bin`, `held_out.bin`, the names of the images in both, and `summary.json`.
#[derive(Debug, Clone)]
pub struct PreparedImages {
    dir: PathBuf,
    /// Whether the folder was there already.
    pub reused: bool,
    /// What the folder holds.
    pub summary: ImageSummary,
}

/// Reads the images that `config` names, fetching a named source into `cache`, and writes them as
/// pixels into a folder in `folder`, which may be `cache`, that is named by a hash of the files and of what is made of them:
/// their names, sizes and times where each holds an image, and their contents where they hold many.
/// What is there already, or in `cache`, is reused; what is not appears by one rename.
///
/// Images become squares in the channels of `shape`. Where all of them have its size they are kept as
/// they are; otherwise the short side becomes 8/7 of it, rounded up, and the middle is kept, so that
/// training may crop and evaluation take the centre. Transparent images are laid over white, grey is
/// the luma of ITU-R BT.709, and a photograph that says how it was held is turned upright.
///
/// Memory stays bounded: pixels go to the file as they are decoded. `progress` counts bytes of the
/// images' files.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) and [`ImageError::Shape`] for what cannot be asked for; [`Error::File`](crate::Error::File) for a path
/// that is not there, or files that cannot be read or written; [`ImageError`] for what is wrong with
/// the files, among it [`ImageError::BadImages`] for more than 1 % of images that cannot be decoded.
pub fn prepare_images(
    config: &ImageConfig,
    shape: ImageShape,
    cache: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedImages> {
    config.validate()?;
    shape.validate()?;
    let mut roots = Vec::new();
    for source in config.sources()? {
        roots.push(locate(source, cache, progress)?);
    }
    progress(Progress { stage: Stage::Images, done: 0, total: 0 });
    let found = find::find(&roots)?;
    let key = key(&found, config, shape)?.short();
    let there = cache.join(&key);
    if cache::missing(&there, &FILES).is_none() {
        return PreparedImages::open(&there)?.allowed_by(config);
    }
    let dir = folder.join(&key);
    match cache::missing(&dir, &FILES) {
        None => return PreparedImages::open(&dir)?.allowed_by(config),
        Some(file) if dir.exists() => {
            tracing::warn!("`{}` has no `{file}` and is prepared again", dir.display());
        }
        Some(_) => {}
    }
    cache::enter(folder)?;
    let scratch = fs::scratch_dir(&dir)?;
    write(&found, config, found::kept_shape(&found, shape), scratch.path(), progress)?;
    cache::publish(scratch.path(), &dir, &FILES)?;
    Ok(PreparedImages { reused: false, ..PreparedImages::open(&dir)? })
}

impl PreparedImages {
    /// Opens a folder that [`prepare_images`] wrote.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it is not there, [`Error::Cache`](crate::Error::Cache) if its summary is of another format.
    pub fn open(dir: &Path) -> Result<Self> {
        let summary =
            cache::read_summary(&dir.join(SUMMARY), FORMAT_VERSION, |summary: &ImageSummary| {
                summary.format_version
            })?;
        Ok(Self { dir: dir.into(), reused: true, summary })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hash over the class names and the labels and pixels of both splits.
    pub fn data_hash(&self) -> Hash {
        self.summary.data_hash
    }

    /// The images to train on.
    ///
    /// # Errors
    /// As [`ImageSet::open`]; [`SetFault::Other`] if the file is not what the summary says.
    pub fn train(&self) -> Result<ImageSet> {
        self.set(TRAIN[0], &self.summary.train)
    }

    /// The held-out images. Where the data is of several folders, images of one name show the same
    /// thing, as two drawings of one emoji do, and are a cluster.
    ///
    /// # Errors
    /// As [`train`](Self::train) and [`held_out_names`](Self::held_out_names).
    pub fn held_out(&self) -> Result<ImageSet> {
        let set = self.set(HELD_OUT[0], &self.summary.held_out)?;
        if self.summary.folders.is_empty() {
            return Ok(set);
        }
        let names = self.held_out_names()?;
        let inside = names.iter().map(|name| name.split_once('/').map(|(_, name)| name));
        Ok(set.with_clusters(numbered(inside).collect()))
    }

    /// The names of the images to train on, in their order: paths from the folder of the data, and
    /// `FILE:PLACE` where a file holds many.
    ///
    /// # Errors
    /// If they cannot be read, or are not as many as the images.
    pub fn train_names(&self) -> Result<Vec<String>> {
        self.names(TRAIN[1], &self.summary.train)
    }

    /// The names of the held-out images.
    ///
    /// # Errors
    /// As [`train_names`](Self::train_names).
    pub fn held_out_names(&self) -> Result<Vec<String>> {
        self.names(HELD_OUT[1], &self.summary.held_out)
    }

    fn names(&self, file: &str, split: &SplitImages) -> Result<Vec<String>> {
        let path = self.dir.join(file);
        let names: Vec<String> = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| Error::Cache { path: path.clone(), reason: error.to_string() })?;
        match names.len() == split.images {
            true => Ok(names),
            false => {
                let reason = format!("{} names of {} images", names.len(), split.images);
                Err(Error::Cache { path, reason })
            }
        }
    }

    fn set(&self, file: &str, split: &SplitImages) -> Result<ImageSet> {
        let path = self.dir.join(file);
        let set = ImageSet::open(&path, self.summary.classes.clone())?;
        for (key, found, expected) in [
            ("images", set.len(), split.images),
            ("size", set.size(), self.summary.size),
            ("channels", set.channels(), self.summary.channels),
        ] {
            if found != expected {
                return Err(fault_of(&path, SetFault::Other { key, found, expected }));
            }
        }
        Ok(set)
    }

    /// A folder that was made without `strict` may have skipped what it does not allow.
    fn allowed_by(self, config: &ImageConfig) -> Result<Self> {
        let Skipped { images: bad, first } = &self.summary.skipped;
        if config.strict && *bad > 0 {
            let (bad, first) = (*bad, first.clone());
            let total = bad + self.summary.train.images + self.summary.held_out.images;
            return Err(ImageError::BadImages { bad, total, allowed: None, first }.into());
        }
        Ok(self)
    }
}

/// The folder of the images.
fn locate(source: &Source, cache: &Path, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    match source {
        Source::Path(path) => Ok(path.clone()),
        Source::Hub(name) => Err(ImageError::Hub { name: name.clone() }.into()),
        Source::Fetched(name) => fetch::folder(cache, name, Content::Images, true, progress),
    }
}

/// Names the folder: everything that its contents depend on.
fn key(found: &Found, config: &ImageConfig, shape: ImageShape) -> Result<Hash> {
    let mut hasher = Hasher::default();
    hasher.part("images").part(FORMAT_VERSION.to_le_bytes());
    hasher.part(shape.size.to_le_bytes()).part(shape.channels.to_le_bytes());
    hasher.part(found.classes.len().to_le_bytes());
    for class in &found.classes {
        hasher.part(class);
    }
    hasher.part(found.ignored.to_le_bytes());
    found.train.fingerprint(&mut hasher)?;
    match &found.held_out {
        Some(held_out) => held_out.fingerprint(&mut hasher)?,
        None => {
            hasher.part("share").part(config.held_out.to_bits().to_le_bytes());
        }
    }
    Ok(hasher.finish())
}

/// Writes both splits and the summary.
fn write(
    found: &Found,
    config: &ImageConfig,
    shape: ImageShape,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let splits = match &found.held_out {
        Some(own) => [&found.train, own].map(|images| (images, (0..images.len()).collect())),
        None => {
            let name = |index| found.train.name_inside(index);
            let splits = split(&found.train.labels, config.held_out, name);
            splits.map(|indices| (&found.train, indices))
        }
    };
    let mut writing = Writing::new(found, config, &splits, progress);
    let decoder = Decoder::new(shape);
    let [train, held_out] = &splits;
    let train = writing.split("train", &decoder, train, TRAIN.map(|file| folder.join(file)))?;
    let held_out =
        writing.split("held_out", &decoder, held_out, HELD_OUT.map(|file| folder.join(file)))?;
    let summary = ImageSummary {
        format_version: FORMAT_VERSION,
        data_hash: writing.hasher.finish(),
        layout: found.layout,
        classes: found.classes.clone(),
        channels: shape.channels,
        size: shape.size,
        train,
        held_out,
        own_held_out: found.held_out.is_some(),
        skipped: writing.skipped(),
        ignored: found.ignored,
        folders: found.folders.clone(),
    };
    cache::write_json(&folder.join(SUMMARY), &summary)
}

/// The images of a split, by their places among all that were found.
type Places<'a> = (&'a Images, Vec<usize>);

/// What goes on over both splits.
struct Writing<'a> {
    classes: &'a [String],
    /// Images in both splits, good or bad.
    images: usize,
    /// The share of them that may be bad, if any may.
    allowed: Option<f64>,
    skipped: Skipped,
    hasher: Hasher,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Writing<'a> {
    fn new(
        found: &'a Found,
        config: &ImageConfig,
        splits: &[Places<'_>; 2],
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let mut hasher = Hasher::default();
        hasher.part(found.classes.len().to_le_bytes());
        for class in &found.classes {
            hasher.part(class);
        }
        Self {
            classes: &found.classes,
            images: splits.iter().map(|(_, places)| places.len()).sum(),
            allowed: (!config.strict).then_some(MAX_BAD),
            skipped: Skipped::default(),
            hasher,
            done: 0,
            total: splits.iter().map(|(images, places)| images.bytes(places)).sum(),
            progress,
        }
    }

    /// Decodes the images of one split into a file, and their names into another.
    fn split(
        &mut self,
        split: &'static str,
        decoder: &Decoder,
        (images, places): &Places<'_>,
        [path, names_path]: [PathBuf; 2],
    ) -> Result<SplitImages> {
        let mut writer = SetWriter::create(&path, decoder.shape(), self.classes.len())?;
        let mut names = Vec::with_capacity(places.len());
        let mut counts = vec![0_usize; self.classes.len()];
        self.hasher.part(split);
        images.decode(places, decoder, &mut |place, bytes, decoded| {
            let index = places[place];
            match decoded {
                Ok(pixels) => {
                    let label = images.labels[index];
                    counts[label as usize] += 1;
                    self.hasher.part(label.to_le_bytes()).part(&pixels);
                    writer.push(label as usize, &pixels)?;
                    names.push(images.name(index));
                }
                Err(reason) => self.skip(SkippedImage { name: images.name(index), reason })?,
            }
            self.report(bytes);
            Ok(())
        })?;
        writer.finish()?;
        cache::write_json(&names_path, &names)?;
        let empty = self.classes.iter().zip(&counts).filter(|(_, count)| **count == 0);
        let empty_classes = empty.map(|(class, _)| class.clone()).collect();
        match counts.iter().sum::<usize>() {
            0 => Err(ImageError::EmptySplit { split, images: self.images }.into()),
            images => Ok(SplitImages { images, empty_classes }),
        }
    }

    /// Counts an image that could not be decoded.
    ///
    /// # Errors
    /// [`ImageError::BadImages`] as soon as there are more of them than may be.
    fn skip(&mut self, image: SkippedImage) -> Result<()> {
        self.skipped.images += 1;
        if self.skipped.first.len() < NAMED {
            self.skipped.first.push(image);
        }
        let (bad, total, allowed) = (self.skipped.images, self.images, self.allowed);
        if bad as f64 > allowed.unwrap_or(0.0) * total as f64 {
            let first = self.skipped.first.clone();
            return Err(ImageError::BadImages { bad, total, allowed, first }.into());
        }
        Ok(())
    }

    fn report(&mut self, bytes: u64) {
        self.done += bytes;
        let (done, total) = (self.done as usize, self.total as usize);
        (self.progress)(Progress { stage: Stage::Images, done, total });
    }

    /// The images that were skipped, after a warning that names the first of them.
    fn skipped(&self) -> Skipped {
        for image in &self.skipped.first {
            tracing::warn!("skipped {image}");
        }
        if self.skipped.images > self.skipped.first.len() {
            let more = self.skipped.images - self.skipped.first.len();
            tracing::warn!("skipped {more} more images");
        }
        self.skipped.clone()
    }
}
