//! The one wrapper around file operations: every error names the path and what was tried.
//!
//! What is published appears at once and whole: written beside its place, synced, renamed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{Error, Result};

/// Turns an [`io::Error`] into [`Error::Io`]: for file operations that are not in this module.
pub fn error(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error::Io { path, action, source }
}

/// Opens a file for reading.
///
/// # Errors
/// [`Error::Io`].
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    File::open(&path).map_err(error(path, "open"))
}

/// Opens a file that is there to be locked; makes it, empty, if there is none.
///
/// # Errors
/// [`Error::Io`].
pub fn open_to_lock(path: impl AsRef<Path>) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(&path).map_err(error(path, "open"))
}

/// The bytes of a file.
///
/// # Errors
/// [`Error::Io`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    std::fs::read(&path).map_err(error(path, "read"))
}

/// The text of a file in UTF-8.
///
/// # Errors
/// [`Error::Io`].
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    std::fs::read_to_string(&path).map_err(error(path, "read"))
}

/// The paths in a folder, sorted.
///
/// # Errors
/// [`Error::Io`].
pub fn read_dir(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let list = || {
        let entries = std::fs::read_dir(&path)?;
        let mut paths: Vec<_> = entries.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        Ok(paths)
    };
    list().map_err(error(&path, "list"))
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`Error::Io`].
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(&path).map_err(error(path, "create"))
}

/// Removes a folder with everything in it.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::remove_dir_all(&path).map_err(error(path, "remove"))
}

/// What the names of folders start with that are not, or no longer, published.
const SCRATCH: &str = ".tmp-";

/// Takes back a published folder: it disappears by one rename, then its files go. What a kill leaves
/// of it is a scratch folder, which [`sweep`] removes.
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

/// Removes the scratch folders in `folder`; the caller knows that they are nobody's.
///
/// # Errors
/// [`Error::Io`].
pub fn sweep(folder: impl AsRef<Path>) -> Result<()> {
    for path in read_dir(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(SCRATCH) && path.is_dir() {
            remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Writes a file that appears whole or not at all, in place of one that is there.
///
/// # Errors
/// [`Error::Io`].
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// [`write_atomic`] of a value as JSON that a person can read; `what` says in errors what it is.
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
        let (file, scratch) = scratch(0o644).tempfile_in(folder)?.into_parts();
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.into_inner()?.sync_all()?;
        scratch.persist(path)?;
        sync_folder(folder)
    };
    publish().map_err(error(path, "write"))
}

/// Adds bytes to the end of a file, which it makes if there is none: one write, then a sync.
///
/// # Errors
/// [`Error::Io`].
pub fn append(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::options().create(true).append(true).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(error(&path, "append to"))
}

/// A new folder beside `target`, for [`publish_dir`]; removed with its contents when dropped
/// unpublished.
///
/// # Errors
/// [`Error::Io`].
pub fn scratch_dir(target: impl AsRef<Path>) -> Result<TempDir> {
    let folder = folder_of(target.as_ref());
    create_dir_all(folder)?;
    scratch(0o755).tempdir_in(folder).map_err(error(folder, "create a folder in"))
}

/// Moves a finished folder to its place with one rename, after a sync of every file in it.
///
/// `scratch` must lie on the same file system ([`scratch_dir`]). A `target` that is there and not
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

/// SHA-256 of a file's bytes in lowercase hexadecimal.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String> {
    let mut file = open(&path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(error(path, "read")(e)),
        }
    }
}

/// SHA-256 of bytes in lowercase hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    sha256_parts([bytes])
}

/// SHA-256 of bytes that follow each other, in lowercase hexadecimal.
pub fn sha256_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    parts.into_iter().for_each(|part| hasher.update(part));
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder that a path lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Scratch files and folders: hidden, and readable by others as far as the umask lets them.
fn scratch(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(SCRATCH);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Makes a rename in the folder last; elsewhere than on Unix folders cannot be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path() {
        let error = read("no/such/file").unwrap_err();
        assert_eq!(error.to_string(), "cannot read `no/such/file`");
        let missing = |source: &io::Error| source.kind() == io::ErrorKind::NotFound;
        assert!(matches!(&error, Error::Io { source, .. } if missing(source)));
    }

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
        assert_eq!(read_dir(dir.path()).unwrap(), [path], "no scratch file stays");
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
    fn folders_are_withdrawn_whole_and_scratch_is_swept() {
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

    #[test]
    fn hashes_are_those_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        assert_eq!(sha256_parts([&b"a"[..], b"bc"]), abc);
        let file = tempfile::NamedTempFile::new().unwrap();
        append(file.path(), b"a").unwrap();
        append(file.path(), b"bc").unwrap();
        assert_eq!(sha256_file(file.path()).unwrap(), abc);
    }
}
