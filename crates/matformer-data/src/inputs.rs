//! From the sources of a corpus to the files to read, each with the name of its documents.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::format::{self, Format, Kind};
use crate::hub::{self, Hub};
use crate::paths::joined;
use crate::progress::{Progress, Stage};
use crate::source::{Folder, HubName, Source};
use crate::walk::{self, PassedOver, Reason};
use crate::{Error, Result, splits, tokens};

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// The name of its document, or what stands in front of `:17` in the names of its rows. Holds
    /// no machine path.
    pub name: String,
    /// What errors call it: its path, or its hub name.
    pub label: String,
    /// What it holds.
    pub format: Format,
    /// The cluster of its documents.
    pub cluster: Option<String>,
    /// The folder that it lies in, directly below the one that was named.
    pub folder: Option<String>,
    /// The split of its documents.
    pub part: Part,
    /// Whether it was named, not found in a folder.
    pub named: bool,
    /// The source that it is of, where there are several with weights.
    pub source: usize,
}

/// The split that a file's documents are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Each is drawn by its name.
    Drawn,
    /// All are trained on.
    Train,
    /// All are held out: `data.validation`.
    Validation,
}

/// Files of a dataset repository that are about it, not of it; read if they are named.
const ABOUT: [&str; 2] = ["README.md", "dataset_infos.json"];

/// The files that groups of sources name, in their order, and those of `validation`, if it names any; hub names
/// are downloaded. What is passed over is counted in `passed`.
///
/// # Errors
/// A path that is not there or of no known format, a folder that cannot be walked, a hub name that
/// cannot be had, two files of one name.
pub(crate) fn find(
    groups: &[&[Source]],
    validation: &[Source],
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for (source, sources) in groups.iter().enumerate() {
        let alone = groups.len() == 1 && sources.len() == 1;
        let files = all(sources, alone, passed, progress)?.into_iter();
        found.extend(files.map(|file| Input { source, ..file }));
    }
    if !validation.is_empty() {
        // Whatever a repository says of its own splits.
        found.retain(|file| file.part != Part::Validation);
        let mut held_out = all(validation, validation.len() == 1, passed, progress)?;
        if held_out.iter().any(|file| file.part == Part::Validation) {
            held_out.retain(|file| file.part == Part::Validation);
        }
        found.iter_mut().for_each(|file| file.part = Part::Train);
        held_out.iter_mut().for_each(|file| file.part = Part::Validation);
        found.extend(held_out);
    }
    tell_apart(&mut found);
    check_names(&found)?;
    // Of one work alone, its chapters are what is drawn.
    if let [first, ..] = &found[..]
        && found.iter().all(|file| file.cluster == first.cluster)
    {
        found.iter_mut().for_each(|file| file.cluster = None);
    }
    Ok(found)
}

fn all(
    sources: &[Source],
    alone: bool,
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for source in sources {
        if !matches!(source, Source::Hub(_)) {
            progress(Progress { stage: Stage::Read, done: 0, total: 0 });
        }
        match source {
            Source::Path(path) => found.extend(at(path, alone, passed)?),
            Source::Hub(name) => found.extend(of_hub(&Hub::from_env()?, name, passed, progress)?),
            Source::Folder(of) => found.extend(named(of, passed)?),
            Source::Fetched(_) => {
                return Err(Error::Unresolved { found: source.to_string() });
            }
        }
    }
    Ok(found)
}

/// Files of one name get the names of the folders that they are in as well, as many as tell them apart:
/// `a/train.jsonl` and `b/train.jsonl`.
fn tell_apart(inputs: &mut [Input]) {
    let mut names: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, input) in inputs.iter().enumerate() {
        names.entry(input.name.clone()).or_default().push(place);
    }
    names.retain(|_, places| places.len() > 1);
    for places in names.into_values() {
        let longer = |place: &usize, more: usize| inputs[*place].longer_name(more);
        let distinct = (1..16).map(|more| places.iter().map(|p| longer(p, more)).collect());
        let differ = |all: &Vec<String>| all.iter().collect::<HashSet<_>>().len() == all.len();
        let found: Option<Vec<String>> = distinct.into_iter().find(differ);
        for (place, name) in places.iter().zip(found.into_iter().flatten()) {
            inputs[*place].name = name;
        }
    }
}

/// A file, or all files of a folder. Where the folder is all there is, its own name stays out of the
/// names of the documents: a folder that is renamed or moved holds the same data, split alike.
pub(crate) fn at(path: &Path, alone: bool, passed: &mut PassedOver) -> Result<Vec<Input>> {
    // `.` and `..` are called what the folder is called, from wherever it is read.
    let named = match path.file_name() {
        Some(_) => path.to_owned(),
        None => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
    };
    let name = named.file_name().unwrap_or("/".as_ref()).to_string_lossy().into_owned();
    let about = std::fs::metadata(path).map_err(|source| Error::Path { path: path.into(), source });
    let about = about?;
    if about.is_dir() {
        let ids = tokens::in_folder(path);
        if !ids.is_empty() {
            return Ok(ids.into_iter().map(|name| of_ids(&path.join(&name), name)).collect());
        }
        return folder(path, if alone { "" } else { &name }, passed);
    }
    if !about.is_file() {
        let reason = "a pipe, socket or device; expected: a file or a folder";
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, reason);
        return Err(Error::Path { path: path.into(), source });
    }
    let ids = format::suffix(path) == "bin";
    let format = if ids { Some(Format::TOKENS) } else { Format::of(path) };
    let format = format.ok_or_else(|| Error::Suffix { file: path.display().to_string() })?;
    Ok(vec![Input { named: true, ..Input::new(path, name, path.display().to_string(), format) }])
}

/// A file of token ids in a folder of them: its name says its split.
fn of_ids(path: &Path, name: String) -> Input {
    let held_out = tokens::part(&name) == Some(true);
    let part = if held_out { Part::Validation } else { Part::Train };
    Input { part, ..Input::new(path, name, path.display().to_string(), Format::TOKENS) }
}

/// The files of a folder that stands for a name.
///
/// # Errors
/// [`Error::File`].
fn named(of: &Folder, passed: &mut PassedOver) -> Result<Vec<Input>> {
    let mut files = folder(&of.dir, &of.name, passed)?;
    files.iter_mut().for_each(|file| file.cluster.clone_from(&of.cluster));
    Ok(files)
}

/// Every file below `root` of a known format ([`walk::files`]), with `name`, if it is not empty, in front of their
/// paths; what is passed over is counted in `passed`. Of a data set that `datasets` saved with its splits, those of
/// the test split are.
fn folder(root: &Path, name: &str, passed: &mut PassedOver) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for file in walk::files(root, passed)? {
        let Some(format) = Format::of(&file.path) else {
            passed.add(Reason::Format, file.inside.display());
            continue;
        };
        let named = |inside: &Path| match name {
            "" => joined(inside),
            name => format!("{name}/{}", joined(inside)),
        };
        let top = file.inside.iter().next().map(Path::new);
        let folder = top.filter(|top| *top != file.inside).map(named);
        let label = file.path.display().to_string();
        found.push(Input { folder, ..Input::new(&file.path, named(&file.inside), label, format) });
    }
    if root.join(walk::DATASET_DICT).is_file() {
        take_splits(root, &mut found, passed);
    }
    Ok(found)
}

/// Keeps the files of the splits that are read, where their paths below `root` name any.
fn take_splits(root: &Path, found: &mut Vec<Input>, passed: &mut PassedOver) {
    let inside = |file: &Input| {
        file.path.strip_prefix(root).unwrap_or(&file.path).to_string_lossy().into_owned()
    };
    let parts = splits::of(&found.iter().map(inside).collect::<Vec<_>>());
    found.retain_mut(|file| match part_of(&inside(file), &parts, passed) {
        Some(part) => {
            file.part = part;
            true
        }
        None => false,
    });
}

/// The split that a file is in, where `parts` says which files are in any; a file that is in none is counted.
fn part_of(inside: &str, parts: &HashMap<String, Part>, passed: &mut PassedOver) -> Option<Part> {
    if parts.is_empty() {
        return Some(Part::Drawn);
    }
    let part = parts.get(inside).copied();
    if part.is_none() {
        passed.add(Reason::OtherSplit, inside);
    }
    part
}

/// The files of a dataset repository, named `owner/name/path`.
fn of_hub(
    hub: &Hub,
    name: &HubName,
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let (mut counted, mut part) = (PassedOver::default(), HashMap::new());
    let mut keep = |files: &mut Vec<String>| {
        files.retain(|inside| {
            let reason = if inside.split('/').any(|part| part.starts_with('.')) {
                Some(Reason::Hidden)
            } else if ABOUT.contains(&inside.as_str()) {
                Some(Reason::About)
            } else {
                Format::of(Path::new(inside)).is_none().then_some(Reason::Format)
            };
            reason.inspect(|reason| counted.add(*reason, inside)).is_none()
        });
        part = splits::of(files);
        files.retain(|inside| part_of(inside, &part, &mut counted).is_some());
    };
    let files = hub.files(hub::Kind::Dataset, name, &mut keep, progress)?;
    passed.join(counted);
    if hub.offline && files.iter().any(|file| name.path.as_ref() != Some(&file.inside)) {
        tracing::warn!(
            "HF_HUB_OFFLINE is set: of `hf:{name}` what the cache holds is read, files: {}",
            files.len()
        );
    }
    let input = |file: hub::HubFile| {
        let label = HubName { path: Some(file.inside.clone()), ..name.clone() };
        let label = Source::Hub(label).to_string();
        let format = Format::of(Path::new(&file.inside))
            .ok_or_else(|| Error::Suffix { file: label.clone() })?;
        let name = format!("{}/{}", name.repository, file.inside);
        let part = part.get(&file.inside).copied().unwrap_or(Part::Drawn);
        Ok(Input { part, ..Input::new(&file.path, name, label, format) })
    };
    files.into_iter().map(input).collect()
}

/// Documents have the names of their files: no two files may have the same.
///
/// # Errors
/// [`Error::SameName`].
pub(crate) fn check_names(inputs: &[Input]) -> Result<()> {
    let mut labels = HashMap::new();
    for input in inputs {
        if let Some(first) = labels.insert(&input.name, &input.label) {
            return Err(Error::SameName {
                name: input.name.clone(),
                files: [first.clone(), input.label.clone()],
            });
        }
    }
    Ok(())
}

impl Input {
    /// A file that is called `name` with its packing.
    pub(crate) fn new(path: &Path, name: String, label: String, format: Format) -> Self {
        let name = format.unpacked_name(&name).to_owned();
        let path = path.into();
        let (cluster, folder, part) = (None, None, Part::Drawn);
        Self { path, name, label, format, cluster, folder, part, named: false, source: 0 }
    }

    /// Its name behind those of `more` folders that it lies in, where it is called as its path is.
    fn longer_name(&self, more: usize) -> String {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let known = self.name.split('/').count() + more;
        let longer = joined(path.iter().skip(path.iter().count().saturating_sub(known)));
        let longer = self.format.unpacked_name(&longer);
        if longer.ends_with(&self.name) { longer.to_owned() } else { self.name.clone() }
    }

    /// Whether it is a table that nobody asked for.
    pub(crate) fn is_stray_table(&self) -> bool {
        !self.named && matches!(self.format.kind, Kind::Table { .. })
    }

    /// The size of the file as it lies there; what cannot be asked for its size fails when it is read.
    pub(crate) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::made;

    fn found(root: &Path, paths: &[&str]) -> Result<Vec<String>> {
        let sources: Vec<Source> = paths.iter().map(|path| root.join(path).into()).collect();
        Ok(find(&[&sources], &[], &mut PassedOver::default(), &mut |_| {})?
            .into_iter()
            .map(|input| input.name)
            .collect())
    }

    #[test]
    fn folders_give_what_can_be_read() {
        let root = made(&[
            "data/a.txt",
            "data/sub/b.RS",
            "data/c.jsonl.gz",
            "data/d.parquet",
            "data/image.png",
            "data/.git/c.txt",
            "data/target/CACHEDIR.TAG",
            "data/target/d.rs",
        ]);
        let names = found(root.path(), &["data"]).unwrap();
        assert_eq!(names, ["a.txt", "c.jsonl", "d.parquet", "sub/b.RS"]);
        let names = found(root.path(), &["data", "data/d.parquet"]).unwrap();
        assert_eq!(names[3..], ["data/sub/b.RS", "d.parquet"], "which of several is said");
        assert_eq!(found(root.path(), &["data/c.jsonl.gz"]).unwrap(), ["c.jsonl"]);
    }

    #[test]
    fn a_folder_that_stands_for_a_name_has_its_documents_under_it() {
        let root = made(&["a/x.txt", "b/deep/y.txt", "c.txt"]);
        let folder = |dir: &str, cluster: Option<&str>| {
            let cluster = cluster.map(str::to_owned);
            Source::Folder(Folder {
                dir: root.path().join(dir),
                name: format!("tales/{dir}"),
                cluster,
                pinned: None,
            })
        };
        let found = |sources: &[Source]| {
            let found = find(&[sources], &[], &mut PassedOver::default(), &mut |_| {}).unwrap();
            found.into_iter().map(|file| (file.name, file.cluster)).collect::<Vec<_>>()
        };
        let work = || Some("work".to_owned());
        let (one, other) = (folder("a", Some("work")), folder("b", None));
        let names = [("tales/a/x.txt".to_owned(), work()), ("tales/b/deep/y.txt".to_owned(), None)];
        assert_eq!(found(&[one.clone(), other]), names);
        // Alone, its documents are what is drawn.
        assert_eq!(found(std::slice::from_ref(&one)), [("tales/a/x.txt".to_owned(), None)]);
        let path = Source::from(root.path().join("c.txt"));
        assert_eq!(found(&[one, path])[0].1, work());
    }

    #[test]
    fn a_name_that_nobody_put_folders_for_is_an_error() {
        let sources = ["fetch:prose".parse().unwrap()];
        let error = find(&[&sources], &[], &mut PassedOver::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("`fetch:prose` "), "{error}");
    }

    #[test]
    fn unknown_missing_and_twice_named_files_are_errors() {
        let root = made(&["data/a.txt", "data/b.parquet.gz", "more/data/a.txt.zst"]);
        let paths = |paths: &[&str]| found(root.path(), paths).unwrap_err();
        assert!(matches!(paths(&["data/b.parquet.gz"]), Error::Suffix { .. }));
        assert!(paths(&["nowhere"]).to_string().contains("nowhere"));
        let path = |path: &str| root.path().join(path).display().to_string();
        let Error::SameName { name, files } = paths(&["data/a.txt", "data/a.txt"]) else {
            panic!()
        };
        assert_eq!((name.as_str(), files), ("a.txt", [path("data/a.txt"), path("data/a.txt")]));
    }

    #[test]
    fn of_a_saved_data_set_its_rows_are_read() {
        let root = made(&[
            "set/dataset_dict.json",
            "set/train/data-00000-of-00001.arrow",
            "set/train/dataset_info.json",
            "set/train/state.json",
            "other/state.json",
        ]);
        let names = found(root.path(), &["set", "other"]).unwrap();
        assert_eq!(names, ["set/train/data-00000-of-00001.arrow", "other/state.json"]);
    }

    #[test]
    fn the_test_split_of_a_saved_data_set_is_not_read() {
        let root = made(&[
            "set/dataset_dict.json",
            "set/test/data-00000-of-00001.arrow",
            "set/train/data-00000-of-00001.arrow",
            "set/validation/data-00000-of-00001.arrow",
        ]);
        let (source, mut passed) = (Source::from(root.path().join("set")), PassedOver::default());
        let files = find(&[&[source]], &[], &mut passed, &mut |_| {}).unwrap();
        let found: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.part)).collect();
        let expected = [
            ("train/data-00000-of-00001.arrow", Part::Train),
            ("validation/data-00000-of-00001.arrow", Part::Validation),
        ];
        assert_eq!(found, expected);
        assert!(passed.to_string().contains("1 file of no split that is read (test/"), "{passed}");
    }

    #[test]
    fn files_of_one_name_are_told_apart_by_their_folders() {
        let root = made(&["a/train.jsonl", "b/train.jsonl.gz", "b/more.txt", "c/b/more.txt"]);
        let found = |paths: &[&str]| found(root.path(), paths).unwrap();
        let names = found(&["a/train.jsonl", "b/train.jsonl.gz", "b/more.txt"]);
        assert_eq!(names, ["a/train.jsonl", "b/train.jsonl", "more.txt"]);
        let folder = root.path().file_name().unwrap().to_string_lossy();
        let more = [format!("{folder}/b/more.txt"), "b/train.jsonl".into(), "c/b/more.txt".into()];
        assert_eq!(found(&["b", "c/b"]), more);
    }
}
