//! Locks between processes: the one way in which this workspace locks a file.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::error;
use crate::Result;

/// An exclusive lock on a file. It is released when it is dropped and when its process ends, even
/// if the process is killed.
///
/// The lock is advisory: it only excludes those who take it too. The file is opened for writing,
/// because network file systems refuse an exclusive lock on a file that is opened for reading.
#[derive(Debug)]
pub struct Lock {
    file: File,
    held: bool,
}

impl Lock {
    /// Waits until the file is not locked, then locks it. Creates an empty file if there is none.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn take(path: impl AsRef<Path>) -> Result<Self> {
        let file = open(&path)?;
        let held = wait(&file).map_err(error(path, "lock"))?;
        Ok(Self { file, held })
    }

    /// Locks the file, or returns `None` if it is locked already. Creates an empty file if there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn try_take(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let file = open(&path)?;
        let held = match attempt(&file).map_err(error(path, "lock"))? {
            Attempt::Locked => true,
            Attempt::Unsupported => false,
            Attempt::Busy => return Ok(None),
        };
        Ok(Some(Self { file, held }))
    }

    /// Whether the file is locked. It is not on a file system without locks, where nothing excludes
    /// other processes.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The locked file, opened for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The result of [`attempt`].
pub(super) enum Attempt {
    /// The file was free and is locked now.
    Locked,
    /// The file is locked already.
    Busy,
    /// The file system has no locks.
    Unsupported,
}

/// Waits until the file can be locked and locks it. Returns false if the file system has no locks.
pub(super) fn wait(file: &File) -> io::Result<bool> {
    loop {
        match file.lock() {
            Ok(()) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

/// Locks the file if that is possible without waiting.
pub(super) fn attempt(file: &File) -> io::Result<Attempt> {
    match file.try_lock() {
        Ok(()) => Ok(Attempt::Locked),
        Err(TryLockError::WouldBlock) => Ok(Attempt::Busy),
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {
            Ok(Attempt::Unsupported)
        }
        Err(TryLockError::Error(e)) => Err(e),
    }
}

fn open(path: impl AsRef<Path>) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(&path).map_err(error(path, "open"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_and_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "contents").unwrap();
        let first = Lock::take(&path).unwrap();
        assert!(first.is_held());
        assert!(Lock::try_take(&path).unwrap().is_none());
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lock::take(path).map(|lock| lock.is_held())
        });
        drop(first);
        assert!(waiting.join().unwrap().unwrap());
        // Waits: a process that another test starts shares our files for a moment.
        assert!(Lock::take(&path).unwrap().is_held());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "contents");
        assert!(Lock::take(dir.path().join("no/such")).is_err());
    }

    /// Network file systems map these locks to locks that need write access.
    #[test]
    fn the_locked_file_can_be_written() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path().join("file")).unwrap();
        lock.file().write_all(b"text").unwrap();
    }
}
