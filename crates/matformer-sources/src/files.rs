//! A set of files in memory, with the hash that pins it.

use std::collections::{BTreeMap, btree_map};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use matformer_core::fs;
use matformer_data::{Hash, Hasher};
use walkdir::WalkDir;

use crate::Result;

/// Files by name, in the order of their names; `/` stands between folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Adds a file.
    ///
    /// # Errors
    /// The reason, if the name could lead out of the folder that the files are written to, or is
    /// taken.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) -> Result<(), String> {
        let safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
        if !name.split('/').all(safe) {
            return Err(format!("`{name}` is no name for a file"));
        }
        if self.0.contains_key(&name) {
            return Err(format!("two files are named `{name}`"));
        }
        self.0.insert(name, bytes);
        Ok(())
    }

    /// SHA-256 over the names and contents of all files in the order of their names; before each
    /// name and each content goes its length in bytes as a little-endian u64.
    pub fn hash(&self) -> Hash {
        let mut hasher = Hasher::default();
        for (name, bytes) in &self.0 {
            hasher.part(name).part(bytes);
        }
        hasher.finish()
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all files.
    pub fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Names and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The content of one file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// All files below `folder`, whatever they are.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File).
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut files = Self::default();
        for entry in WalkDir::new(folder) {
            let entry = entry.map_err(|error| fs::error(folder, "list")(error.into()))?;
            if entry.file_type().is_dir() {
                continue;
            }
            let inside = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let parts: Vec<_> =
                inside.components().map(|part| part.as_os_str().to_string_lossy()).collect();
            files.0.insert(parts.join("/"), fs::read(entry.path())?);
        }
        Ok(files)
    }

    /// Tells the files below `folder` by their names, sizes and times; none is read.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File).
    pub(crate) fn seen(folder: &Path) -> Result<Hash> {
        let mut hasher = Hasher::default();
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let failed = |error: walkdir::Error| fs::error(folder, "list")(error.into());
            let entry = entry.map_err(failed)?;
            let about = entry.metadata().map_err(failed)?;
            if about.is_dir() {
                continue;
            }
            let inside = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let changed = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            hasher
                .part(inside.as_os_str().as_encoded_bytes())
                .part(about.len().to_le_bytes())
                .part(changed.map_or(0, |since| since.as_nanos()).to_le_bytes());
        }
        Ok(hasher.finish())
    }

    /// Writes all files below `folder`.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File).
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        for (name, bytes) in self.iter() {
            let path = name.split('/').fold(PathBuf::from(folder), |path, part| path.join(part));
            if let Some(above) = path.parent() {
                fs::create_dir_all(above)?;
            }
            // The folder is synced as a whole when it is published.
            std::fs::write(&path, bytes).map_err(fs::error(&path, "write"))?;
        }
        Ok(())
    }
}

impl IntoIterator for Files {
    type Item = (String, Vec<u8>);
    type IntoIter = btree_map::IntoIter<String, Vec<u8>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let mut files = Files::default();
        for (name, text) in list {
            files.add((*name).into(), (*text).into()).unwrap();
        }
        files
    }

    #[test]
    fn a_hash_is_of_names_and_contents_in_order() {
        let one = files(&[("a", "1"), ("b/c", "2")]);
        assert_eq!(one.hash(), files(&[("b/c", "2"), ("a", "1")]).hash());
        for other in [
            &[("a", "1")][..],
            &[("a", "2"), ("b/c", "1")],
            &[("a", "1b"), ("/c", "2")][..1],
            &[("a", "1"), ("b", "2")],
        ] {
            assert_ne!(one.hash(), files(other).hash(), "{other:?}");
        }
        // What the documentation of `hash` says, by hand.
        let mut bytes = Vec::new();
        for part in ["a", "1", "b/c", "2"] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.bytes());
        }
        assert_eq!(one.hash(), Hash::of(&bytes));
    }

    #[test]
    fn names_stay_inside_and_are_unique() {
        let mut files = Files::default();
        for name in ["", "/etc/passwd", "../a", "a/../b", "a//b", "./a", "a\\b", "c:/a"] {
            assert!(files.add(name.into(), Vec::new()).is_err(), "{name}");
        }
        files.add("a/b".into(), Vec::new()).unwrap();
        assert!(files.add("a/b".into(), Vec::new()).unwrap_err().contains("two files"));
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn a_folder_gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let written = files(&[("a.txt", "one"), ("sub/deep/b.txt", "two")]);
        written.write(dir.path()).unwrap();
        let read = Files::read(dir.path()).unwrap();
        assert_eq!(read, written);
        assert_eq!((read.len(), read.bytes()), (2, 6));
        std::fs::write(dir.path().join("more"), "x").unwrap();
        assert_ne!(Files::read(dir.path()).unwrap().hash(), written.hash());
    }
}
