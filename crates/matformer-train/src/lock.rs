//! One process per run folder.

use std::{
    fs::{File, TryLockError},
    io::ErrorKind,
    path::Path,
};

use matformer_core::fs;

use crate::{Error, Result};

/// Lock of a run folder: no other process trains into it until this is dropped or the process ends,
/// even by a kill. Other processes may read the folder.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Name of the locked file in a run folder. It is never removed.
    pub const FILE: &'static str = ".lock";

    /// Locks the folder, and creates it if it does not exist.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the lock; when the file cannot be created.
    pub fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(Self::FILE);
        let file = fs::open_to_lock(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
                tracing::warn!("{}: this file system has no locks", path.display());
            }
            Err(TryLockError::Error(e)) => return Err(fs::error(&path, "lock")(e).into()),
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_by_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let held = RunLock::take(&run).unwrap();
        let error = RunLock::take(&run).unwrap_err();
        assert!(matches!(&error, Error::Locked { dir } if *dir == run), "{error}");
        drop(held);
        RunLock::take(&run).unwrap();
    }
}
