//! The folders of runs and models below a folder.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Recorded, folders, is_one};
use crate::error::{Result, chain};

/// A folder that was found.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What is recorded in it, or why that cannot be read.
    pub recorded: Result<Recorded>,
}

impl Found {
    /// What is recorded, or why that cannot be read, as JSON: the same keys for each folder.
    ///
    /// # Errors
    /// As [`Recorded::to_json`].
    pub fn to_json(&self) -> Result<Value> {
        let (mut value, error) = match &self.recorded {
            Ok(recorded) => (recorded.to_json(&self.path)?, Value::Null),
            Err(error) => (Recorded::unknown(&self.path)?, chain(error).into()),
        };
        value["error"] = error;
        Ok(value)
    }
}

/// The runs and models below `root`, at most `depth` folders deep, sorted by path; `root` itself may be one.
/// What lies in the folder of a run or a model is its own, except in `root`. Hidden folders and caches are
/// left out. Links are followed, and each folder is found once: by its own path where it has one below `root`.
///
/// # Errors
/// When `root` cannot be listed.
pub fn find(root: &Path, depth: usize) -> Result<Vec<Found>> {
    folders(root)?;
    let mut walk = Walk { seen: HashSet::new(), links: Vec::new(), found: Vec::new() };
    walk.visit(root, depth, true);
    // Links last: what they lead to may have a path of its own.
    while !walk.links.is_empty() {
        for (path, depth) in std::mem::take(&mut walk.links) {
            walk.visit(&path, depth, false);
        }
    }
    walk.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walk.found)
}

struct Walk {
    /// Folders that were visited, where links lead to.
    seen: HashSet<PathBuf>,
    /// Links to folders that were met, and how much deeper to look.
    links: Vec<(PathBuf, usize)>,
    found: Vec<Found>,
}

impl Walk {
    fn visit(&mut self, dir: &Path, depth: usize, is_root: bool) {
        let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        if !self.seen.insert(real) {
            return;
        }
        if is_one(dir) {
            self.found.push(Found { path: dir.to_owned(), recorded: Recorded::read(dir) });
            if !is_root {
                return;
            }
        }
        if depth == 0 || dir.join("CACHEDIR.TAG").is_file() {
            return;
        }
        match folders(dir) {
            Ok(below) => {
                for path in below.into_iter().filter(|path| !is_left_out(path, is_root)) {
                    if path.is_symlink() {
                        self.links.push((path, depth - 1));
                    } else {
                        self.visit(&path, depth - 1, false);
                    }
                }
            }
            Err(error) => self.found.push(Found { path: dir.to_owned(), recorded: Err(error) }),
        }
    }
}

/// Hidden folders, and the checkpoints of a run.
fn is_left_out(path: &Path, in_root: bool) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") || in_root && name == b"checkpoints"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    fn names(root: &Path, depth: usize) -> Vec<String> {
        let found = find(root, depth).unwrap();
        let name = |found: &Found| found.path.strip_prefix(root).unwrap().display().to_string();
        found.iter().map(name).collect()
    }

    #[test]
    fn folders_are_found_once_and_not_too_deep() {
        let root = place(&[
            "a/matformer.json",
            "a/checkpoints/step-1/matformer.json",
            "b/run.toml",
            "b/train.log",
            "mine/run.toml",
            ".hidden/matformer.json",
            "target/CACHEDIR.TAG",
            "target/x/matformer.json",
            "deep/1/2/3/matformer.json",
        ]);
        assert_eq!(names(root.path(), 5), ["a", "b", "deep/1/2/3"]);
        assert_eq!(names(root.path(), 3), ["a", "b"]);
        let all = find(root.path(), 5).unwrap();
        let readable: Vec<bool> = all.iter().map(|found| found.recorded.is_ok()).collect();
        assert_eq!(readable, [false, true, false], "an empty run file is one, a manifest is not");
        assert_eq!(names(&root.path().join("a"), 5), [""]);
        assert!(find(&root.path().join("none"), 5).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_do_not_go_round() {
        use std::os::unix::fs::symlink;
        let (root, disk) = (place(&["runs/x.txt"]), place(&["big/matformer.json"]));
        symlink(disk.path().join("big"), root.path().join("runs/big")).unwrap();
        symlink(disk.path().join("big"), root.path().join("runs/again")).unwrap();
        symlink(root.path(), root.path().join("runs/up")).unwrap();
        symlink("nowhere", root.path().join("runs/broken")).unwrap();
        assert_eq!(names(root.path(), 9), ["runs/again"]);
        // A folder that has a path of its own is found by it, however its links are called.
        let root = place(&["runs/deep/own/matformer.json"]);
        symlink(root.path().join("runs/deep/own"), root.path().join("runs/a")).unwrap();
        assert_eq!(names(root.path(), 9), ["runs/deep/own"]);
    }
}
