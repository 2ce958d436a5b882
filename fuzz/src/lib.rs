//! What the fuzz targets share: files that start out whole and are damaged by edits, so that no
//! corpus is needed to get past the first check.

use std::path::Path;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use tempfile::TempDir;

/// Bytes of a file that give way to others.
#[derive(Debug, Arbitrary)]
pub struct Edit<'a> {
    /// Which file, modulo the number of files.
    pub file: u8,
    /// Where, modulo the file's length plus one.
    pub at: u32,
    /// How many bytes go, as far as there are so many.
    pub remove: u16,
    /// What comes instead.
    pub insert: &'a [u8],
}

/// Applies edits to the files that they name.
pub fn apply(files: &mut [Vec<u8>], edits: &[Edit<'_>]) {
    for edit in edits {
        let file = &mut files[usize::from(edit.file) % files.len()];
        let at = edit.at as usize % (file.len() + 1);
        let end = (at + usize::from(edit.remove)).min(file.len());
        file.splice(at..end, edit.insert.iter().copied());
    }
}

/// A folder in memory where the system has one.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }
    .expect("a folder to write to")
}
