//! What can be wrong with a run file.

use std::path::{Path, PathBuf};

use crate::{
    Tables,
    keys::{Wrong, meant},
};

/// Result with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a run file or a `--set`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// The data that a run file is to be made for.
    #[error(transparent)]
    Data(#[from] matformer_data::Error),
    /// The table of named sources.
    #[error(transparent)]
    Sources(#[from] matformer_sources::Error),
    /// A preset that does not exist.
    #[error("{}unknown preset `{found}`; there are: {known}", in_file(path))]
    Preset {
        /// The run file, if it is in one.
        path: Option<PathBuf>,
        /// What was asked for.
        found: String,
        /// The presets that exist.
        known: String,
    },
    /// Not TOML, or a value that its key does not have.
    #[error("{path}: {message}")]
    Toml {
        /// The run file.
        path: PathBuf,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A key that run files of this kind do not have.
    #[error("{place}: unknown key `{key}`")]
    UnknownKey {
        /// The run file and the line, or `--set`.
        place: String,
        /// The key, with its tables.
        key: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// A value of another type than its key's.
    #[error("{place}: `{key}` is {found}; expected {expected}")]
    Value {
        /// The run file and the line, or `--set`.
        place: String,
        /// The key, with its tables.
        key: String,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A file of something else, by name and content.
    #[error("{path}: not a run file; expected TOML")]
    NotARunFile {
        /// The file.
        path: PathBuf,
    },
    /// Places of several kinds of data for one run.
    #[error("{} holds {}, {} holds {}; expected data of one kind", .first.1, .first.0, .other.1, .other.0)]
    Mixed {
        /// Kind of the first data, and where it is.
        first: (&'static str, String),
        /// The same of the first data of another kind.
        other: (&'static str, String),
    },
    /// Rows that are not what they seem.
    #[error("{place}: {found}; expected {expected}")]
    Rows {
        /// The file and the line.
        place: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Text of which nothing can be held out.
    #[error("{found}; expected two documents at least: one to train on, one to hold out")]
    TooLittle {
        /// What was found.
        found: String,
    },
    /// A `--set` that is not `key=value`.
    #[error("--set {found}: expected key=value, such as train.steps=100")]
    Set {
        /// What was given.
        found: String,
    },
    /// A `--set` with a value that its key does not have.
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
    /// A `--set` that puts a value in a table's place.
    #[error(
        "--set {key}: `{found}` is not a table; expected one of its keys, such as {key}.{example}"
    )]
    SetTable {
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// A key of the table.
        example: String,
    },
    /// A `--set` with a number that TOML cannot hold.
    #[error("--set {key}: {found}; expected a whole number from {} to {}", i64::MIN, i64::MAX)]
    SetNumber {
        /// The key.
        key: String,
        /// The value.
        found: String,
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
    /// A run file that was edited so that it no longer describes what was trained.
    #[error("{path}: `{key}` is {found}; the run was trained with {trained}")]
    Changed {
        /// The run file.
        path: PathBuf,
        /// First key that must not change.
        key: String,
        /// Its value now.
        found: String,
        /// Its value in the checkpoints.
        trained: String,
    },
}

fn in_file(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or(String::new(), |path| format!("{}: `model.preset`: ", path.display()))
}

impl Error {
    /// What is wrong with a key, at a place that depends on it.
    pub(super) fn of_key<T: Tables>(wrong: Wrong, place: impl Fn(&str) -> String) -> Self {
        let Wrong { key, value } = wrong;
        let place = place(&key);
        match value {
            Some((found, expected)) => Self::Value { place, key, found, expected },
            None => Self::UnknownKey { place, meant: meant::<T>(&key), key },
        }
    }

    /// The same, of a key in the run file `path`.
    pub(super) fn of_file(self, path: &Path) -> Self {
        match self {
            Self::Preset { found, known, .. } => {
                Self::Preset { path: Some(path.to_owned()), found, known }
            }
            other => other,
        }
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(e) => e.hint(),
            Self::Data(e) => e.hint(),
            Self::Sources(e) => e.hint(),
            Self::UnknownKey { meant, .. } => meant.clone(),
            Self::Mixed { .. } => Some(
                "a model learns from one of them: leave out the other".to_owned(),
            ),
            Self::Rows { .. } => Some(
                "`data.field` in a run file names the field of the text; `data.max_bad_rows` says how many \
                 rows may be bad"
                    .to_owned(),
            ),
            Self::TooLittle { .. } => Some(
                "give more files, or split the text into several: each file, or row of a .jsonl, is a \
                 document; images are chosen by --kind images"
                    .to_owned(),
            ),
            Self::NotARunFile { path } => Some(format!(
                "list it in the table `[data]` of a run file, as `paths = [{:?}]`; \
                 `matformer train --data` needs no run file",
                path.display().to_string()
            )),
            Self::Differs { .. } => Some(
                "resume with the run folder alone (matformer train RUN --resume), or train into \
                 another folder (--out)"
                    .to_owned(),
            ),
            Self::Changed { .. } => Some(
                "set it back, or train into another folder (--out); `train.steps` may grow, and \
                 `batch_rows`, `eval_every`, `eval_tokens`, `checkpoint_every`, `keep`, `spike` and \
                 `tensorboard` may change"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
