//! One process per run folder.

use std::{
    fs::{File, TryLockError},
    io::ErrorKind,
    path::Path,
};

use matformer_core::fs;

use crate::{Error, Result};

/// Holds a run folder: no other process trains into it until this is dropped, or the process ends,
/// however it ends. Reading the folder is free to all.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Name of the locked file in a run folder. It stays there.
    pub const FILE: &'static str = ".lock";

    /// Takes the folder, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; when the file cannot be made.
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
    fn a_folder_is_held_once_and_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let held = RunLock::take(&run).unwrap();
        let error = RunLock::take(&run).unwrap_err();
        assert!(matches!(&error, Error::Locked { dir } if *dir == run), "{error}");
        drop(held);
        RunLock::take(&run).unwrap();
    }
}
