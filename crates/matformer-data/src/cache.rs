//! Folders of prepared data: they appear whole in a cache, and are told by the files that they have.

use std::path::Path;

use matformer_core::fs;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The first of `files` that a prepared folder lacks.
fn missing(dir: &Path, files: &[&'static str]) -> Option<&'static str> {
    files.iter().copied().find(|file| !dir.join(file).is_file())
}

/// Whether a prepared folder has all of `files`; where it lacks one, that is said.
pub(crate) fn is_whole(dir: &Path, files: &[&'static str]) -> bool {
    let missing = missing(dir, files);
    if let Some(file) = missing
        && dir.exists()
    {
        tracing::warn!("`{}` has no `{file}` and is prepared again", dir.display());
    }
    missing.is_none()
}

/// Moves a finished folder to its place, from which one that lacks one of `files` makes way.
pub(crate) fn publish(scratch: &Path, dir: &Path, files: &[&'static str]) -> Result<()> {
    if dir.exists() && missing(dir, files).is_some() {
        let aside = fs::scratch_dir(dir)?;
        std::fs::rename(dir, aside.path().join("damaged")).map_err(fs::error(dir, "move"))?;
    }
    match fs::publish_dir(scratch, dir) {
        Ok(()) => Ok(()),
        // Another process was first; the name says that it wrote the same.
        Err(_) if missing(dir, files).is_none() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads a file of a prepared folder; errors call it `what`.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| Error::Prepared {
        what,
        path: path.into(),
        reason: error.to_string(),
    })
}

/// Reads the summary of a prepared folder, which must be of format `expected`.
///
/// # Errors
/// [`Error::File`] if it is not there, [`Error::Prepared`] if it is of another format.
pub(crate) fn read_summary<T: DeserializeOwned>(
    path: &Path,
    expected: u32,
    version: fn(&T) -> u32,
) -> Result<T> {
    let what = "summary";
    let summary: T = read_json(path, what)?;
    match version(&summary) {
        found if found == expected => Ok(summary),
        found => {
            let reason = format!("format version {found}, expected: {expected}");
            Err(Error::Prepared { what, path: path.into(), reason })
        }
    }
}
