//! The one wrapper around file operations: every error names the path and the operation.
//!
//! A published file or folder appears at once and whole: it is written under a temporary name,
//! synced and renamed.

mod cache;
mod lock;
mod scratch;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

pub use cache::{CACHE_TAG, enter_cache};
pub use lock::Lock;
pub use scratch::{
    SCRATCH, Scratch, publish_dir, scratch_dir, sweep, withdraw_dir, write_atomic,
    write_atomic_with, write_files, write_json,
};

/// Turns an [`io::Error`] into [`Error::Io`], for file operations that this module does not have.
pub fn error(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.as_ref().to_owned();
    move |source| Error::Io { path, action, source }
}

/// Opens a file for reading.
///
/// # Errors
/// [`Error::Io`]; [`Error::LfsPointer`] if Git LFS has not fetched the file's contents.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    open_to("open", path.as_ref())
}

/// What a file of Git LFS has where its contents were not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Opens a file; an error says that it was to `action`.
fn open_to(action: &'static str, path: &Path) -> Result<File> {
    /// No pointer has as many bytes.
    const LONG: u64 = 1024;
    let look = || -> io::Result<(File, bool)> {
        let mut file = File::open(path)?;
        let facts = file.metadata()?;
        // What is read from a pipe cannot be read again.
        if !facts.is_file() || facts.len() >= LONG {
            return Ok((file, false));
        }
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(LFS_POINTER.len() as u64).read_to_end(&mut start)?;
        file.rewind()?;
        Ok((file, start == LFS_POINTER))
    };
    match look().map_err(error(path, action))? {
        (_, true) => Err(Error::LfsPointer { path: path.to_owned() }),
        (file, false) => Ok(file),
    }
}

/// The bytes of a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = open_to("read", path.as_ref())?;
    file.read_to_end(&mut bytes).map_err(error(path, "read"))?;
    Ok(bytes)
}

/// The text of a file in UTF-8.
///
/// # Errors
/// As [`open`].
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    let mut text = String::new();
    let mut file = open_to("read", path.as_ref())?;
    file.read_to_string(&mut text).map_err(error(path, "read"))?;
    Ok(text)
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

/// Creates a folder and its missing parents.
///
/// # Errors
/// [`Error::Io`].
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(&path).map_err(error(path, "create"))
}

/// Removes a folder with its contents.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::remove_dir_all(&path).map_err(error(path, "remove"))
}

/// Appends bytes to a file with one write and a sync. Creates the file if there is none.
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

/// Appends lines to a file under a [`Lock`]: processes that append at the same time take turns.
/// Creates the file if there is none.
///
/// A last line without a line end is ended if `is_whole` says that it is whole. Otherwise its writer
/// was killed, and it is removed; nothing else in the file is touched.
///
/// # Errors
/// [`Error::Io`].
pub fn append_lines(
    path: impl AsRef<Path>,
    lines: &[u8],
    is_whole: impl FnOnce(&[u8]) -> bool,
) -> Result<()> {
    let lock = Lock::take(&path)?;
    let mut file = lock.file();
    let write = || {
        let mut old = Vec::new();
        file.read_to_end(&mut old)?;
        let ended = old.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let last = &old[ended..];
        let line_end: &[u8] = if last.is_empty() {
            b""
        } else if is_whole(last) {
            b"\n"
        } else {
            file.set_len(ended as u64)?;
            b""
        };
        file.seek(SeekFrom::End(0))?;
        file.write_all(&[line_end, lines].concat())?;
        file.sync_all()
    };
    write().map_err(error(&path, "append to"))
}

/// SHA-256 of bytes that come piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes behind those that came before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash in lowercase hexadecimal.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// SHA-256 of a file's bytes in lowercase hexadecimal.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String> {
    let mut file = open(&path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
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

/// SHA-256 of the concatenated parts in lowercase hexadecimal.
pub fn sha256_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Hasher::default();
    parts.into_iter().for_each(|part| hasher.update(part));
    hasher.finish()
}

/// Whether a text is a SHA-256 as this crate writes it: 64 lowercase hexadecimal digits.
pub fn is_sha256(text: &str) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(is_hex)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder that contains a path.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename in the folder durable. Only Unix can sync a folder.
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
    fn hashes_are_lowercase_digits() {
        assert!(is_sha256(&"0a".repeat(32)));
        for wrong in ["", &"0A".repeat(32), &"0g".repeat(32), &"0a".repeat(33)] {
            assert!(!is_sha256(wrong), "{wrong}");
        }
    }

    #[test]
    fn errors_name_the_path() {
        let error = read("no/such/file").unwrap_err();
        assert_eq!(error.to_string(), "cannot read `no/such/file`");
        let missing = |source: &io::Error| source.kind() == io::ErrorKind::NotFound;
        assert!(matches!(&error, Error::Io { source, .. } if missing(source)));
    }

    #[test]
    fn a_pointer_of_git_lfs_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 26\n";
        std::fs::write(&path, pointer).unwrap();
        let is_pointer = |error| matches!(error, Error::LfsPointer { .. });
        assert!(is_pointer(open(&path).unwrap_err()));
        assert!(is_pointer(read(&path).unwrap_err()));
        assert!(is_pointer(read_to_string(&path).unwrap_err()));
        for text in ["", "version", &format!(" {pointer}")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_torn_last_line_is_removed_and_a_whole_one_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        for (before, after) in
            [("", "new\n"), ("a\n", "a\nnew\n"), ("a\nto", "a\nnew\n"), ("a\nb", "a\nb\nnew\n")]
        {
            std::fs::write(&path, before).unwrap();
            append_lines(&path, b"new\n", |last| last == b"b").unwrap();
            assert_eq!(read_to_string(&path).unwrap(), after, "{before:?}");
        }
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
