//! From the sources of a corpus to the files to read, each with the name of its documents.

use std::collections::HashMap;
use std::path::Path;

use crate::format::Format;
use crate::hub::{self, Hub};
use crate::progress::{Progress, Stage};
use crate::reader::Input;
use crate::source::{Folder, HubName, Source};
use crate::walk::{self, PassedOver, Reason};
use crate::{Error, Result};

/// Files of a dataset repository that are about it, not of it; read if they are named.
const ABOUT: [&str; 2] = ["README.md", "dataset_infos.json"];

/// The files that `sources` name, in their order; hub names are downloaded. What is passed over is
/// counted in `passed`.
///
/// # Errors
/// A path that is not there or of no known format, a folder that cannot be walked, a hub name that
/// cannot be had, two files of one name.
pub(crate) fn find(
    sources: &[Source],
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for source in sources {
        if !matches!(source, Source::Hub(_)) {
            progress(Progress { stage: Stage::Read, done: 0, total: 0 });
        }
        match source {
            Source::Path(path) => found.extend(at(path, sources.len() == 1, passed)?),
            Source::Hub(name) => found.extend(of_hub(&Hub::from_env()?, name, passed, progress)?),
            Source::Folder(of) => found.extend(named(of, &Format::of, passed)?),
            Source::Fetched(_) => {
                return Err(Error::Unresolved { found: source.to_string() });
            }
        }
    }
    check_names(&found)?;
    // Of one work alone, its chapters are what is drawn.
    if let [first, ..] = &found[..]
        && found.iter().all(|file| file.cluster == first.cluster)
    {
        found.iter_mut().for_each(|file| file.cluster = None);
    }
    Ok(found)
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
        return folder(path, if alone { "" } else { &name }, &Format::of, passed);
    }
    if !about.is_file() {
        let reason = "a pipe, socket or device; expected: a file or a folder";
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, reason);
        return Err(Error::Path { path: path.into(), source });
    }
    let format =
        Format::of(path).ok_or_else(|| Error::Suffix { file: path.display().to_string() })?;
    Ok(vec![Input::new(path, name, path.display().to_string(), format)])
}

/// The files of a folder that stands for a name, of which `format` knows what they hold.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn named(
    of: &Folder,
    format: &dyn Fn(&Path) -> Option<Format>,
    passed: &mut PassedOver,
) -> Result<Vec<Input>> {
    let mut files = folder(&of.dir, &of.name, format, passed)?;
    files.iter_mut().for_each(|file| file.cluster.clone_from(&of.cluster));
    Ok(files)
}

/// Every file below `root` of which `format` knows what it holds ([`walk::files`]), with `name`, if it
/// is not empty, in front of their paths; what is passed over is counted in `passed`.
fn folder(
    root: &Path,
    name: &str,
    format: &dyn Fn(&Path) -> Option<Format>,
    passed: &mut PassedOver,
) -> Result<Vec<Input>> {
    let mut found = Vec::new();
    for file in walk::files(root, passed)? {
        let Some(format) = format(&file.path) else {
            passed.add(Reason::Format, file.inside.display());
            continue;
        };
        let inside = file.inside.iter().map(|part| part.to_string_lossy());
        let parts: Vec<_> =
            Some(name.into()).filter(|_| !name.is_empty()).into_iter().chain(inside).collect();
        let name = parts.join("/");
        found.push(Input::new(&file.path, name, file.path.display().to_string(), format));
    }
    Ok(found)
}

/// The files of a dataset repository, named `owner/name/path`.
fn of_hub(
    hub: &Hub,
    name: &HubName,
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let mut wanted = |inside: &str| {
        let reason = if inside.split('/').any(|part| part.starts_with('.')) {
            Some(Reason::Hidden)
        } else if ABOUT.contains(&inside) {
            Some(Reason::About)
        } else {
            Format::of(Path::new(inside)).is_none().then_some(Reason::Format)
        };
        reason.inspect(|reason| passed.add(*reason, inside)).is_none()
    };
    let files = hub.files(hub::Kind::Dataset, name, &mut wanted, progress)?;
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
        Ok(Input::new(&file.path, name, label, format))
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
    fn new(path: &Path, name: String, label: String, format: Format) -> Self {
        let name = format.unpacked_name(&name).to_owned();
        Self { path: path.into(), name, label, format, cluster: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::made;

    fn found(root: &Path, paths: &[&str]) -> Result<Vec<String>> {
        let sources: Vec<Source> = paths.iter().map(|path| root.join(path).into()).collect();
        Ok(find(&sources, &mut PassedOver::default(), &mut |_| {})?
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
            })
        };
        let found = |sources: &[Source]| {
            let found = find(sources, &mut PassedOver::default(), &mut |_| {}).unwrap();
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
        let error = find(&sources, &mut PassedOver::default(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("`fetch:prose` "), "{error}");
    }

    #[test]
    fn unknown_missing_and_twice_named_files_are_errors() {
        let root = made(&["data/a.txt", "data/b.parquet.gz", "more/data/a.txt.zst"]);
        let paths = |paths: &[&str]| found(root.path(), paths).unwrap_err();
        assert!(matches!(paths(&["data/b.parquet.gz"]), Error::Suffix { .. }));
        assert!(paths(&["nowhere"]).to_string().contains("nowhere"));
        let Error::SameName { name, files } = paths(&["data", "more/data"]) else { panic!() };
        assert_eq!(name, "data/a.txt");
        let path = |path: &str| root.path().join(path).display().to_string();
        assert_eq!(files, [path("data/a.txt"), path("more/data/a.txt.zst")]);
    }
}
