//! The folder of prepared data: what a killed process left in it is swept away, and what is prepared
//! appears in it whole.

use std::path::Path;

use matformer_core::fs;
use serde::{Serialize, de::DeserializeOwned};

use crate::walk::CACHE_TAG;
use crate::{Error, Result};

/// Says in a folder that it is a cache, to backups and to whatever reads data.
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # Data that matformer prepared or fetched; it may be deleted.\n";

/// Creates the folder, tags it as a cache if it is empty, and removes what killed processes left in it.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if the folder cannot be created, tagged or swept.
pub(crate) fn enter(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    // A folder that somebody uses for other things is not tagged.
    if fs::read_dir(folder)?.is_empty() {
        fs::write_atomic(folder.join(CACHE_TAG), TAG)?;
    }
    Ok(fs::sweep(folder)?)
}

/// The first of `files` that a prepared folder lacks.
pub(crate) fn missing(dir: &Path, files: &[&'static str]) -> Option<&'static str> {
    files.iter().copied().find(|file| !dir.join(file).is_file())
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

/// Reads a file of a prepared folder.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| Error::Cache { path: path.into(), reason: error.to_string() })
}

/// Reads the summary of a prepared folder, which must be of format `expected`.
///
/// # Errors
/// [`Error::File`] if it is not there, [`Error::Cache`] if it is of another format.
pub(crate) fn read_summary<T: DeserializeOwned>(
    path: &Path,
    expected: u32,
    version: fn(&T) -> u32,
) -> Result<T> {
    let summary: T = read_json(path)?;
    match version(&summary) {
        found if found == expected => Ok(summary),
        found => {
            let reason = format!("format version {found}, expected: {expected}");
            Err(Error::Cache { path: path.into(), reason })
        }
    }
}

/// Writes a file of a prepared folder.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Cache { path: path.into(), reason: error.to_string() })?;
    json.push(b'\n');
    Ok(fs::write_atomic(path, &json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_folders_of_nobody_are_swept() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("data");
        let make = |name: &str| std::fs::create_dir_all(folder.join(name).join("sub")).unwrap();
        make(".tmp-killed");
        make("0123456789abcdef");
        let ours = fs::scratch_dir(folder.join("fedcba9876543210")).unwrap();
        enter(&folder).unwrap();
        assert!(!folder.join(".tmp-killed").exists());
        assert!(folder.join("0123456789abcdef").exists());
        assert!(ours.path().exists(), "somebody is at work");
    }
}
