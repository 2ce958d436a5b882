//! From the sources of a corpus to the files to read, each with the name of its documents.

use std::collections::HashMap;
use std::path::Path;

use crate::format::Format;
use crate::hub::{self, Hub};
use crate::progress::{Progress, Stage};
use crate::reader::Input;
use crate::source::{HubName, Source};
use crate::walk::{self, PassedOver, Reason};
use crate::{Error, Result, fetch};

/// Files of a dataset repository that are about it, not of it; read if they are named.
const ABOUT: [&str; 2] = ["README.md", "dataset_infos.json"];

/// The files that `sources` name, in their order; hub names are downloaded, named sources are fetched
/// into `cache_dir`. What is passed over is counted in `passed`.
///
/// # Errors
/// A path that is not there or of no known format, a folder that cannot be walked, a hub name that
/// cannot be had, two files of one name.
pub(crate) fn find(
    sources: &[Source],
    cache_dir: &Path,
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
            Source::Fetched(name) => {
                for part in fetch::texts(cache_dir, name, progress)? {
                    let files = folder(&part.dir, &part.name, &Format::of, passed)?;
                    found.extend(files.into_iter().map(|file| match &part.work {
                        Some(work) => file.of_cluster(work),
                        None => file,
                    }));
                }
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

/// Every file below `root` of which `format` knows what it holds ([`walk::files`]), with `name`, if it
/// is not empty, in front of their paths; what is passed over is counted in `passed`.
///
/// # Errors
/// [`Error::Walk`].
pub(crate) fn folder(
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

    /// The same file, whose documents belong to a cluster.
    pub(crate) fn of_cluster(self, cluster: &str) -> Self {
        Self { cluster: Some(cluster.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::made;

    fn found(root: &Path, paths: &[&str]) -> Result<Vec<String>> {
        let sources: Vec<Source> = paths.iter().map(|path| root.join(path).into()).collect();
        Ok(find(&sources, root, &mut PassedOver::default(), &mut |_| {})?
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
    fn a_source_of_no_known_name_or_of_images_is_refused_before_anything_is_fetched() {
        let root = made(&[]);
        let error = find(
            &["fetch:poems".parse().unwrap()],
            root.path(),
            &mut PassedOver::default(),
            &mut |_| {},
        )
        .unwrap_err();
        assert!(matches!(error, Error::UnknownSource { .. }), "{error}");
        let error = find(
            &["fetch:emoji".parse().unwrap()],
            root.path(),
            &mut PassedOver::default(),
            &mut |_| {},
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "source `emoji` holds images, expected: text");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
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
