//! Run files: what `matformer train` reads, and what a run folder keeps as `run.toml`.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_data::DataConfig;
use matformer_lm::{MatLmConfig, Preset};
use matformer_train::TrainConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Result with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a run file or a `--set`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// A preset that does not exist.
    #[error("{path}: `model.preset`: {source}")]
    Model {
        /// The run file.
        path: PathBuf,
        /// What is wrong.
        source: matformer_lm::Error,
    },
    /// Not TOML, an unknown key, or a value of another type.
    #[error("{path}: {message}")]
    Toml {
        /// The run file.
        path: PathBuf,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A `--set` that is not `key=value`.
    #[error("--set {found}: expected key=value, such as train.steps=100")]
    Set {
        /// What was given.
        found: String,
    },
    /// A `--set` with an unknown key, or a value of another type.
    #[error("--set: {message}")]
    SetValue {
        /// The parser's message, with the key.
        message: String,
    },
    /// A `--set` whose key goes through something that is not a table.
    #[error("--set {key}: `{part}` is not a table")]
    SetPath {
        /// The key.
        key: String,
        /// The part that is not a table.
        part: String,
    },
    /// A run that is resumed with another configuration.
    #[error("{run}: `{key}` is {found} there, {given} here")]
    Differs {
        /// The run's file.
        run: PathBuf,
        /// First key that differs.
        key: String,
        /// Its value in the run.
        found: String,
        /// Its value in what was given.
        given: String,
    },
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(e) => e.hint(),
            Self::Model { source, .. } => source.hint(),
            Self::Differs { .. } => Some(
                "resume with the run folder alone (matformer train RUN --resume), or train into \
                 another folder (--out)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A run: model, data, training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunFile {
    /// What is trained.
    pub model: ModelTable,
    /// On what.
    pub data: DataConfig,
    /// How.
    pub train: TrainConfig,
}

/// The `[model]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelTable {
    /// A named shape, which `lm` then overrides key by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Shape of a MatLM.
    pub lm: MatLmConfig,
}

/// Name of the file in a run folder.
pub const FILE: &str = "run.toml";

impl RunFile {
    /// Reads a run file, applies `sets` (`key=value`, TOML values) and resolves the preset.
    ///
    /// # Errors
    /// When the file is missing or malformed, or a key unknown.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let malformed = |e: toml::de::Error| Error::Toml {
            path: path.to_owned(),
            message: e.to_string().trim_end().to_owned(),
        };
        // The typed parse of the text first: its messages name line and column.
        let _: Self = toml::from_str(&text).map_err(malformed)?;
        let mut table: Table = text.parse().map_err(malformed)?;
        for set in sets {
            apply(&mut table, set)?;
        }
        resolve_preset(&mut table)
            .map_err(|source| Error::Model { path: path.to_owned(), source })?;
        // The file alone was fine.
        let mut run: Self = table.try_into().map_err(|e: toml::de::Error| Error::SetValue {
            message: e.to_string().trim_end().replace('\n', " "),
        })?;
        run.model.preset = None;
        Ok(run)
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// # Errors
    /// [`Error::Differs`] names the first key in which `given` differs from `self`, which was
    /// read from `path`.
    pub fn check_same(&self, path: &Path, given: &Self) -> Result<()> {
        let tables = (Table::try_from(self), Table::try_from(given));
        let (Ok(ours), Ok(theirs)) = tables else {
            return Ok(());
        };
        match difference("", &Value::Table(ours), &Value::Table(theirs)) {
            None => Ok(()),
            Some((key, found, given)) => {
                Err(Error::Differs { run: path.to_owned(), key, found, given })
            }
        }
    }
}

/// Applies one `key=value`; a value that is not TOML is taken as a string.
fn apply(table: &mut Table, set: &str) -> Result<()> {
    let (key, text) = set.split_once('=').ok_or_else(|| Error::Set { found: set.to_owned() })?;
    let key = key.trim();
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(Error::Set { found: set.to_owned() });
    }
    let value = format!("v = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or(key);
    let mut at = table;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = next
            .as_table_mut()
            .ok_or_else(|| Error::SetPath { key: key.to_owned(), part: part.to_owned() })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// Puts the preset's shape below what `[model.lm]` says.
fn resolve_preset(table: &mut Table) -> std::result::Result<(), matformer_lm::Error> {
    let Some(model) = table.get_mut("model").and_then(Value::as_table_mut) else {
        return Ok(());
    };
    let Some(name) = model.get("preset").and_then(Value::as_str) else {
        return Ok(());
    };
    let Ok(mut lm) = Table::try_from(name.parse::<Preset>()?.config()) else {
        return Ok(());
    };
    if let Some(Value::Table(given)) = model.remove("lm") {
        lm.extend(given);
    }
    model.insert("lm".to_owned(), Value::Table(lm));
    Ok(())
}

/// The first key in which two values differ, and what they hold there.
fn difference(key: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    let (Value::Table(ta), Value::Table(tb)) = (a, b) else {
        return (a != b).then(|| (key.to_owned(), a.to_string(), b.to_string()));
    };
    let join = |name: &str| match key {
        "" => name.to_owned(),
        _ => format!("{key}.{name}"),
    };
    for name in ta.keys().chain(tb.keys().filter(|name| !ta.contains_key(*name))) {
        let found = match (ta.get(name), tb.get(name)) {
            (Some(a), Some(b)) => difference(&join(name), a, b),
            (a, b) => {
                let text = |v: Option<&Value>| v.map_or("absent".to_owned(), Value::to_string);
                Some((join(name), text(a), text(b)))
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, sets: &[&str]) -> Result<RunFile> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        RunFile::load(&path, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn presets_and_sets_are_layers() {
        let run = load(
            "[model]\npreset = \"small\"\n[model.lm]\nd_ff = 512\n[train]\nsteps = 7\n",
            &["train.seed=3", "data.paths=[\"a.txt\"]", "train.draw=joint"],
        )
        .unwrap();
        assert_eq!((run.model.lm.d_model, run.model.lm.d_ff), (256, 512));
        assert_eq!((run.train.steps, run.train.seed), (7, 3));
        assert_eq!(run.data.paths, [PathBuf::from("a.txt")]);
        assert_eq!(run.train.draw, matformer_core::Draw::Joint);
        // What is kept reads back as it was.
        let again: RunFile = toml::from_str(&run.to_toml()).unwrap();
        assert_eq!(again, run);
    }

    #[test]
    fn mistakes_are_named() {
        let message = load("[train]\nstepz = 7\n", &[]).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("stepz"), "{message}");
        let message = load("", &["train.stepz=7"]).unwrap_err().to_string();
        assert!(message.contains("stepz"), "{message}");
        let message = load("", &["steps"]).unwrap_err().to_string();
        assert!(message.contains("--set steps"), "{message}");
        let message = load("[model]\npreset = \"huge\"\n", &[]).unwrap_err().to_string();
        assert!(message.contains("unknown preset `huge`"), "{message}");
        let message = load("[train]\nsteps = -1\n", &[]).unwrap_err().to_string();
        assert!(message.contains("line 2"), "{message}");
    }

    #[test]
    fn a_different_key_is_named() {
        let (a, b) = (load("", &[]).unwrap(), load("", &["train.steps=5"]).unwrap());
        let message = a.check_same(Path::new("run.toml"), &b).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `train.steps` is 1000 there, 5 here");
        a.check_same(Path::new("run.toml"), &a.clone()).unwrap();
    }
}
