//! Errors of training.

use std::path::PathBuf;

use crate::{BoxError, Outlier};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the forward pass or of a model folder.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// An error of draws, plans or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// Another rank has failed, or differs.
    #[error(transparent)]
    Exchange(#[from] matformer_exchange::Error),
    /// An invalid setting.
    #[error("`train.{field}` is {found}; expected {expected}")]
    Config {
        /// Key in the `[train]` table.
        field: &'static str,
        /// Its value.
        found: String,
        /// Its valid values.
        expected: String,
    },
    /// A batch could not be read.
    #[error("batch {index}: {source}")]
    Batch {
        /// Index of the batch.
        index: u64,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
    /// A NaN or infinite loss or gradient norm.
    #[error("{what} is {value} at step {step}; last good checkpoint: {checkpoint}")]
    NonFinite {
        /// Loss or gradient norm.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step (from 1), which was not applied.
        step: u64,
        /// The checkpoint to resume from.
        checkpoint: String,
        /// Settings that may be the cause.
        suspects: String,
    },
    /// Several steps in a row were skipped: the run has diverged.
    #[error(
        "{} skipped, at step {step} because the {outlier}; last good \
         checkpoint: {checkpoint}",
        steps_in_a_row(*in_a_row)
    )]
    Diverged {
        /// How many steps.
        in_a_row: u64,
        /// The last of them (from 1).
        step: u64,
        /// Why it was skipped.
        outlier: Outlier,
        /// The checkpoint to resume from.
        checkpoint: String,
        /// Settings that may be the cause.
        suspects: String,
    },
    /// Every step of a run was skipped: the model is what it was before the first.
    #[error("all {steps} steps were skipped, the last because the {why}")]
    NothingApplied {
        /// How many steps the run has.
        steps: u64,
        /// Why the last was skipped.
        why: String,
        /// Settings that may be the cause.
        suspects: String,
    },
    /// Another process is training into the run folder.
    #[error("{dir}: another process is training into it")]
    Locked {
        /// The run folder.
        dir: PathBuf,
    },
    /// Every checkpoint of a run is damaged.
    #[error("{dir}: {}: {}", none_is_whole(*count), newest.whole())]
    NoCheckpoint {
        /// Folder of the checkpoints.
        dir: PathBuf,
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<Error>,
    },
    /// A checkpoint was asked for within a round, where each rank has weights of its own.
    #[error("no checkpoint after step {step}: expected one after which ranks exchange weights")]
    InRound {
        /// Steps made.
        step: u64,
    },
    /// An invalid file in a checkpoint.
    #[error("{path}: {found}; expected {expected}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A checkpoint whose optimizer state another version of this crate wrote.
    #[error(
        "{path}: `version`: {found} (0 where the key is missing), expected {expected}: other versions \
         lay out the moments in another way"
    )]
    StateVersion {
        /// The file.
        path: PathBuf,
        /// What it says, 0 where it says nothing.
        found: u32,
        /// What this version reads.
        expected: u32,
    },
}

impl Error {
    /// The error and its causes in one line, without repeating a cause that an error names itself.
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

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<String> {
        self.hint_with("another folder")
    }

    /// Like [`hint`](Self::hint), but with the caller's wording for choosing another folder (for example, the name of
    /// its option).
    pub fn hint_with(&self, another_folder: &str) -> Option<String> {
        match self {
            Self::Nn(e) => e.hint(),
            Self::Core(e) => e.hint(),
            Self::NonFinite { suspects, .. } | Self::NothingApplied { suspects, .. } => {
                Some(format!("train into {another_folder} with {suspects}"))
            }
            Self::Diverged { suspects, .. } => Some(format!(
                "train into {another_folder} with {suspects}; `train.spike = 0` applies \
                 every step"
            )),
            Self::Locked { .. } => {
                Some(format!("wait until it has ended, or train into {another_folder}"))
            }
            Self::NoCheckpoint { dir, .. } => Some(format!(
                "remove `{}` to start at step 0, or train into {another_folder}",
                dir.display()
            )),
            Self::StateVersion { path, .. } => {
                let folder = path.parent().and_then(std::path::Path::parent).unwrap_or(path);
                Some(format!(
                    "go on with the version that wrote it, or start a new run from its weights: \
                     {another_folder} with `train.init = \"{}\"`",
                    folder.display()
                ))
            }
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
