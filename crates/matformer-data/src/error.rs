//! Errors of reading and preparing data.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::special::{SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG_FILE};
use crate::{BadRow, Dropped, Lost, PassedOver};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a file of text or images and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    File(#[from] matformer_core::Error),
    /// Images cannot be used as they lie there.
    #[error("{problem}")]
    Images {
        /// What was found, and what was expected.
        problem: String,
        /// What a person can do about it.
        hint: &'static str,
    },
    /// A value that a caller gives is impossible, or does not fit the others.
    #[error("{found}, expected: {expected}")]
    Value {
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file or folder that was named cannot be read.
    #[error("cannot read `{}`", path.display())]
    Path {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
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
    /// An entry of `data.paths` is empty.
    #[error("an empty path")]
    EmptySource,
    /// What follows `hf:` is no hub name.
    #[error(
        "`hf:{found}` is no hub name, expected: `hf:owner/name`, `hf:owner/name:path/in/it`, \
         `hf:owner/name@revision:path/in/it`"
    )]
    HubName {
        /// What follows.
        found: String,
    },
    /// What follows `fetch:` is no name.
    #[error("`fetch:{found}` names no source, expected: `fetch:NAME` or `fetch:NAME/PART`")]
    SourceName {
        /// What follows.
        found: String,
    },
    /// A chat template is not valid, or refuses a conversation.
    #[error("chat template of `{}`: {reason}", path.display())]
    ChatTemplate {
        /// The file that it is in.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name stands where folders should be by now.
    #[error("`{found}` is a name, expected: the folders that it stands for")]
    Unresolved {
        /// The name.
        found: String,
    },
    /// A named file is of no known text format.
    #[error("`{file}` is of no known text format")]
    Suffix {
        /// The file.
        file: String,
    },
    /// A file is damaged, or not what its name says.
    #[error("`{file}` {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What was found, and what was expected.
        reason: String,
    },
    /// A `.parquet`, `.arrow`, `.csv` or `.tsv` file has no such column.
    #[error("`{file}` has no column of text `{field}`, there are: {}", known.join(", "))]
    Column {
        /// The file.
        file: String,
        /// The column.
        field: String,
        /// Its columns.
        known: Vec<String>,
    },
    /// The rows do not have the field of the text.
    #[error("{row}")]
    NoField {
        /// The first of them.
        row: BadRow,
    },
    /// Token ids without the tokenizer that they are of.
    #[error("`{file}` holds token ids, expected: their tokenizer in `data.tokenizer`")]
    NoDecoder {
        /// The file.
        file: String,
    },
    /// A named file that cannot hold conversations.
    #[error("`{file}` holds no conversations, expected: `.jsonl`, `.json`, `.parquet` or `.arrow`")]
    NoConversations {
        /// The file.
        file: String,
    },
    /// A tokenizer without a chat template.
    #[error("`data.chat`: there is no chat template beside the tokenizer `{}`", path.display())]
    NoChatTemplate {
        /// The tokenizer's file.
        path: PathBuf,
    },
    /// A file of more rows than can be counted.
    #[error("`{file}` has more than {} rows", u32::MAX)]
    TooManyRows {
        /// The file.
        file: String,
    },
    /// A file is not what it was when it was read first.
    #[error("`{file}` has changed while it was read")]
    Changed {
        /// The file.
        file: String,
    },
    /// More rows are bad than may be.
    #[error("{}", bad_rows(*bad, *read, *allowed, first))]
    BadRows {
        /// Bad rows and files.
        bad: usize,
        /// Rows and files in all.
        read: usize,
        /// The share that may be bad; under `data.strict` there is none.
        allowed: Option<f64>,
        /// The first of them.
        first: Vec<BadRow>,
    },
    /// Two files give documents of the same name.
    #[error("documents of `{}` and `{}` have the same name, `{name}`", files[0], files[1])]
    SameName {
        /// The name.
        name: String,
        /// The files.
        files: [String; 2],
    },
    /// Nothing to read.
    #[error("no text: `data.paths` has no file of a known format; passed over: {passed_over}")]
    NoFile {
        /// What is there instead.
        passed_over: PassedOver,
    },
    /// A split holds no document.
    #[error("{}", empty_split(split, *documents, dropped))]
    EmptySplit {
        /// `train` or `held_out`.
        split: &'static str,
        /// Usable documents in both splits.
        documents: usize,
        /// What was left out.
        dropped: Dropped,
    },
    /// A source with a weight has nothing to train on.
    #[error("source {number} of `data.sources` has no training documents left; dropped: {dropped}")]
    NoDocument {
        /// Its place in the list, from 1.
        number: usize,
        /// What was left out, of all sources.
        dropped: Dropped,
    },
    /// No folder for the hub's cache.
    #[error("no home folder for the cache of hub files")]
    NoHome,
    /// A hub name could not be listed or downloaded.
    #[error("`hf:{name}`: {reason}")]
    Hub {
        /// The name.
        name: String,
        /// What the server answered, if it answered.
        status: Option<u16>,
        /// What went wrong.
        reason: String,
    },
    /// A repository has no such file.
    #[error("`hf:{name}` has no file that can be read")]
    NoHubFile {
        /// The name.
        name: String,
    },
    /// A hub name is not in the cache, and nothing may be downloaded.
    #[error("`hf:{name}` is not in the cache `{}`, and HF_HUB_OFFLINE is set", cache.display())]
    Offline {
        /// The name.
        name: String,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// `data.tokenizer` names no tokenizer.
    #[error("no tokenizer at `{found}`; tried: {}", tried.join(", "))]
    NoTokenizer {
        /// What it names.
        found: String,
        /// Where one could have been.
        tried: Vec<String>,
    },
    /// A tokenizer could not be read, trained or used.
    #[error("tokenizer `{}`: {reason}", path.display())]
    Tokenizer {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer loses more of the text than it may.
    #[error("{}", lossy(path, lost, *documents, *bytes, *allowed))]
    Lossy {
        /// Its file.
        path: PathBuf,
        /// What it does not give back.
        lost: Lost,
        /// Documents in both splits.
        documents: usize,
        /// Bytes of text in both splits.
        bytes: usize,
        /// The share of the bytes that may be lost.
        allowed: f64,
    },
    /// A file of prepared data is damaged, or not of the version that this program writes.
    #[error("{what} `{}`: {reason}", path.display())]
    Prepared {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// A split has fewer tokens than one batch.
    #[error(
        "the training text has {found} tokens; one batch of {rows} rows of {seq_len} needs {needed}"
    )]
    TooShort {
        /// Tokens in the shard.
        found: usize,
        /// Tokens that one batch needs.
        needed: usize,
        /// Rows of a batch.
        rows: usize,
        /// Targets of a row.
        seq_len: usize,
    },
    /// A text is not a SHA-256.
    #[error("`{found}` is not a SHA-256, expected: 64 hexadecimal digits")]
    Hash {
        /// The text.
        found: String,
    },
}

impl Error {
    /// A file that the reader of `format` refuses.
    pub(crate) fn unreadable(
        file: impl Into<String>,
        format: &str,
        reason: impl fmt::Display,
    ) -> Self {
        let reason = format!("cannot be read as {format}: {reason}");
        Self::Damaged { file: file.into(), reason }
    }

    /// A file that is damaged, or not what its name says.
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { file: path.display().to_string(), reason: reason.into() }
    }

    pub(crate) fn images(problem: impl Into<String>, hint: &'static str) -> Self {
        Self::Images { problem: problem.into(), hint }
    }

    pub(crate) fn value(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Value { found: found.into(), expected: expected.into() }
    }

    /// `key` is 0.
    pub(crate) fn zero(key: &str) -> Self {
        Self::value(format!("`{key}` is 0"), "at least 1")
    }

    /// Whether the same call may succeed later: it was the network or a server that failed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Hub { status, .. } => !matches!(status, Some(400..500)),
            _ => false,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Suffix { .. } => known_suffixes(),
            Self::Damaged { .. } => "it is damaged, or not what its name says".into(),
            Self::Column { .. } => "name the column of the text with `data.field`".into(),
            Self::NoField { .. } => {
                "name the field of the text with `data.field`; for conversations, set `data.chat`"
                    .into()
            }
            Self::NoDecoder { .. } => {
                "nanoGPT and llm.c mostly use GPT-2's: a folder with its `tokenizer.json`, or \
                 `hf:openai-community/gpt2`; ids of characters need the text itself"
                    .into()
            }
            Self::NoConversations { .. } => {
                "without `data.chat`, the text of `data.field` is learnt as a whole".into()
            }
            Self::NoChatTemplate { .. } => format!(
                "use the tokenizer of a chat model, or put a template beside this one, in `{}`",
                crate::CHAT_TEMPLATE_FILE
            ),
            Self::TooManyRows { .. } => "split it into several files".into(),
            Self::Changed { .. } => "run it again when nothing writes to the file".into(),
            Self::BadRows { allowed: None, .. } => {
                "fix them, or remove `data.strict` to skip them".into()
            }
            Self::BadRows { .. } => {
                "`data.field` names the field of the text; raise `data.max_bad_rows` to skip bad \
                 rows"
                    .into()
            }
            Self::SameName { .. } => {
                "leave one of them out, or rename it or its folder in `data.paths`".into()
            }
            Self::NoFile { .. } => known_suffixes(),
            Self::EmptySplit { documents: 0, dropped: Dropped { too_large: 1.., .. }, .. } => {
                "raise `data.max_file_bytes`".into()
            }
            Self::EmptySplit { documents: 0, .. } => return None,
            Self::EmptySplit { .. } => {
                "data is split by document: give more files than one, or a `.jsonl` file with one \
                 document per row, or change `data.held_out`"
                    .into()
            }
            Self::NoDocument { .. } => {
                "texts that an earlier source has as well count as duplicates: \
                 `data.deduplicate = false` keeps them"
                    .into()
            }
            Self::NoHome => "set HF_HOME to a folder".into(),
            Self::Hub { status: Some(401 | 403 | 404), .. } => {
                "check the name: text comes from dataset repositories, tokenizers from model repositories; \
                 private or gated ones need HF_TOKEN"
                    .into()
            }
            Self::Hub { .. } => {
                "run it again to continue; HF_HUB_OFFLINE=1 uses only cached files".into()
            }
            Self::NoHubFile { .. } => known_suffixes(),
            Self::Offline { .. } => {
                "unset HF_HUB_OFFLINE to download it, or set HF_HOME to where the cache is".into()
            }
            Self::NoTokenizer { .. } => {
                "name a `tokenizer.json`, a folder with one, or a model on the hub: `hf:owner/name`"
                    .into()
            }
            Self::Tokenizer { path, .. }
                if [TOKENIZER_CONFIG_FILE, SPECIAL_TOKENS_MAP]
                    .iter()
                    .any(|name| path.ends_with(name)) =>
            {
                "expected a JSON object as transformers writes it, or no such file".into()
            }
            Self::Tokenizer { reason, .. } if reason.contains("eos_token") => format!(
                "name the token that ends a text in `{TOKENIZER_CONFIG_FILE}`: \
                 {{\"eos_token\": \"</s>\"}}"
            ),
            Self::Tokenizer { .. } => {
                "expected a `tokenizer.json` as the tokenizers library writes it".into()
            }
            Self::Lossy { .. } => {
                "use a byte-level tokenizer, remove `data.tokenizer` to train one, or raise \
                 `data.max_lost_bytes`"
                    .into()
            }
            Self::Prepared { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("remove `{}`; it is prepared again", folder.display())
            }
            Self::Images { hint, .. } => (*hint).into(),
            Self::TooShort { .. } => "add text, or lower `train.tokens_per_step`".into(),
            _ => return None,
        };
        Some(text)
    }
}

fn known_suffixes() -> String {
    format!(
        "known suffixes are `jsonl`, `csv`, `tsv`, `parquet`, `arrow` and: {}; all but `parquet` and `arrow` also with `.gz` or `.zst`",
        crate::TEXT_SUFFIXES.join(", ")
    )
}

/// The message of [`Error::EmptySplit`].
fn empty_split(split: &str, documents: usize, dropped: &Dropped) -> String {
    let some = *dropped != Dropped::default();
    match (documents, some) {
        (0, false) => "no text: there is no row in any file of `data.paths`".into(),
        (0, true) => format!("no document of `data.paths` is left; dropped: {dropped}"),
        (_, false) => format!("no document is left for `{split}` out of {documents}"),
        (_, true) => {
            format!("no document is left for `{split}` out of {documents}; dropped: {dropped}")
        }
    }
}

/// The message of [`Error::Lossy`].
fn lossy(path: &Path, lost: &Lost, documents: usize, bytes: usize, allowed: f64) -> String {
    let first = lost.first.as_deref().unwrap_or_default();
    format!(
        "tokenizer `{}` loses {} of {bytes} bytes of text, in {} of {documents} documents (first \
         `{first}`); `data.max_lost_bytes` allows a share of {allowed}",
        path.display(),
        lost.bytes,
        lost.documents
    )
}

/// The message of [`Error::BadRows`], with the first of them below it.
fn bad_rows(bad: usize, read: usize, allowed: Option<f64>, first: &[BadRow]) -> String {
    let said = format!("{bad} of {read} rows and files are bad");
    too_many(&said, ("data.max_bad_rows", allowed), bad, first)
}

/// That `bad` of something, of which `said` tells, are more than a key allows, with the first of them below it.
pub(crate) fn too_many(
    said: &str,
    (key, allowed): (&str, Option<f64>),
    bad: usize,
    first: &[impl fmt::Display],
) -> String {
    let allows = match allowed {
        Some(share) => format!("more than `{key}` = {share} allows:"),
        None => "`data.strict` allows none:".into(),
    };
    let mut text = format!("{said}, {allows}");
    text.extend(first.iter().map(|one| format!("\n  {one}")));
    if bad > first.len() {
        text.push_str(&format!("\n  and {} more", bad - first.len()));
    }
    text
}
