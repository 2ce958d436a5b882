//! The files below a folder, and a count of everything that is passed over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use matformer_core::Manifest;
use matformer_core::fs::{self, CACHE_TAG};
use walkdir::{DirEntry, WalkDir};

use crate::counts::Group;
use crate::{Error, Result};

/// Why a file or a folder is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Its name starts with a dot.
    Hidden,
    /// A folder tagged as a cache.
    Cache,
    /// The folder of a model or of a training run.
    Model,
    /// A run file of ours.
    RunFile,
    /// A file of a tokenizer.
    Tokenizer,
    /// A symbolic link, below another one, to a folder that is read anyway.
    Again,
    /// A symbolic link to something that is not there.
    BrokenLink,
    /// A symbolic link to a folder that it lies in.
    Cycle,
    /// A pipe, a socket, a device.
    Special,
    /// A file of a format that is not known.
    Format,
    /// A file of a dataset repository that describes it.
    About,
    /// A file of a dataset repository beside those of its splits, or of a split that is not read.
    OtherSplit,
}

impl Reason {
    /// What one of these, and what several of them are called.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Hidden => ["hidden", "hidden"],
            Self::Cache => ["cache folder", "cache folders"],
            Self::Model => ["folder of a model or run", "folders of models or runs"],
            Self::RunFile => ["run file", "run files"],
            Self::Tokenizer => ["tokenizer file", "tokenizer files"],
            Self::Again => ["link to what is read anyway", "links to what is read anyway"],
            Self::BrokenLink => ["broken link", "broken links"],
            Self::Cycle => ["link to a folder above it", "links to folders above them"],
            Self::Special => ["pipe, socket or device", "pipes, sockets or devices"],
            Self::Format => ["file of unknown format", "files of unknown format"],
            Self::About => ["description", "descriptions"],
            Self::OtherSplit => ["file of no split that is read", "files of no split that is read"],
        }
    }
}

/// How many files and folders were not read, by reason, with the first of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver(BTreeMap<Reason, Group>);

impl PassedOver {
    /// Counts one more.
    pub(crate) fn add(&mut self, reason: Reason, name: impl fmt::Display) {
        Group::add(&mut self.0, reason, name);
    }

    /// Counts what another list has.
    pub(crate) fn join(&mut self, other: Self) {
        for (reason, Group { count, first }) in other.0 {
            self.0.entry(reason).or_insert(Group { count: 0, first }).count += count;
        }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PassedOver {
    /// `1 hidden (.git), 3 files of unknown format (a.png, …)`; `none` where everything was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, (reason, Group { count, first })) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let [one, many] = reason.names();
            if *count == 1 {
                write!(f, "{comma}1 {one} ({first})")?;
            } else {
                write!(f, "{comma}{count} {many} ({first}, …)")?;
            }
        }
        Ok(())
    }
}

/// A file below a folder.
#[derive(Debug)]
pub(crate) struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Its path from the folder.
    pub inside: PathBuf,
    /// Size and time of the file itself, also where a link leads to it.
    pub about: Metadata,
}

/// The files below `root`, sorted by the names of each folder; symbolic links are followed. What is
/// passed over is counted in `passed`: hidden entries, broken links, links to a folder above them,
/// and folders that are caches, models or training runs. `root` itself is read whatever it is.
///
/// # Errors
/// [`Error::File`] if a folder cannot be listed.
pub(crate) fn files(root: &Path, passed: &mut PassedOver) -> Result<Vec<File>> {
    let failed = |error: walkdir::Error| Error::File(fs::error(root, "list")(error.into()));
    let mut found = Vec::new();
    // How deep the links lie that are being followed. Below them, links to folders of `root` are not
    // followed: folders that all link to each other would be read in every order.
    let mut links: Vec<usize> = Vec::new();
    let real = root.canonicalize();
    let inside_root = |path: &Path| match (&real, path.canonicalize()) {
        (Ok(root), Ok(path)) => path.starts_with(root),
        _ => false,
    };
    let mut entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let (Some(reason), Some(path)) = (link_fault(&error), error.path()) else {
                    return Err(failed(error));
                };
                passed.add(reason, path.strip_prefix(root).unwrap_or(path).display());
                continue;
            }
        };
        let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
        links.retain(|depth| *depth < entry.depth());
        let link = entry.depth() > 0 && entry.path_is_symlink() && entry.file_type().is_dir();
        let again = link && !links.is_empty() && inside_root(entry.path());
        if link {
            links.push(entry.depth());
        }
        if let Some(reason) = reason(&entry).or(again.then_some(Reason::Again)) {
            passed.add(reason, inside.display());
            if entry.file_type().is_dir() {
                entries.skip_current_dir();
            }
        } else if entry.file_type().is_file() {
            let (path, inside) = (entry.path().into(), inside.into());
            let about = entry.metadata().map_err(failed)?;
            found.push(File { path, inside, about });
        }
    }
    Ok(found)
}

/// Why an entry that can be read is passed over, if it is.
fn reason(entry: &DirEntry) -> Option<Reason> {
    let (kind, path) = (entry.file_type(), entry.path());
    if entry.depth() == 0 {
        None
    } else if entry.file_name().as_encoded_bytes().starts_with(b".") {
        Some(Reason::Hidden)
    } else if kind.is_dir() {
        let has = |name: &str| path.join(name).is_file();
        if has(CACHE_TAG) || has("train.bin") && has("held_out.bin") && has("summary.json") {
            Some(Reason::Cache)
        } else {
            is_model(path).then_some(Reason::Model)
        }
    } else if kind.is_file() {
        let tokenizer = TOKENIZER_FILES.iter().any(|name| entry.file_name() == *name);
        let run_file = || is_run_file(path).then_some(Reason::RunFile);
        let about = is_about_arrow(path).then_some(Reason::About);
        tokenizer.then_some(Reason::Tokenizer).or(about).or_else(run_file)
    } else {
        Some(Reason::Special)
    }
}

/// The file in which `datasets` names the splits that it saved, each in a folder of its own.
pub(crate) const DATASET_DICT: &str = "dataset_dict.json";

/// Whether a file is one of those that `datasets` saves beside `.arrow` files.
fn is_about_arrow(path: &Path) -> bool {
    let beside = || {
        let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        let mut entries = entries.into_iter().flatten().flatten();
        entries.any(|entry| entry.path().extension().is_some_and(|suffix| suffix == "arrow"))
    };
    match path.file_name().and_then(OsStr::to_str) {
        Some(DATASET_DICT) => true,
        Some("dataset_info.json" | "state.json") => beside(),
        _ => false,
    }
}

/// Whether a file is a run file: TOML with tables of one, and nothing else. It changes with each
/// run, so that as data it would make the data another.
fn is_run_file(path: &Path) -> bool {
    let table = || std::fs::read_to_string(path).ok()?.parse::<toml::Table>().ok();
    let tables = ["model", "data", "train"];
    let ours = |table: toml::Table| {
        let has = |name: &str, keys: &[&str]| {
            let table = table.get(name).and_then(toml::Value::as_table);
            table.is_some_and(|table| keys.iter().any(|key| table.contains_key(*key)))
        };
        let said = table.contains_key("data")
            || has("model", &["preset", "lm", "vit"])
            || has("train", &["steps", "tokens_per_step", "images_per_step", "draw", "init"]);
        said && table.keys().all(|key| tables.contains(&key.as_str()))
    };
    path.extension().is_some_and(|suffix| suffix == "toml") && table().is_some_and(ours)
}

/// Whether a folder is a model's: one of ours, a training run, or one of Hugging Face's.
pub(crate) fn is_model(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let weights = || {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().to_lowercase());
        names.into_iter().any(|name| {
            let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
            WEIGHTS.contains(&suffix)
                || name.ends_with(".safetensors.index.json")
                || name.starts_with("pytorch_model")
        })
    };
    has(Manifest::FILE)
        || has("run.toml") && has("train.log")
        || CONFIGS.iter().any(|name| has(name)) && weights()
        || has("tokenizer.json") && has("tokenizer_config.json")
}

/// Files of a tokenizer that no text is called like.
const TOKENIZER_FILES: [&str; 3] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
/// What describes a model, and suffixes of the weights that lie beside it.
const CONFIGS: [&str; 3] = ["config.json", "adapter_config.json", "params.json"];
const WEIGHTS: [&str; 9] =
    ["safetensors", "gguf", "onnx", "msgpack", "h5", "pt", "pth", "ckpt", "npz"];

/// What is wrong with a symbolic link that cannot be followed, if that is what failed.
fn link_fault(error: &walkdir::Error) -> Option<Reason> {
    if error.loop_ancestor().is_some() {
        return Some(Reason::Cycle);
    }
    let link = std::fs::symlink_metadata(error.path()?).is_ok_and(|about| about.is_symlink());
    let denied = error.io_error()?.kind() == std::io::ErrorKind::PermissionDenied;
    (link && !denied && error.depth() > 0).then_some(Reason::BrokenLink)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with these files in it.
    pub(crate) fn made(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        folder
    }

    /// The files below a folder, and what was passed over.
    fn walked(root: &Path) -> (Vec<String>, String) {
        let mut passed = PassedOver::default();
        let found = files(root, &mut passed).unwrap();
        let names = found.into_iter().map(|file| file.inside.display().to_string()).collect();
        (names, passed.to_string())
    }

    #[test]
    fn what_is_no_data_is_passed_over_and_counted() {
        let root = made(&[
            "a.txt",
            ".hidden",
            ".git/config",
            "target/CACHEDIR.TAG",
            "target/a.txt",
            "runs/a/matformer.json",
            "runs/a/tokenizer.json",
            "runs/b/run.toml",
            "runs/b/train.log",
            "gpt2/config.json",
            "gpt2/model.safetensors.index.json",
            "notes/config.json",
            "notes/run.toml",
        ]);
        std::fs::write(root.path().join("my.toml"), "[data]\npaths = [\".\"]\n[train]\n").unwrap();
        std::fs::write(root.path().join("short.toml"), "[model]\npreset = \"demo\"\n").unwrap();
        std::fs::write(root.path().join("Cargo.toml"), "[package]\n[data]\n").unwrap();
        let (names, passed) = walked(root.path());
        assert_eq!(names, ["Cargo.toml", "a.txt", "notes/config.json", "notes/run.toml"]);
        assert_eq!(
            passed,
            "2 hidden (.git, …), 1 cache folder (target), 3 folders of models or runs (gpt2, …), \
             2 run files (my.toml, …)"
        );
        // A folder that is named is read.
        assert_eq!(walked(&root.path().join("runs/a")).0, ["matformer.json"]);
        assert_eq!(walked(&root.path().join("target")).0, ["CACHEDIR.TAG", "a.txt"]);
        assert_eq!(walked(&root.path().join("notes")).1, "none");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_cycles_end() {
        use std::os::unix::fs::symlink;
        let (root, other) = (made(&["a.txt", "sub/b.txt"]), made(&["c.txt", "deep/d.txt"]));
        let link = |to: &Path, name: &str| symlink(to, root.path().join(name)).unwrap();
        link(&other.path().join("c.txt"), "file.txt");
        link(&other.path().join("deep"), "folder");
        link(root.path(), "sub/up");
        link(Path::new("nowhere"), "gone.txt");
        link(Path::new("itself"), "itself");
        let (names, passed) = walked(root.path());
        assert_eq!(names, ["a.txt", "file.txt", "folder/d.txt", "sub/b.txt"]);
        assert_eq!(passed, "2 broken links (gone.txt, …), 1 link to a folder above it (sub/up)");
        // A link to a folder is read as the folder.
        link(other.path(), "all");
        assert_eq!(walked(&root.path().join("all")).0, ["c.txt", "deep/d.txt"]);
    }

    #[test]
    fn models_with_any_weights_and_tokenizers_are_passed_over() {
        let root = made(&[
            "a/config.json",
            "a/model.gguf",
            "b/adapter_config.json",
            "b/adapter_model.safetensors",
            "c/config.json",
            "c/pytorch_model-00001-of-00002.bin",
            "tok/tokenizer.json",
            "tok/tokenizer_config.json",
            "tok/merges.txt",
            "tokenizer.json",
            "cache/0123/train.bin",
            "cache/0123/held_out.bin",
            "cache/0123/summary.json",
            "data/config.json",
        ]);
        let (names, passed) = walked(root.path());
        assert_eq!(names, ["data/config.json"]);
        let expected = "1 cache folder (cache/0123), 4 folders of models or runs (a, …), 1 tokenizer \
                        file (tokenizer.json)";
        assert_eq!(passed, expected);
    }

    #[cfg(unix)]
    #[test]
    fn folders_that_link_to_each_other_are_not_read_in_every_order() {
        let names: Vec<String> = (0..9).map(|i| format!("f{i}")).collect();
        let files: Vec<String> = names.iter().map(|name| format!("{name}/a.txt")).collect();
        let root = made(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let pairs = names.iter().flat_map(|a| names.iter().map(move |b| (a, b)));
        for (a, b) in pairs.filter(|(a, b)| a != b) {
            let link = root.path().join(a).join(b);
            std::os::unix::fs::symlink(root.path().join(b), link).unwrap();
        }
        let (found, passed) = walked(root.path());
        assert_eq!(found.len(), 9 * 9, "each by itself and through every other");
        assert!(passed.contains("links to what is read anyway"), "{passed}");
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_not_read() {
        let root = made(&["a.txt"]);
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        assert_eq!(walked(root.path()).1, "1 pipe, socket or device (socket)");
    }
}
