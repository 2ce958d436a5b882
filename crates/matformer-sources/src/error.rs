//! What can go wrong between a name and the files that it stands for.

use std::path::PathBuf;

use matformer_data::Hash;

use crate::{Attempt, Content};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a name and the files that it stands for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    File(#[from] matformer_core::Error),
    /// The data that has the name, or was to be prepared from it, is not as it should be.
    #[error(transparent)]
    Data(#[from] matformer_data::Error),
    /// A table of sources is not what it should be.
    #[error("{what} `{}`: {reason}", path.display())]
    Table {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No source has the name.
    #[error("no source is named `{name}`, there are: {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A source has no such part, or several where one is wanted.
    #[error("`fetch:{found}`, expected: one of {}", parts_of(name, parts))]
    Part {
        /// What was named.
        found: String,
        /// The source.
        name: String,
        /// Its parts.
        parts: Vec<String>,
    },
    /// A source holds something else than is wanted.
    #[error("source `{name}` holds {found}, expected: {expected}")]
    Content {
        /// The source.
        name: String,
        /// What it holds.
        found: Content,
        /// What is wanted.
        expected: Content,
    },
    /// A part of a source can be had nowhere.
    #[error("source `{name}`, part `{part}`: no place has it{}", lines(tried))]
    Unavailable {
        /// The source.
        name: String,
        /// The part.
        part: String,
        /// What was tried, in this order.
        tried: Vec<Attempt>,
    },
    /// A source in the cache is not what was fetched.
    #[error("the files of `{}` have SHA-256 {found}, expected: {expected}", folder.display())]
    Altered {
        /// The folder of the part.
        folder: PathBuf,
        /// The hash of what it holds.
        found: Hash,
        /// The hash of what was fetched.
        expected: Hash,
    },
}

impl Error {
    /// Whether the same call may succeed later: it was the network or a server that failed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Data(error) => error.may_pass(),
            error => matches!(error, Self::Unavailable { .. }),
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::File(error) => return error.hint(),
            Self::Data(error) => return error.hint(),
            Self::Unavailable { .. } => {
                "run it again once one of these works: complete files are kept".into()
            }
            Self::Altered { folder, .. } => {
                let source = folder.parent().and_then(|text| text.parent()).unwrap_or(folder);
                format!("remove `{}`; it is fetched again", source.display())
            }
            _ => return None,
        };
        Some(text)
    }
}

/// One indented line for each.
fn lines(items: &[Attempt]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

/// The parts of a source as they are typed.
fn parts_of(name: &str, parts: &[String]) -> String {
    let typed: Vec<String> = parts.iter().map(|part| format!("`fetch:{name}/{part}`")).collect();
    typed.join(", ")
}
