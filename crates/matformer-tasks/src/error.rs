//! What can go wrong in this crate.

use std::path::PathBuf;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a task file and its score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// From tables and the hub.
    #[error(transparent)]
    Data(#[from] matformer_data::Error),
    /// A data set of the hub without what a task needs.
    #[error("`{name}`: {reason}")]
    Hub {
        /// The data set.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A data set of the hub that is not here yet.
    #[error("task `{task}`: its data set was not fetched")]
    NotFetched {
        /// The task.
        task: String,
    },
    /// A folder that cannot be read.
    #[error(transparent)]
    Folder(#[from] walkdir::Error),
    /// From the template engine.
    #[error(transparent)]
    Template(#[from] minijinja::Error),
    /// A file that is not YAML.
    #[error("{}:{line}: invalid YAML: {reason}", path.display())]
    Yaml {
        /// The task file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key of a task file with a value that cannot be used.
    #[error("{}:{line}: `{key}`: found {found}, expected {expected}", path.display())]
    Key {
        /// The task file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key, with dots between nested ones.
        key: String,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A key that no task may have: it might change scores.
    #[error("{}:{line}: `{key}` is not a key that is supported, expected one of {expected}", path.display())]
    UnknownKey {
        /// The task file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// All known keys, in backticks.
        expected: String,
    },
    /// A key that a task must have.
    #[error("{}: `{key}` is missing", path.display())]
    Missing {
        /// The task file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A task that no file defines.
    #[error("task `{name}`: none of the {files} YAML files in {} defines it", folder.display())]
    UnknownTask {
        /// The task.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// Number of YAML files there.
        files: usize,
    },
    /// A row of a data file that is not a JSON object.
    #[error("{}:{line}: {reason}, expected one JSON object per line, or an array of objects", path.display())]
    Row {
        /// The data file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No example that can be scored.
    #[error("task `{task}`: none of {rows} rows can be scored{}", first.as_ref().map_or(String::new(), |why| format!("; the first: {why}")))]
    NoExamples {
        /// The task.
        task: String,
        /// Rows that were read.
        rows: usize,
        /// What is wrong with the first one.
        first: Option<String>,
    },
    /// More few-shot examples than rows to take them from.
    #[error(
        "task `{task}`: {asked} rows are needed to draw few-shot examples from, found {found} in split `{split}`"
    )]
    TooFewShots {
        /// The task.
        task: String,
        /// Rows needed.
        asked: usize,
        /// Rows there.
        found: usize,
        /// The split.
        split: String,
    },
    /// A row that the task's `process_docs` does not take.
    #[error("{at}: `process_docs`: {reason}")]
    Processed {
        /// File and row.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// A reply to another question, or another score than the task has.
    #[error("{at}: the reply has no `{metric}`")]
    Reply {
        /// File and row.
        at: String,
        /// The score.
        metric: &'static str,
    },
}
