//! From images to a folder of memory-mapped pixels, made once and reused.

use std::path::{Path, PathBuf};

use matformer_core::fs;

use super::find;
use super::found;
use super::listing::{Listed, Listing};
use super::set::{ImageSet, fault_of, other};
use super::summary::{FORMAT_VERSION, HELD_OUT, SUMMARY, TRAIN};
use super::{ImageConfig, ImageShape, ImageSummary, SplitImages, writing};
use crate::hash::Hasher;
use crate::held_out::numbered;
use crate::hub::{self, Hub};
use crate::progress::{Progress, Stage};
use crate::record::{self, Turn};
use crate::{Error, Hash, HubName, PassedOver, Result, Source, cache, format, splits};

/// What every prepared folder has.
const FILES: [&str; 5] = [SUMMARY, TRAIN[0], TRAIN[1], HELD_OUT[0], HELD_OUT[1]];

/// A folder with `train.bin`, `held_out.bin`, the names of the images in both, and `summary.json`.
#[derive(Debug, Clone)]
pub struct PreparedImages {
    dir: PathBuf,
    /// Whether the folder was there already.
    pub reused: bool,
    /// What the folder holds.
    pub summary: ImageSummary,
    /// What was passed over when the images were found; nothing of a folder that was opened
    /// ([`PreparedImages::open`]).
    pub notes: Vec<String>,
}

/// Reads the images that `config` names, fetching a named source into `cache`, and writes them as
/// pixels into a folder of `cache` that is named by a hash of what is made of them, and of the paths, sizes and times
/// of the files.
/// What is there already is reused; what is not appears by one rename. Of several processes that prepare the same,
/// one does, and the others wait for it. No file is read again as long as all are the same.
///
/// Images become squares in the channels of `shape`: their short side is resized, and the middle is
/// kept. Where most of them have the size of `shape`, the short side becomes that, and
/// those stay as they are; otherwise it becomes 8/7 of it, so that training may crop and evaluation take
/// the centre. `kept` says what it becomes where that is known. Transparent images are laid over white,
/// grey is the luma of ITU-R BT.601, and a photograph that says how it was held is turned upright.
///
/// Images with the same pixels are in one split: of held-out folders, those that are training images too
/// are dropped. Sets in files of many images (IDX, CIFAR) are kept whole.
///
/// Memory stays bounded: pixels go to the file as they are decoded. `progress` counts bytes of the
/// images' files.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) and [`Error::Value`](crate::Error::Value) for what cannot be
/// asked for; [`Error::File`](crate::Error::File) for a path that is not there, or files that cannot be read or
/// written; [`Error::Damaged`](crate::Error::Damaged) for what is wrong with a file, and
/// [`Error::Images`](crate::Error::Images) for what is wrong with all of them, such as more images that cannot be decoded than
/// `config.max_bad_images` allows.
pub fn prepare_images(
    config: &ImageConfig,
    shape: ImageShape,
    kept: Option<usize>,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PreparedImages> {
    let wanted = Wanted::list(config, shape, kept, cache, progress)?;
    match wanted.find()? {
        Some(prepared) => Ok(prepared),
        None => wanted.make(progress),
    }
}

/// Returns the cached folder that [`prepare_images`] made of the same files, if it exists. Reads no image, and
/// writes nothing.
///
/// # Errors
/// As [`prepare_images`].
pub fn find_prepared_images(
    config: &ImageConfig,
    shape: ImageShape,
    kept: Option<usize>,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<PreparedImages>> {
    Wanted::list(config, shape, kept, cache, progress)?.find()
}

/// What is to be prepared, and where.
struct Wanted<'a> {
    config: &'a ImageConfig,
    shape: ImageShape,
    kept: Option<usize>,
    cache: &'a Path,
    listings: Vec<Listing>,
    notes: Vec<String>,
}

impl<'a> Wanted<'a> {
    /// Lists the files; reads none.
    fn list(
        config: &'a ImageConfig,
        shape: ImageShape,
        kept: Option<usize>,
        cache: &'a Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        config.validate()?;
        shape.validate()?;
        let mut roots = Vec::new();
        for source in config.sources()? {
            roots.push(locate(source, progress)?);
        }
        progress(Progress { stage: Stage::Images, done: 0, total: 0 });
        let mut passed = PassedOver::default();
        let listings = Listing::all(&roots, &mut passed)?;
        let mut notes =
            if passed.is_empty() { vec![] } else { vec![format!("passed over: {passed}")] };
        for listing in &listings {
            let tables = listing.files.iter().map(Listed::name);
            let tables: Vec<_> = tables.filter(|name| name.ends_with(".parquet")).collect();
            notes.extend(splits::missing_notes(tables.iter().map(String::as_str)));
        }
        Ok(Self { config, shape, kept, cache, listings, notes })
    }

    /// What the cache holds of it. The folder for which no size was asked for may have the one that is wanted.
    fn find(&self) -> Result<Option<PreparedImages>> {
        match self.open(None)? {
            None if self.kept.is_some() => self.open(self.kept),
            found => Ok(found),
        }
    }

    /// The folder for this size, if it is whole and of the right one.
    fn open(&self, kept: Option<usize>) -> Result<Option<PreparedImages>> {
        let dir = self.dir(kept);
        if !cache::is_whole(&dir, &FILES) {
            return Ok(None);
        }
        let there = PreparedImages::open(&dir)?;
        if self.kept.is_some_and(|size| size != there.summary.size) {
            return Ok(None);
        }
        Ok(Some(PreparedImages { notes: self.notes.clone(), ..there.allowed_by(self.config)? }))
    }

    /// Reads the images and writes their pixels.
    fn make(&self, progress: &mut dyn FnMut(Progress)) -> Result<PreparedImages> {
        let found = find::find(&self.listings)?;
        let dir = self.dir(self.kept);
        fs::enter_cache(self.cache)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _turn = Turn::of(self.cache, &name, progress)?;
        // Another process may have had its turn meanwhile.
        if let Some(prepared) = self.open(self.kept)? {
            return Ok(prepared);
        }
        let square = match self.kept {
            Some(size) => ImageShape { size: size.max(self.shape.size), ..self.shape },
            None => found::kept_shape(&found, self.shape),
        };
        let scratch = fs::scratch_dir(&dir)?;
        writing::write(&found, self.config, square, self.shape.size, scratch.path(), progress)?;
        cache::publish(scratch.path(), &dir, &FILES)?;
        let prepared = PreparedImages::open(&dir)?;
        for image in &prepared.summary.skipped.first {
            tracing::warn!("skipped {image}");
        }
        Ok(PreparedImages { reused: false, notes: self.notes.clone(), ..prepared })
    }

    /// The folder: named by the settings that decide what is made of the images, and by the paths, sizes and
    /// times of their files.
    fn dir(&self, kept: Option<usize>) -> PathBuf {
        let ImageShape { size, channels } = self.shape;
        let mut hasher = Hasher::default();
        hasher.part("images").part(FORMAT_VERSION.to_le_bytes());
        for number in [size, channels, kept.unwrap_or_default()] {
            hasher.part(number.to_le_bytes());
        }
        hasher.part(self.config.held_out.to_bits().to_le_bytes());
        for Listing { root, files } in &self.listings {
            hasher.part(record::from(self.cache, root).as_os_str().as_encoded_bytes());
            hasher.part(files.len().to_le_bytes());
            for file in files {
                hasher.part(file.inside.as_os_str().as_encoded_bytes());
                hasher.part(file.bytes.to_le_bytes()).part(file.modified.to_le_bytes());
            }
        }
        self.cache.join(hasher.finish().short())
    }
}

impl PreparedImages {
    /// Opens a folder that [`prepare_images`] wrote.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) if it is not there, [`Error::Prepared`](crate::Error::Prepared) if its
    /// summary is of another format.
    pub fn open(dir: &Path) -> Result<Self> {
        let summary =
            cache::read_summary(&dir.join(SUMMARY), FORMAT_VERSION, |summary: &ImageSummary| {
                summary.format_version
            })?;
        Ok(Self { dir: dir.into(), reused: true, summary, notes: Vec::new() })
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
    /// As [`ImageSet::open`]; [`Error::Prepared`](crate::Error::Prepared) if the file is not what the summary says.
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
        let what = "names of images";
        let names: Vec<String> = cache::read_json(&path, what)?;
        if names.len() == split.images {
            Ok(names)
        } else {
            let reason = format!("{} names of {} images", names.len(), split.images);
            Err(Error::Prepared { what, path, reason })
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
                return Err(fault_of(&path, other(key, found, expected)));
            }
        }
        Ok(set)
    }

    /// A folder that was made under other limits may have skipped what these do not allow.
    fn allowed_by(self, config: &ImageConfig) -> Result<Self> {
        let ImageSummary { skipped, train, held_out, copies, .. } = &self.summary;
        let images = skipped.images + train.images + held_out.images + copies.dropped;
        skipped.check(images, config.allowed())?;
        Ok(self)
    }
}

/// The folder of the images. Those of the hub are downloaded, if they are in `.parquet` files.
fn locate(source: &Source, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    match source {
        Source::Path(path) => Ok(path.clone()),
        Source::Folder(folder) => Ok(folder.dir.clone()),
        Source::Hub(name) => of_hub(&Hub::from_env()?, name, progress),
        Source::Fetched(_) => Err(Error::Unresolved { found: source.to_string() }),
    }
}

/// The folder of the hub's cache with the `.parquet` files of a repository, or of a folder in it.
fn of_hub(hub: &Hub, name: &HubName, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let is_image_file = |file: &String| format::suffix(Path::new(file)) == "parquet";
    let mut keep = |files: &mut Vec<String>| files.retain(is_image_file);
    let files = hub.files(hub::Kind::Dataset, name, &mut keep, progress)?;
    let first =
        files.into_iter().next().ok_or_else(|| Error::NoHubFile { name: name.to_string() })?;
    // From the file to the folder of the commit that it is of.
    let depth = first.inside.split('/').count();
    let commit = first.path.ancestors().nth(depth).unwrap_or(&first.path);
    Ok(name.path.as_ref().map_or_else(|| commit.to_owned(), |inside| commit.join(inside)))
}
