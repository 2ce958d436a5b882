//! The files below a folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use matformer_core::fs;

use crate::{Error, PassedOver, Result, paths, walk};

/// The files below a folder, sorted by path.
#[derive(Debug)]
pub(super) struct Listing {
    /// The folder.
    pub root: PathBuf,
    /// What lies below it.
    pub files: Vec<Listed>,
}

/// A file below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its path from the folder.
    pub inside: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was changed, in nanoseconds since 1970; 0 where that is unknown.
    pub modified: u128,
}

impl Listed {
    /// The path from the folder, with `/` between its parts.
    pub(super) fn name(&self) -> String {
        paths::joined(&self.inside)
    }
}

impl Listing {
    /// Lists the files below `root` ([`walk::files`]); what is passed over is counted in `passed`.
    ///
    /// # Errors
    /// [`Error::File`] if `root` is not there or cannot be listed, [`Error::Images`] if it is a file.
    pub(super) fn of(root: &Path, passed: &mut PassedOver) -> Result<Self> {
        if !std::fs::metadata(root).map_err(fs::error(root, "read"))?.is_dir() {
            let problem = format!("`{}` is a file, expected: a folder of images", root.display());
            return Err(Error::images(problem, "name the folder that it lies in"));
        }
        let listed = |file: walk::File| Listed {
            inside: file.inside,
            bytes: file.about.len(),
            modified: paths::changed(&file.about),
        };
        let mut files: Vec<_> = walk::files(root, passed)?.into_iter().map(listed).collect();
        files.sort_by(|a, b| a.inside.cmp(&b.inside));
        Ok(Self { root: root.into(), files })
    }

    /// The files below each of some folders.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub(super) fn all<P: AsRef<Path>>(roots: &[P], passed: &mut PassedOver) -> Result<Vec<Self>> {
        roots.iter().map(|root| Self::of(root.as_ref(), passed)).collect()
    }

    /// Where a file lies.
    pub(super) fn path(&self, file: &Listed) -> PathBuf {
        self.root.join(&file.inside)
    }

    /// The file at a path from the folder.
    pub(super) fn get(&self, inside: &Path) -> Option<&Listed> {
        let at = self.files.binary_search_by(|file| file.inside.as_path().cmp(inside)).ok()?;
        self.files.get(at)
    }

    /// The folder that has a file with one of these names, as a path from the root.
    ///
    /// # Errors
    /// [`Error::Images`] if there are two such folders.
    pub(super) fn folder_with(&self, names: &[&str]) -> Result<Option<&Path>> {
        let named = |file: &&Listed| names.iter().any(|name| file.inside.ends_with(name));
        let folders: BTreeSet<&Path> =
            self.files.iter().filter(named).filter_map(|file| file.inside.parent()).collect();
        let mut folders = folders.into_iter();
        match (folders.next(), folders.next()) {
            (Some(first), Some(second)) => {
                let [first, second] = [first, second].map(|folder| self.root.join(folder));
                let (first, second) = (first.display(), second.display());
                Err(Error::images(
                    format!(
                        "there is a set of images in `{first}` and in `{second}`, expected: one"
                    ),
                    "name one of them in `data.path`",
                ))
            }
            (first, _) => Ok(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;

    #[test]
    fn links_are_listed_as_the_files_that_they_lead_to() {
        let place = Place::new();
        for name in ["b/1.png", "a/sub/2.png", "a/.hidden", "c.txt"] {
            place.write(name, b"12345");
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(place.path("b"), place.path("d")).unwrap();
        #[cfg(not(unix))]
        place.write("d/1.png", b"12345");
        let mut passed = PassedOver::default();
        let listing = Listing::of(&place.root(), &mut passed).unwrap();
        let names: Vec<String> = listing.files.iter().map(Listed::name).collect();
        assert_eq!(names, ["a/sub/2.png", "b/1.png", "c.txt", "d/1.png"]);
        assert_eq!(passed.to_string(), "1 hidden (a/.hidden)");
        let file = listing.get(Path::new("d/1.png")).unwrap();
        assert!(file.bytes == 5 && file.modified > 0);
        assert_eq!(listing.path(file), place.path("d/1.png"));
        assert_eq!(listing.get(Path::new("b/2.png")), None);
    }

    #[test]
    fn a_set_lies_in_one_folder() {
        let place = Place::new();
        place.write("usr/share/one/x.gz", b"");
        let found = |names: &[&str]| {
            let listing = Listing::of(&place.root(), &mut PassedOver::default()).unwrap();
            let found = listing.folder_with(names);
            found.map(|folder| folder.map(Path::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(found(&["x", "x.gz"]), Ok(Some("usr/share/one".into())));
        assert_eq!(found(&["x"]), Ok(None));
        place.write("x", b"");
        let (here, below) = (place.path(""), place.path("usr/share/one"));
        let message = found(&["x", "x.gz"]).unwrap_err();
        let expected = format!(
            "there is a set of images in `{}` and in `{}`, expected: one",
            here.display(),
            below.display()
        );
        assert_eq!(message, expected);
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let place = Place::new();
        place.write("file", b"");
        let message = |name: &str| {
            Listing::of(&place.path(name), &mut PassedOver::default()).unwrap_err().to_string()
        };
        let path = |name: &str| place.path(name).display().to_string();
        assert_eq!(message("none"), format!("cannot read `{}`", path("none")));
        let expected = format!("`{}` is a file, expected: a folder of images", path("file"));
        assert_eq!(message("file"), expected);
    }
}
