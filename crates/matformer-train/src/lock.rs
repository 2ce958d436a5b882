//! One process per run folder.

use std::path::Path;

use matformer_core::fs;

use crate::{Error, Result};

/// Lock of a run folder: no other process trains into it until this is dropped or the process ends,
/// even by a kill. Other processes may read the folder.
#[derive(Debug)]
pub struct RunLock {
    _lock: fs::Lock,
}

impl RunLock {
    /// Name of the locked file in a run folder. It is never removed.
    pub const FILE: &'static str = ".lock";

    /// Locks the folder, creates it if it does not exist, and removes the temporary files that
    /// killed processes left in it.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds the lock; when the file cannot be created, or a
    /// temporary file cannot be removed.
    pub fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(Self::FILE);
        let Some(lock) = fs::Lock::try_take(&path)? else {
            return Err(Error::Locked { dir: dir.to_owned() });
        };
        if !lock.is_held() {
            tracing::warn!("{}: this file system has no locks", path.display());
        }
        fs::sweep(dir)?;
        Ok(Self { _lock: lock })
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
    #[test]
    fn who_takes_a_folder_removes_what_killed_processes_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = fs::scratch_dir(dir.path().join("report")).unwrap();
        let dead = dir.path().join(".tmp-model.safetensors-abcdef");
        std::fs::write(&dead, "half").unwrap();
        let _held = RunLock::take(dir.path()).unwrap();
        assert!(!dead.exists());
        assert!(scratch.path().exists(), "its writer is alive");
    }
}
