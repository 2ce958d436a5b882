//! What can go wrong in training.

use std::path::PathBuf;

use crate::{BoxError, Outlier};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a configuration and a trained model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the walk or a model folder.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// From draws, plans or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// A setting that cannot be trained with.
    #[error("`train.{field}` is {found}; expected {expected}")]
    Config {
        /// Key in the `[train]` table.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// The batches could not be had.
    #[error("batch {index}: {source}")]
    Batch {
        /// Index of the batch.
        index: u64,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// Loss or gradient norm is no longer a number.
    #[error("{what} is {value} at step {step}; last good checkpoint: {checkpoint}")]
    NonFinite {
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step, from 1, which was not applied.
        step: u64,
        /// Where to go on from.
        checkpoint: String,
        /// Settings that may be the cause.
        suspects: String,
    },
    /// Several steps in a row were left out: the run has diverged.
    #[error(
        "{} left out, at step {step} because the {outlier}; last good \
         checkpoint: {checkpoint}",
        steps_in_a_row(*in_a_row)
    )]
    Diverged {
        /// How many.
        in_a_row: u64,
        /// The last of them, from 1.
        step: u64,
        /// What kept it from being applied.
        outlier: Outlier,
        /// Where to go on from.
        checkpoint: String,
        /// Settings that may be the cause.
        suspects: String,
    },
    /// Another process trains into the run folder.
    #[error("{dir}: another process is training into it")]
    Locked {
        /// The run folder.
        dir: PathBuf,
    },
    /// Every checkpoint of a run is damaged.
    #[error("{dir}: {}: {}", none_is_whole(*count), newest.whole())]
    NoCheckpoint {
        /// The folder of the checkpoints.
        dir: PathBuf,
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<Error>,
    },
    /// A checkpoint that does not hold what it should.
    #[error("{path}: {found}; expected {expected}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// burn-train stopped with an error of its own.
    #[error("training stopped: {0}")]
    Stopped(String),
}

impl Error {
    /// The error and its causes in one line, each said once: some say their cause themselves.
    pub(crate) fn whole(&self) -> String {
        let (mut text, mut cause) = (self.to_string(), std::error::Error::source(self));
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = source.source();
        }
        text
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nn(e) => e.hint(),
            Self::Core(e) => e.hint(),
            Self::NonFinite { suspects, .. } => {
                Some(format!("train into another folder with {suspects}"))
            }
            Self::Diverged { suspects, .. } => Some(format!(
                "train into another folder with {suspects}; `train.spike = 0` applies \
                 every step"
            )),
            Self::Locked { .. } => {
                Some("wait until it has ended, or train into another folder".to_owned())
            }
            Self::NoCheckpoint { dir, .. } => Some(format!(
                "remove `{}` to start at step 0, or train into another folder",
                dir.display()
            )),
            _ => None,
        }
    }
}

fn steps_in_a_row(n: u64) -> String {
    match n {
        1 => "1 step".to_owned(),
        n => format!("{n} steps in a row"),
    }
}

fn none_is_whole(count: usize) -> String {
    match count {
        1 => "the only checkpoint is damaged".to_owned(),
        n => format!("all {n} checkpoints are damaged; the newest"),
    }
}
