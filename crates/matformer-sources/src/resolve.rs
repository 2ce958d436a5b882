//! From the names in a run file to folders on this machine.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_data::{self as data, DataConfig, Folder, ImageConfig, Stage};

use crate::fetch::content_dir;
use crate::{Content, Error, Part, Progress, Record, Result, Sources, fetch};

/// The same configuration with folders in place of its named sources, whether or not they are in `cache`. What a
/// source holds is pinned, so that what was prepared of it is found while it is not there.
///
/// # Errors
/// [`Error::Data`] for a configuration that is not valid; [`Error::Unknown`]; [`Error::Content`] for a source
/// that holds no text and [`Error::Part`] for one without such a part; as [`Sources::from_env`].
pub fn locate_text(config: &DataConfig, cache: &Path) -> Result<DataConfig> {
    config.validate()?;
    config.with_sources(&mut |source| match source {
        data::Source::Fetched(typed) => {
            let folders = Named::find(typed, Content::Text)?.folders(cache);
            Ok(folders.into_iter().map(data::Source::Folder).collect())
        }
        other => Ok(vec![other.clone()]),
    })
}

/// Brings the named sources of a configuration into `cache`, those that are not there.
///
/// # Errors
/// As [`locate_text`] and [`fetch`].
pub fn fetch_text(
    config: &DataConfig,
    cache: &Path,
    progress: &mut dyn FnMut(data::Progress),
) -> Result<()> {
    for source in config.every_source() {
        if let data::Source::Fetched(typed) = source {
            progress(data::Progress { stage: Stage::Read, done: 0, total: 0 });
            Named::find(typed, Content::Text)?.fetch(cache, progress)?;
        }
    }
    Ok(())
}

/// A configuration of images with folders in place of its named sources, which are fetched if they are not in
/// `cache`; of a source with several parts, `NAME/PART` says which is meant.
///
/// # Errors
/// As [`locate_text`] and [`fetch`].
pub fn resolve_images(
    config: &ImageConfig,
    cache: &Path,
    progress: &mut dyn FnMut(data::Progress),
) -> Result<ImageConfig> {
    config.validate()?;
    let mut resolved = config.clone();
    for source in resolved.path.iter_mut().chain(&mut resolved.also) {
        if let data::Source::Fetched(typed) = source {
            *source = folder(cache, typed, Content::Images, progress)?.into();
        }
    }
    Ok(resolved)
}

/// The file of the model that the source `typed` is, or one of its parts (`NAME/PART`), fetched if it is not
/// in the cache.
///
/// # Errors
/// [`Error::Content`] if it holds text or images, [`Error::Part`]; as [`fetch`] and
/// [`Sources::from_env`].
pub fn model(
    cache: &Path,
    typed: &str,
    progress: &mut dyn FnMut(data::Progress),
) -> Result<PathBuf> {
    model_file(&folder(cache, typed, Content::Model, progress)?)
}

/// The folder of the evaluation sets that the source `typed` is, fetched if it is not in the cache.
///
/// # Errors
/// [`Error::Content`] if it holds none, [`Error::Part`]; as [`fetch`] and [`Sources::from_env`].
pub fn sets(
    cache: &Path,
    typed: &str,
    progress: &mut dyn FnMut(data::Progress),
) -> Result<PathBuf> {
    folder(cache, typed, Content::Sets, progress)
}

/// The file of a model in the folder of its part, in which it is alone.
///
/// # Errors
/// [`Error::File`] if the folder cannot be read, or is empty.
pub fn model_file(folder: &Path) -> Result<PathBuf> {
    let empty = || fs::error(folder, "find a model in")(std::io::ErrorKind::NotFound.into());
    Ok(fs::read_dir(folder)?.pop().ok_or_else(empty)?)
}

/// Whether the source `typed` (`NAME` or `NAME/PART`) is in `cache`. Does not verify its files.
///
/// # Errors
/// [`Error::Unknown`]; as [`Sources::from_env`].
pub fn is_cached(cache: &Path, typed: &str) -> Result<bool> {
    let sources = Sources::from_env()?;
    Ok(Record::of(&sources, sources.get(split(typed).0)?).is_cached(cache))
}

/// The folder of the one part of a source that holds images, a model or evaluation sets.
fn folder(
    cache: &Path,
    typed: &str,
    expected: Content,
    progress: &mut dyn FnMut(data::Progress),
) -> Result<PathBuf> {
    let named = Named::find(typed, expected)?;
    named.fetch(cache, progress)?;
    Ok(named.folders(cache).into_iter().map(|folder| folder.dir).next().unwrap_or_default())
}

/// What a person has typed, by the table of sources.
struct Named {
    sources: Sources,
    name: String,
    content: Content,
    parts: Vec<Part>,
}

impl Named {
    /// The source `typed`, or its part `NAME/PART`. Texts may be of several parts; all else is of one.
    fn find(typed: &str, expected: Content) -> Result<Self> {
        let (name, wanted) = split(typed);
        let sources = Sources::from_env()?;
        let source = sources.get(name)?;
        let content = sources.content(source);
        if content != expected {
            return Err(Error::Content { name: name.into(), found: content, expected });
        }
        let named = |part: &&Part| wanted.is_none_or(|wanted| wanted == part.name);
        let parts: Vec<Part> = sources.parts(source).filter(named).cloned().collect();
        if parts.is_empty() || parts.len() > 1 && expected != Content::Text {
            let (found, name, parts) = (typed.into(), name.into(), source.parts.clone());
            return Err(Error::Part { found, name, parts });
        }
        Ok(Self { name: name.into(), content, parts, sources })
    }

    /// Fetches it if it is not in the cache.
    fn fetch(&self, cache: &Path, progress: &mut dyn FnMut(data::Progress)) -> Result<()> {
        let mut report = |at: Progress<'_>| {
            let (done, total) = (at.done as usize, at.total as usize);
            progress(data::Progress { stage: Stage::Download, done, total });
        };
        fetch(&self.sources, &self.name, cache, &mut report).map(drop)
    }

    /// The folders of its parts in a cache, whether or not they are there.
    fn folders(&self, cache: &Path) -> Vec<Folder> {
        let dir = content_dir(cache, &self.name, self.content);
        let folder = |part: &Part| Folder {
            dir: dir.join(&part.name),
            name: format!("{}/{}", self.name, part.name),
            cluster: part.one_work.then(|| part.name.clone()),
            pinned: Some(part.text_sha256),
        };
        self.parts.iter().map(folder).collect()
    }
}

/// The name of a source, and that of one of its parts.
fn split(typed: &str) -> (&str, Option<&str>) {
    match typed.split_once('/') {
        Some((name, part)) => (name, Some(part)),
        None => (typed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_serve_are_refused_before_anything_is_fetched() {
        let cache = tempfile::tempdir().unwrap();
        let said = |typed: &str, expected| {
            let stage = |at: data::Progress| panic!("{}", at.stage);
            folder(cache.path(), typed, expected, &mut { stage }).unwrap_err().to_string()
        };
        assert!(
            said("poems", Content::Text).starts_with("no source is named `poems`, there are: ")
        );
        let images = "source `emoji` holds images, expected: text";
        assert_eq!(said("emoji", Content::Text), images);
        let model = "source `smollm2` holds a model, expected: images";
        assert_eq!(said("smollm2", Content::Images), model);
        let parts = "expected: one of `fetch:emoji/emoji-";
        assert!(said("emoji", Content::Images).starts_with(&format!("`fetch:emoji`, {parts}")));
        assert!(said("emoji/x", Content::Images).starts_with(&format!("`fetch:emoji/x`, {parts}")));
        assert!(said("prose/x", Content::Text).starts_with("`fetch:prose/x`, expected: one of "));
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_configuration_without_names_stays_as_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let paths = ["a.txt", "hf:owner/name"].map(|text| text.parse().unwrap()).to_vec();
        let text = DataConfig { paths, ..DataConfig::default() };
        let stage = |at: data::Progress| panic!("{}", at.stage);
        assert_eq!(locate_text(&text, cache.path()).unwrap(), text);
        let images = ImageConfig { path: Some(Path::new("a").into()), ..ImageConfig::default() };
        assert_eq!(resolve_images(&images, cache.path(), &mut { stage }).unwrap(), images);
        let invalid = locate_text(&DataConfig::default(), cache.path());
        assert!(matches!(invalid, Err(Error::Data(data::Error::Config { key: "paths", .. }))));
    }
}
