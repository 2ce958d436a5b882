//! Paths in a run file: relative to the file; in memory, to the working directory.

use std::path::{Component, Path, PathBuf};

use matformer_data::Source;
use toml::{Table, Value};

/// The keys that hold a path, or a list of them, by table.
const KEYS: [(&[&str], &[&str]); 3] = [
    (&["data"], &["paths", "validation", "tokenizer", "path", "also"]),
    (&["train"], &["init"]),
    (&["train", "distill"], &["teacher"]),
];

/// Where relative paths start.
#[derive(Debug, Clone)]
pub(super) struct Base(PathBuf);

impl Base {
    /// A folder that is there.
    pub(super) fn folder(dir: &Path) -> Self {
        // A folder that is a link has the paths of what it leads to, from wherever it is named.
        let found = dir.canonicalize().or_else(|_| std::path::absolute(dir));
        Self(found.unwrap_or_else(|_| dir.to_owned()))
    }

    /// The folder of a file.
    pub(super) fn of(file: &Path) -> Self {
        match file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => Self::folder(dir),
            _ => Self::here(),
        }
    }

    /// The working directory.
    pub(super) fn here() -> Self {
        Self::folder(Path::new("."))
    }

    /// `path`, which is relative to this folder, expressed relative to the folder `to`.
    fn moved(&self, path: &Path, to: &Self) -> PathBuf {
        let path = without_dots(&self.0.join(path));
        let same = path.components().zip(to.0.components()).take_while(|(a, b)| a == b).count();
        let above = to.0.components().count() - same;
        let below = path.components().skip(same);
        let found: PathBuf =
            std::iter::repeat_n(Component::ParentDir, above).chain(below).collect();
        if found.as_os_str().is_empty() { PathBuf::from(".") } else { found }
    }
}

/// The path without `.` and `..`, which is the folder above the one that a link leads to.
fn without_dots(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                found = found.canonicalize().unwrap_or(found);
                found.pop();
            }
            part => found.push(part),
        }
    }
    found
}

/// Makes the relative paths in the table of a run file, which start at `from`, start at the working
/// directory.
pub(super) fn read(table: &mut Table, from: &Base) {
    let here = Base::here();
    each(table, from, &|path| from.moved(path, &here));
}

/// Makes the relative paths in the table of a run file, which start at the working directory, start
/// at `to`.
pub(super) fn write(table: &mut Table, to: &Base) {
    let here = Base::here();
    each(table, &here, &|path| here.moved(path, to));
}

fn each(table: &mut Table, from: &Base, change: &dyn Fn(&Path) -> PathBuf) {
    for (names, keys) in KEYS {
        let Some(table) = names.iter().try_fold(&mut *table, below) else { continue };
        if let Some(Value::Array(sources)) = table.get_mut("sources") {
            for source in sources.iter_mut().filter_map(Value::as_table_mut) {
                if let Some(Value::Array(list)) = source.get_mut("paths") {
                    list.iter_mut().for_each(|one| one_path(one, change));
                }
            }
        }
        for key in keys {
            match table.get_mut(*key) {
                Some(Value::Array(list)) => list.iter_mut().for_each(|one| one_path(one, change)),
                // `owner/name` is the name of a tokenizer on the hub unless it is there as a path.
                Some(Value::String(text))
                    if *key == "tokenizer"
                        && is_hub_name(text)
                        && !from.0.join(&*text).exists() => {}
                Some(value) => one_path(value, change),
                None => {}
            }
        }
    }
}

fn below<'a>(table: &'a mut Table, name: &&str) -> Option<&'a mut Table> {
    table.get_mut(*name)?.as_table_mut()
}

fn one_path(value: &mut Value, change: &dyn Fn(&Path) -> PathBuf) {
    let Value::String(text) = value else { return };
    if let Ok(Source::Path(path)) = text.parse()
        && path.is_relative()
    {
        *text = Source::Path(change(&path)).to_string();
    }
}

/// Whether a path may be meant as `owner/name` of the hub.
fn is_hub_name(text: &str) -> bool {
    !text.ends_with(".json") && format!("hf:{text}").parse::<Source>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_move_between_folders() {
        let base = |dir: &str| Base(dir.into());
        let moved = |path: &str, from: &str, to: &str| {
            base(from).moved(Path::new(path), &base(to)).display().to_string()
        };
        assert_eq!(moved("my.jsonl", "/a", "/a/runs/b"), "../../my.jsonl");
        assert_eq!(moved("../../my.jsonl", "/a/runs/b", "/a"), "my.jsonl");
        assert_eq!(moved("../../my.jsonl", "/a/runs/b", "/c"), "../a/my.jsonl");
        assert_eq!(moved("./x/../y", "/a", "/a"), "y");
        assert_eq!(moved("..", "/a/b", "/a"), ".");
        assert_eq!(moved("../..", "/a/b", "/c/d"), "../..");
    }

    #[test]
    fn only_relative_paths_of_the_known_keys_move() {
        let text = "[data]\npaths = [\"a\", \"/b\", \"hf:o/n\", \"fetch:prose\"]\n\
                    tokenizer = \"owner/name\"\nfield = \"text\"\n[train]\ninit = \"runs/d\"\n\
                    [[data.sources]]\npaths = [\"s\"]\nweight = 1\n\
                    [train.distill]\nteacher = \"t\"\n[other]\npaths = [\"a\"]\n";
        let mut table: Table = text.parse().unwrap();
        each(&mut table, &Base::here(), &|path| Path::new("new").join(path));
        let expected = text
            .replace("[\"a\", \"/b\"", "[\"new/a\", \"/b\"")
            .replace("\"runs/d\"", "\"new/runs/d\"")
            .replace("\"s\"", "\"new/s\"")
            .replace("\"t\"", "\"new/t\"");
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn what_is_written_reads_back_through_links_too() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("disk/runs/a");
        std::fs::create_dir_all(&real).unwrap();
        let text = "[data]\npaths = [\"my.jsonl\", \"sub/texts\"]\n";
        let mut table: Table = text.parse().unwrap();
        write(&mut table, &Base::folder(&real));
        assert_ne!(table, text.parse().unwrap());
        let written = table.clone();
        read(&mut table, &Base::folder(&real));
        assert_eq!(table, text.parse().unwrap());
        #[cfg(unix)]
        {
            let link = root.path().join("runs");
            std::os::unix::fs::symlink(root.path().join("disk/runs"), &link).unwrap();
            let mut table = written;
            read(&mut table, &Base::of(&link.join("a/run.toml")));
            assert_eq!(table, text.parse().unwrap());
        }
    }
}
