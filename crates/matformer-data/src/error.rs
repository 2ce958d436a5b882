//! What can go wrong between a text file and a batch.

use std::path::PathBuf;

use crate::Hash;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a text file and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    File(#[from] matformer_core::Error),
    /// A folder could not be walked.
    #[error("cannot list `{}`: {source}", path.display())]
    Walk {
        /// The folder that was asked for.
        path: PathBuf,
        /// What the system said.
        source: walkdir::Error,
    },
    /// A key of the `[data]` table has an impossible value.
    #[error("`data.{key}` is {found}, expected: {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A named file is of no known text format.
    #[error("`{}` is of no known text format", path.display())]
    Suffix {
        /// The file.
        path: PathBuf,
    },
    /// A row of a `.jsonl` file could not be used.
    #[error("`{}`, line {line}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Two documents have the same name.
    #[error("two documents are named `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A split holds no document.
    #[error("no document is left for `{split}` out of {documents}")]
    EmptySplit {
        /// `train` or `held_out`.
        split: &'static str,
        /// Usable documents in both splits.
        documents: usize,
    },
    /// A corpus list could not be read.
    #[error("corpus list `{}`: {reason}", path.display())]
    CorpusList {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No folder above the corpus list holds a `Cargo.lock`.
    #[error("no `Cargo.lock` in any folder above `{}`", path.display())]
    NoWorkspace {
        /// The list.
        path: PathBuf,
    },
    /// Cargo could not say where the crates are.
    #[error("`{command}` failed: {reason}")]
    Cargo {
        /// What was run.
        command: &'static str,
        /// What it said.
        reason: String,
    },
    /// A crate of the corpus list is not among the locked dependencies, or its sources are not
    /// here.
    #[error("crate `{name}` is not among the fetched dependencies of `{}`", workspace.display())]
    MissingCrate {
        /// The crate.
        name: String,
        /// The workspace whose dependencies were looked at.
        workspace: PathBuf,
    },
    /// A tokenizer could not be read, trained or used.
    #[error("tokenizer `{}`: {reason}", path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer does not give a document back as it was.
    #[error("tokenizer `{}` does not give document `{document}` back as it was", path.display())]
    Lossy {
        /// Its file.
        path: PathBuf,
        /// The document.
        document: String,
    },
    /// A token shard is malformed.
    #[error("token shard `{}`: {fault}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is malformed.
        fault: ShardFault,
    },
    /// The list of a shard's documents does not fit the shard.
    #[error("document list `{}`, line {line}: {reason}", path.display())]
    Documents {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What does not fit.
        reason: String,
    },
    /// A file of the cache folder is not what this version writes.
    #[error("`{}`: {reason}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A shard has fewer tokens than one window needs.
    #[error("{found} tokens are fewer than one window needs: {needed}")]
    TooShort {
        /// Tokens in the shard.
        found: usize,
        /// Tokens that one window needs.
        needed: usize,
    },
    /// A batch or window of no tokens was asked for.
    #[error("`{key}` is 0, expected: at least 1")]
    Zero {
        /// What is zero.
        key: &'static str,
    },
    /// A text is not a SHA-256.
    #[error("`{found}` is not a SHA-256, expected: 64 hexadecimal digits")]
    Hash {
        /// The text.
        found: String,
    },
}

/// What is malformed in a token shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardFault {
    /// The file ends before its header does.
    #[error("{found} bytes are shorter than the header: {expected}")]
    Short {
        /// Bytes in the file.
        found: usize,
        /// Bytes of a header.
        expected: usize,
    },
    /// The file starts with something else.
    #[error("starts with {found:?}, expected: {expected:?}")]
    Magic {
        /// The first bytes.
        found: [u8; 8],
        /// The magic.
        expected: [u8; 8],
    },
    /// Another version of the format.
    #[error("format version {found}, expected: {expected}")]
    Version {
        /// The file's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// An unknown token width.
    #[error("tokens of {found} bytes, expected: 2 or 4")]
    Dtype {
        /// Bytes of a token by the header.
        found: u32,
    },
    /// The length of the file is not what the header's count says.
    #[error("{found} bytes of tokens, expected: {expected} (the header's count)")]
    Length {
        /// Bytes after the header.
        found: usize,
        /// Bytes by the header; text, because a hostile count may exceed every integer type.
        expected: String,
    },
    /// The shard was made by another tokenizer.
    #[error("made by tokenizer {found}, expected: {expected}")]
    TokenizerHash {
        /// The hash in the header.
        found: Hash,
        /// The hash of the tokenizer at hand.
        expected: Hash,
    },
    /// A token is outside the vocabulary.
    #[error("token {found} at position {position}, expected: below {vocab_size}")]
    Token {
        /// The token.
        found: u32,
        /// Where it is.
        position: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
}

impl Error {
    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Suffix { .. } => {
                format!("known suffixes are `jsonl` and: {}", crate::TEXT_SUFFIXES.join(", "))
            }
            Self::Row { .. } => {
                "every row is a JSON object; `data.field` names the field of its text".into()
            }
            Self::SameName { .. } => "rename one of the files or folders in `data.paths`".into(),
            Self::EmptySplit { .. } => {
                "data is split by document: give more files than one, or a `.jsonl` file with one \
                 document per row, or change `data.held_out`"
                    .into()
            }
            Self::NoWorkspace { .. } => {
                "a corpus list lives inside the workspace whose dependencies it names".into()
            }
            Self::Cargo { .. } | Self::MissingCrate { .. } => {
                "run `cargo fetch --locked` in the workspace; `cargo tree` lists its dependencies"
                    .into()
            }
            Self::Lossy { .. } => {
                "use a byte-level tokenizer, or remove `data.tokenizer` to train one".into()
            }
            Self::Shard { .. } | Self::Documents { .. } | Self::Cache { .. } => {
                "remove the folder; it is prepared again from the text".into()
            }
            Self::TooShort { .. } => "give more text, or a shorter context".into(),
            _ => return None,
        };
        Some(text)
    }
}
