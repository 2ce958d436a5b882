//! Bringing a source into the cache.
//!
//! A [source](crate::Source) is a folder of files made of [parts](crate::Part). Each part comes out of a package,
//! which package clients or a download bring; what is taken out of it has the SHA-256 that the
//! [table](Sources) says, or is not taken. Below the cache folder lie
//!
//! - `sources/NAME/text/PART/…`, its texts, `sources/NAME/images/PART/…`, its images, or
//!   `sources/NAME/model/PART/FILE`, its model, `sources/NAME/source.json`, what they are, and
//!   `sources/NAME/checked`, a hash of the sizes and times of the files that have the right content,
//! - `sources/.parts/PART/…`, parts of a source that is not there as a whole yet,
//! - `sources/.downloads/…`, downloads that were broken off.

use std::path::{Path, PathBuf};

use matformer_core::fs;

use crate::part::{self, Getter};
use crate::record::RECORD;
use crate::{Content, Error, Files, Record, Result, Sources};

/// What tells the files of a source as they were when they were checked.
const CHECKED: &str = "checked";

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

/// Brings the source `name` into `cache`, or finds it there; its files are checked either way.
///
/// It appears by one rename. Parts that are complete, and what has come of a broken download, are
/// kept: a fetch that is killed and called again repeats no more than the part that was under way.
/// Of two fetches into one cache the second waits.
///
/// # Errors
/// [`Error::Unknown`]; [`Error::Unavailable`] if a part can be had nowhere, with what was
/// tried; [`Error::Altered`] if its files in the cache are not what they were; [`Error::File`].
pub fn fetch(
    sources: &Sources,
    name: &str,
    cache: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Fetched> {
    let source = sources.get(name)?;
    let record = Record::of(sources, source);
    let home = home(cache);
    if record.is_cached(cache) {
        return reuse(record, &home);
    }
    fs::enter_cache(cache)?;
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
        let files = Getter { sources, source, part, home: &home }.get(progress)?;
        files.write(&scratch.path().join(content).join(&part.name))?;
    }
    fs::write_json(scratch.path().join(RECORD), "the record of a source", &record)?;
    let seen = Files::seen(&scratch.path().join(content))?.to_string();
    fs::write_atomic(scratch.path().join(CHECKED), seen.as_bytes())?;
    if target.exists() {
        // Of another version, or without its record.
        fs::withdraw_dir(&target)?;
    }
    fs::publish_dir(scratch.path(), &target)?;
    sources.parts(source).try_for_each(|part| part::forget(&home, part))?;
    Ok(Fetched { dir: target.join(content), reused: false, record })
}

/// The folder of all sources in a cache.
pub(crate) fn home(cache: &Path) -> PathBuf {
    cache.join("sources")
}

/// The folder of a source's texts, images or model, in which each part is a folder.
pub(crate) fn content_dir(cache: &Path, name: &str, content: Content) -> PathBuf {
    home(cache).join(name).join(content.folder())
}

/// A source that is there, once its files are what the table says. Files that were checked before and have the
/// same sizes and times are not read again.
fn reuse(record: Record, home: &Path) -> Result<Fetched> {
    let own = home.join(&record.name);
    let (dir, checked) = (own.join(record.content.folder()), own.join(CHECKED));
    let seen = Files::seen(&dir)?.to_string();
    if std::fs::read_to_string(&checked).is_ok_and(|before| before == seen) {
        return Ok(Fetched { dir, reused: true, record });
    }
    for part in &record.parts {
        let folder = dir.join(&part.name);
        let found = Files::read(&folder)?.hash();
        if found != part.text_sha256 {
            return Err(Error::Altered { folder, found, expected: part.text_sha256 });
        }
    }
    // In a cache that cannot be written to, they are read the next time.
    let _ = fs::write_atomic(&checked, seen.as_bytes());
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
