//! What was prepared before, found without reading any text.
//!
//! `index/KEY.json` in a cache says what became of a configuration: the names, sizes and times of the
//! files that were read, and the folder that was made of them. `KEY` is a hash of the settings that
//! decide what is read, so it can be looked up when the files are gone.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use matformer_core::fs::{self, Lock};
use serde::{Deserialize, Serialize};

use crate::census::files;
use crate::hash::Hasher;
use crate::hub::{self, Hub};
use crate::progress::{Progress, Stage};
use crate::{
    ChatTemplate, DataConfig, Error, Folder, Hash, PassedOver, Result, Source, Tokenizer,
    WeightedSource, paths,
};

/// Goes into the key: changes with what is read of the same files.
const VERSION: u32 = 2;
/// The folder of the records, in a cache.
const INDEX: &str = "index";

/// What became of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// What was read ([`fingerprint`]).
    pub read: Hash,
    /// The name of the folder, in the cache.
    pub folder: String,
    /// What was said of how the files were read.
    pub notes: Vec<String>,
}

/// What makes tokens of text: a given tokenizer, or one that is trained, and what lays out conversations.
type Encoder<'a> = (Option<&'a Tokenizer>, Option<&'a ChatTemplate>);

/// Where the record of a configuration is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    index: PathBuf,
    key: String,
}

impl Place {
    /// That of a corpus in tokens.
    pub(crate) fn of(config: &DataConfig, encoder: Encoder<'_>, cache: &Path) -> Self {
        let key = key(config, encoder, cache).short();
        Self { index: cache.join(INDEX), key }
    }

    /// The record, if there is one that can be read.
    pub(crate) fn read(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.file("json")).ok()?).ok()
    }

    /// When the record was written.
    pub(crate) fn written(&self) -> Option<SystemTime> {
        std::fs::metadata(self.file("json")).ok()?.modified().ok()
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        fs::create_dir_all(&self.index)?;
        Ok(fs::write_json(self.file("json"), "record of prepared data", record)?)
    }

    /// Waits until no other process prepares the same.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn turn(&self, progress: &mut dyn FnMut(Progress)) -> Result<Turn> {
        Turn::take(self.file("lock"), progress)
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.index.join(format!("{}.{suffix}", self.key))
    }
}

/// While it is there, no other process prepares the same.
pub(crate) struct Turn {
    path: PathBuf,
    _lock: Lock,
}

impl Turn {
    /// Waits until no other process prepares what is called `name` in a cache.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn of(cache: &Path, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        Self::take(cache.join(INDEX).join(format!("{name}.lock")), progress)
    }

    fn take(path: PathBuf, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        if let Some(index) = path.parent() {
            fs::create_dir_all(index)?;
        }
        let lock = match Lock::try_take(&path)? {
            Some(lock) => lock,
            None => {
                progress(Progress { stage: Stage::Wait, done: 0, total: 0 });
                Lock::take(&path)?
            }
        };
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Turn {
    /// Leaves nothing behind. Who waits for this file finds the record; if there is none because of an
    /// error, two may prepare at once, of which the first to end publishes.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        if let Some(index) = self.path.parent() {
            let _ = std::fs::remove_dir(index);
        }
    }
}

/// The settings that decide what is read and what is made of it.
fn key(config: &DataConfig, (tokenizer, template): Encoder<'_>, cache: &Path) -> Hash {
    let mut hasher = Hasher::default();
    hasher.part("record").part(VERSION.to_le_bytes());
    match tokenizer {
        Some(given) => hasher.part(given.hash().as_bytes()).part(given.config()),
        None => hasher.part("trained").part(config.vocab_size.to_le_bytes()),
    };
    if let Some(template) = template {
        hasher.part("chat").part(template.source());
    }
    let name = |source: &Source| match source {
        Source::Path(path) => from(cache, path).to_string_lossy().into_owned(),
        Source::Folder(folder) => {
            let place = match &folder.pinned {
                Some(hash) => hash.to_string(),
                None => from(cache, &folder.dir).display().to_string(),
            };
            format!("{}={place}={}", folder.name, folder.cluster.as_deref().unwrap_or(""))
        }
        Source::Hub(_) | Source::Fetched(_) => source.to_string(),
    };
    for sources in config.groups().into_iter().chain([&config.validation[..]]) {
        hasher.part(sources.len().to_le_bytes());
        sources.iter().for_each(|source| {
            hasher.part(name(source));
        });
    }
    for WeightedSource { field, .. } in &config.sources {
        hasher.part("source").part(field.as_deref().unwrap_or_default());
    }
    if config.cluster_folders {
        hasher.part("folders");
    }
    hasher
        .part(&config.field)
        .part(config.held_out.to_bits().to_le_bytes())
        .part(config.seed.to_le_bytes())
        .part((config.max_bytes() as u64).to_le_bytes())
        .part(config.max_bad_rows.to_bits().to_le_bytes())
        .part([u8::from(config.strict), u8::from(config.deduplicate)])
        .finish()
}

/// An absolute path without `.` and `..`, whether or not it is there.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    let absolute = std::path::absolute(path);
    for part in absolute.as_deref().unwrap_or(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if plain.file_name().is_some_and(|name| name != OsStr::new("..")) =>
            {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// The way from the cache to a path, whether or not they are there: a project that is moved with its
/// cache keeps it.
pub(crate) fn from(cache: &Path, path: &Path) -> PathBuf {
    let (cache, path) = (plain(cache), plain(path));
    let same = cache.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let above = std::iter::repeat_n(Component::ParentDir, cache.components().count() - same);
    above.chain(path.components().skip(same)).collect()
}

/// Tells what a configuration names now from what it named before: of files their paths, sizes and times,
/// of repositories of the hub their commits, of pinned folders their hashes. No file is read or downloaded.
///
/// # Errors
/// A path that is not there, a folder that cannot be walked, a hub name that cannot be looked up.
pub(crate) fn fingerprint(config: &DataConfig, cache: &Path) -> Result<Hash> {
    let mut hasher = Hasher::default();
    let here = config.with_sources(&mut |source| {
        Ok::<_, Error>(Some(source.clone()).filter(is_looked_at).into_iter().collect())
    })?;
    let mut passed = PassedOver::default();
    let inputs = files(&here, &mut passed, &mut |_| {})?;
    let mut elsewhere = false;
    for source in config.every_source() {
        elsewhere |= !is_looked_at(source);
        match source {
            Source::Hub(name) => {
                let commit = Hub::from_env()?.commit(hub::Kind::Dataset, name)?;
                hasher.part(source.to_string()).part(commit);
            }
            Source::Folder(Folder { name, pinned: Some(hash), .. }) => {
                hasher.part(name).part(hash.as_bytes());
            }
            _ => {}
        }
    }
    if inputs.is_empty() && !elsewhere {
        return Err(Error::NoFile { passed_over: passed });
    }
    for input in &inputs {
        let about = std::fs::metadata(&input.path).map_err(fs::error(&input.path, "read"))?;
        hasher
            .part(from(cache, &input.path).as_os_str().as_encoded_bytes())
            .part(&input.name)
            .part(format!("{:?}{}", input.part, input.source))
            .part(about.len().to_le_bytes())
            .part(paths::changed(&about).to_le_bytes());
    }
    Ok(hasher.finish())
}

/// Whether only its files tell what a source holds.
fn is_looked_at(source: &Source) -> bool {
    !matches!(source, Source::Hub(_) | Source::Folder(Folder { pinned: Some(_), .. }))
}

/// Whether an error says that data is not there, or cannot be asked for: what was prepared from it may be.
pub(crate) fn is_gone(error: &Error) -> bool {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match error {
        Error::Path { source, .. } => missing(source),
        Error::File(matformer_core::Error::Io { source, .. }) => missing(source),
        Error::NoFile { .. } | Error::Offline { .. } => true,
        error => error.may_pass(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(plain(Path::new("a/../b/./c")), here.join("b/c"));
        assert_eq!(plain(&here.join("b/c")), here.join("b/c"));
        assert_eq!(plain(Path::new("/../a")), Path::new("/../a"));
        let way = |path: &str| from(Path::new("/project/runs/.data"), Path::new(path));
        assert_eq!(way("/project/text/../more"), Path::new("../../more"));
        assert_eq!(way("/other"), Path::new("../../../other"));
    }

    #[test]
    fn every_setting_that_decides_the_content_is_in_the_key() {
        let config = || DataConfig { paths: vec![Path::new("a").into()], ..DataConfig::default() };
        let key = |config: &DataConfig| key(config, (None, None), Path::new("cache"));
        let own = key(&config());
        assert_eq!(own, key(&config()));
        let weighted = |field: Option<&str>| {
            let paths = vec![Path::new("a").into()];
            WeightedSource { paths, weight: 1.0, field: field.map(str::to_owned) }
        };
        let sources =
            |sources: Vec<WeightedSource>| DataConfig { paths: vec![], sources, ..config() };
        let two = sources(vec![weighted(None), weighted(None)]);
        assert_ne!(key(&two), own);
        assert_ne!(key(&two), key(&sources(vec![weighted(None), weighted(Some("body"))])));
        let mut heavier = two.clone();
        heavier.sources[0].weight = 9.0;
        assert_eq!(key(&two), key(&heavier), "weights are of the batches, not of the text");
        let changes: [fn(&mut DataConfig); 12] = [
            |config| config.paths.push(Path::new("b").into()),
            |config| config.paths = vec!["hf:a/b".parse().unwrap()],
            |config| config.validation.push(Path::new("b").into()),
            |config| config.cluster_folders = true,
            |config| config.field = "body".into(),
            |config| config.held_out = 0.1,
            |config| config.vocab_size = 300,
            |config| config.max_file_bytes = Some(10),
            |config| config.max_bad_rows = 0.5,
            |config| config.strict = true,
            |config| config.deduplicate = false,
            |config| config.seed = 1,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = config();
            change(&mut other);
            assert_ne!(key(&other), own, "change {at}");
        }
    }
}
