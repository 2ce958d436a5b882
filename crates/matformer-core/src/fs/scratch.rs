//! Files and folders that appear whole: they are written under a temporary name beside their
//! target, synced and renamed.
//!
//! A temporary name is `.tmp-NAME-XXXXXX`. Its writer holds a lock on it: on the file itself, or on
//! a file in the folder. A lock ends with its process, so a temporary file or folder that is not
//! locked was left by a process that is gone, and may be removed. On a file system without locks
//! nothing can be known and nothing is removed.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::lock::{self, Attempt};
use super::{create_dir_all, error, folder_of, read_dir, remove_dir_all, sync_all, sync_folder};
use crate::{Error, Result};

/// What every temporary name starts with.
pub const SCRATCH: &str = ".tmp-";

/// The locked file in a temporary folder, beside the folder that is published.
const LOCK: &str = ".lock";

/// A folder under a temporary name. It is removed with its contents when it is dropped, unless
/// [`publish_dir`] moved it to its place.
#[derive(Debug)]
pub struct Scratch {
    _outer: TempDir,
    inner: PathBuf,
    _lock: File,
}

impl Scratch {
    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.inner
    }
}

/// Writes a file that appears whole or not at all, and replaces an existing one.
///
/// # Errors
/// [`Error::Io`].
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// Writes files into a folder, each with [`write_atomic`]. A name may begin with a folder, which is made.
///
/// # Errors
/// [`Error::Io`].
pub fn write_files(dir: impl AsRef<Path>, files: &[(String, Vec<u8>)]) -> Result<()> {
    for (name, bytes) in files {
        let path = dir.as_ref().join(name);
        super::create_dir_all(folder_of(&path))?;
        write_atomic(path, bytes)?;
    }
    Ok(())
}

/// [`write_atomic`] for contents that are written piece by piece.
///
/// # Errors
/// [`Error::Io`], also with what `write` returns.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let folder = folder_of(path);
    let publish = || {
        let (file, scratch) = scratch_file(folder, &prefix_of(path))?.into_parts();
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        let file = out.into_inner()?;
        file.sync_all()?;
        scratch.persist(path)?;
        drop(file); // its lock covers the temporary name to the end
        sync_folder(folder)
    };
    publish().map_err(error(path, "write"))
}

/// [`write_atomic`] of a value as indented JSON; `what` names the value in errors.
///
/// # Errors
/// [`Error::Io`], or [`Error::Json`] for a value that JSON cannot hold.
pub fn write_json(
    path: impl AsRef<Path>,
    what: &'static str,
    value: &impl serde::Serialize,
) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json {
        path: path.as_ref().to_owned(),
        what,
        source,
    })?;
    text.push(b'\n');
    write_atomic(path, &text)
}

/// Creates a temporary folder beside `target`, for [`publish_dir`].
///
/// # Errors
/// [`Error::Io`].
pub fn scratch_dir(target: impl AsRef<Path>) -> Result<Scratch> {
    let target = target.as_ref();
    let folder = folder_of(target);
    create_dir_all(folder)?;
    new_scratch(folder, &prefix_of(target)).map_err(error(folder, "create a folder in"))
}

/// Moves a finished folder to its place with one rename, after a sync of every file in it.
///
/// `scratch` must lie on the same file system ([`scratch_dir`]). A `target` that exists and is not
/// empty is an error.
///
/// # Errors
/// [`Error::Io`].
pub fn publish_dir(scratch: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<()> {
    let (scratch, target) = (scratch.as_ref(), target.as_ref());
    sync_all(scratch).map_err(error(scratch, "sync"))?;
    std::fs::rename(scratch, target).map_err(error(target, "publish"))?;
    let folder = folder_of(target);
    sync_folder(folder).map_err(error(folder, "sync"))
}

/// Removes a published folder: it disappears with one rename to a temporary name, then its files
/// are removed. [`sweep`] removes what a killed process leaves of it.
///
/// # Errors
/// [`Error::Io`].
pub fn withdraw_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = path.with_file_name(format!("{SCRATCH}{name}"));
    std::fs::rename(path, &scratch).map_err(error(path, "remove"))?;
    remove_dir_all(scratch)
}

/// Removes the temporary files and folders in `folder` whose writers are gone.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(folder: impl AsRef<Path>) -> Result<()> {
    sweep_named(folder.as_ref(), SCRATCH)
}

fn sweep_named(folder: &Path, prefix: &str) -> Result<()> {
    for path in read_dir(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(prefix) {
            remove_abandoned(&path).map_err(error(&path, "remove"))?;
        }
    }
    Ok(())
}

fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_dir = path.is_dir();
    let locked = if is_dir { path.join(LOCK) } else { path.to_owned() };
    // A file that cannot be opened was published meanwhile, or belongs to another user.
    let Ok(file) = File::options().write(true).create(is_dir).truncate(false).open(locked) else {
        return Ok(());
    };
    if !matches!(lock::attempt(&file), Ok(Attempt::Locked)) {
        return Ok(());
    }
    let removed = if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What the temporary names of a target start with. Long names are cut off: they would not leave
/// room for the rest.
fn prefix_of(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    format!("{SCRATCH}{}-", name.chars().take(40).collect::<String>())
}

/// A new locked file under a temporary name, after a sweep of those that have the same prefix.
fn scratch_file(folder: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    let _ = sweep_named(folder, prefix); // leftovers do not prevent the write
    loop {
        let scratch = named(prefix, 0o644).tempfile_in(folder)?;
        let _ = lock::wait(scratch.as_file()); // without a lock the file is not swept either
        // Another process may have swept the file before it was locked.
        if scratch.path().exists() {
            return Ok(scratch);
        }
    }
}

/// The same for a folder.
fn new_scratch(folder: &Path, prefix: &str) -> io::Result<Scratch> {
    let _ = sweep_named(folder, prefix);
    loop {
        let outer = named(prefix, 0o755).tempdir_in(folder)?;
        let path = outer.path().join(LOCK);
        let file = match File::options().write(true).create(true).truncate(false).open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        let _ = lock::wait(&file);
        if path.exists() {
            let inner = outer.path().join("new");
            std::fs::create_dir(&inner)?;
            return Ok(Scratch { _outer: outer, inner, _lock: file });
        }
    }
}

/// Temporary names that others may read as far as the umask allows.
fn named(prefix: &str, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::fs::{read, read_to_string};

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomic(&path, b"first").unwrap();
        let failed = write_atomic_with(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("stopped"))
        });
        assert!(failed.is_err());
        assert_eq!(read_to_string(&path).unwrap(), "first");
        write_atomic(&path, b"second").unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "second");
        assert_eq!(read_dir(dir.path()).unwrap(), [path], "no temporary file stays");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let plain = dir.path().join("plain");
        std::fs::write(&plain, b"").unwrap();
        let atomic = dir.path().join("atomic");
        write_atomic(&atomic, b"").unwrap();
        assert_eq!(mode(&atomic), mode(&plain));
        let folder = scratch_dir(dir.path().join("folder")).unwrap();
        assert_eq!(mode(folder.path()) & 0o600, 0o600);
        assert_eq!(mode(folder.path()) & 0o044, mode(&plain) & 0o044);
    }

    #[test]
    fn folders_are_withdrawn_whole_and_leftovers_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| create_dir_all(dir.path().join(name).join("sub")).unwrap();
        make("one");
        make("two");
        withdraw_dir(dir.path().join("one")).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap(), [dir.path().join("two")]);
        // What a kill between the rename and the end leaves, as `withdraw_dir` names it.
        std::fs::rename(dir.path().join("two"), dir.path().join(".tmp-two")).unwrap();
        make("three");
        sweep(dir.path()).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap(), [dir.path().join("three")]);
        let error = withdraw_dir(dir.path().join("four")).unwrap_err();
        assert!(error.to_string().contains("four"), "{error}");
    }

    #[test]
    fn folders_are_published_once() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("runs/one");
        for attempt in 0..2 {
            let scratch = scratch_dir(&target).unwrap();
            create_dir_all(scratch.path().join("sub")).unwrap();
            write_atomic(scratch.path().join("sub/file"), &[attempt]).unwrap();
            assert_eq!(publish_dir(scratch.path(), &target).is_ok(), attempt == 0);
        }
        assert_eq!(read(target.join("sub/file")).unwrap(), [0]);
        assert_eq!(read_dir(dir.path().join("runs")).unwrap(), [target]);
    }

    /// Number of temporary names in a folder.
    fn scratch_names(folder: &Path) -> usize {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let all = read_dir(folder).unwrap();
        all.iter().filter(|path| name(path).starts_with(SCRATCH)).count()
    }

    #[test]
    fn a_sweep_leaves_what_is_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        let scratch = scratch_dir(&folder).unwrap();
        write_atomic_with(&file, |out| {
            sweep(dir.path()).unwrap();
            assert_eq!(scratch_names(dir.path()), 2);
            out.write_all(b"whole")
        })
        .unwrap();
        publish_dir(scratch.path(), &folder).unwrap();
        drop(scratch);
        assert_eq!(read(&file).unwrap(), b"whole");
        assert_eq!(read_dir(dir.path()).unwrap(), [file, folder]);
    }

    #[test]
    fn a_writer_removes_leftovers_of_its_own_target_only() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".tmp-a.txt-1", ".tmp-b.txt-1"] {
            std::fs::write(dir.path().join(name), "half").unwrap();
            create_dir_all(dir.path().join(name.replace(".txt", ""))).unwrap();
        }
        write_atomic(dir.path().join("a.txt"), b"whole").unwrap();
        drop(scratch_dir(dir.path().join("a")).unwrap());
        let left = [".tmp-b-1", ".tmp-b.txt-1", "a.txt"].map(|name| dir.path().join(name));
        assert_eq!(read_dir(dir.path()).unwrap(), left);
    }

    #[test]
    fn leftovers_are_swept_once_their_process_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["fs::scratch::tests::writer", "--exact", "--ignored", "--nocapture"])
            .env("WRITE_INTO", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        assert!(lines.map_while(io::Result::ok).any(|line| line.contains("writing")));
        sweep(dir.path()).unwrap();
        assert_eq!(scratch_names(dir.path()), 2, "the writer is alive");
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_eq!(scratch_names(dir.path()), 2, "nobody has removed them");
        sweep(dir.path()).unwrap();
        assert!(read_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    #[ignore = "the process that the test above kills"]
    fn writer() {
        let Some(dir) = std::env::var_os("WRITE_INTO").map(PathBuf::from) else {
            return;
        };
        let _scratch = scratch_dir(dir.join("folder")).unwrap();
        let _ = write_atomic_with(dir.join("file"), |_| {
            println!("writing");
            loop {
                std::thread::park();
            }
        });
    }
}
