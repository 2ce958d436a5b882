//! What can go wrong between a file of text or images and a batch.

use std::path::{Path, PathBuf};

use crate::special::{SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG_FILE};
use crate::{BadRow, Dropped, Hash, Lost, PassedOver};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a file of text or images and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written; the message carries its path.
    #[error(transparent)]
    File(#[from] matformer_core::Error),
    /// Images could not be found, read or prepared.
    #[error(transparent)]
    Images(#[from] crate::images::ImageError),
    /// A recipe of augmentation, or a buffer that it is given, does not fit.
    #[error(transparent)]
    Augment(#[from] crate::AugmentError),
    /// A file or folder that was named cannot be read.
    #[error("cannot read `{}`", path.display())]
    Path {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
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
    /// A named file is of no known text format.
    #[error("`{file}` is of no known text format")]
    Suffix {
        /// The file.
        file: String,
    },
    /// A packed or binary file is damaged.
    #[error("`{file}` cannot be read as {format}: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// `gzip`, `zstd` or `parquet`.
        format: &'static str,
        /// What its reader says.
        reason: String,
    },
    /// A `.parquet` file has no such column.
    #[error("`{file}` has no column of text `{field}`, there are: {}", known.join(", "))]
    Column {
        /// The file.
        file: String,
        /// The column.
        field: String,
        /// Its columns.
        known: Vec<String>,
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
    /// A table of sources does not serve.
    #[error("table of sources `{}`: {reason}", path.display())]
    SourceTable {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No source has the name.
    #[error("no source is named `{name}`, there are: {}", known.join(", "))]
    UnknownSource {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A source holds something else than is wanted.
    #[error("source `{name}` holds {found}, expected: {expected}")]
    SourceContent {
        /// The source.
        name: String,
        /// What it holds.
        found: crate::fetch::Content,
        /// What is wanted.
        expected: crate::fetch::Content,
    },
    /// A source has no such part, or several where one is wanted.
    #[error("`fetch:{found}`, expected: one of {}", parts_of(name, parts))]
    SourcePart {
        /// What was named.
        found: String,
        /// The source.
        name: String,
        /// Its parts.
        parts: Vec<String>,
    },
    /// A part of a source can be had nowhere.
    #[error("source `{name}`, part `{part}`: no place has it{}", lines(tried))]
    Unavailable {
        /// The source.
        name: String,
        /// The part.
        part: String,
        /// What was tried, in this order.
        tried: Vec<crate::fetch::Attempt>,
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

/// One indented line for each.
fn lines<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
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
    #[error("starts with `{}`, expected: `{}`", found.escape_ascii(), expected.escape_ascii())]
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
    /// Whether the same call may succeed later: it was the network or a server that failed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Hub { status, .. } => !matches!(status, Some(400..500)),
            Self::Unavailable { .. } => true,
            _ => false,
        }
    }

    /// What a person can do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Suffix { .. } => known_suffixes(),
            Self::Unreadable { .. } => "it is damaged, or not what its name says".into(),
            Self::Column { .. } => "name the column of the text with `data.field`".into(),
            Self::BadRows { allowed: None, .. } => {
                "mend them, or remove `data.strict` to skip them".into()
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
            Self::NoHome => "set HF_HOME to a folder".into(),
            Self::Hub { status: Some(401 | 403 | 404), .. } => {
                "check the name: text is in dataset repositories, a tokenizer in one of a model; a \
                 private or gated one needs a token in HF_TOKEN"
                    .into()
            }
            Self::Hub { .. } => {
                "the same call again goes on; HF_HUB_OFFLINE=1 reads what is in the cache".into()
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
            Self::NoWorkspace { .. } => {
                "a corpus list lives inside the workspace whose dependencies it names".into()
            }
            Self::Cargo { .. } | Self::MissingCrate { .. } => {
                "run `cargo fetch --locked` in the workspace; `cargo tree` lists its dependencies"
                    .into()
            }
            Self::Lossy { .. } => {
                "use a byte-level tokenizer, remove `data.tokenizer` to train one, or raise \
                 `data.max_lost_bytes`"
                    .into()
            }
            Self::Shard { path, .. } | Self::Documents { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("remove `{}`; it is prepared again from the text", folder.display())
            }
            Self::Cache { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("remove `{}`; it is prepared again", folder.display())
            }
            Self::Images(error) => return error.hint(),
            Self::Unavailable { .. } => {
                "once one of these serves, the same call goes on: what is complete is kept".into()
            }
            Self::Altered { folder, .. } => {
                let source = folder.parent().and_then(|text| text.parent()).unwrap_or(folder);
                format!("remove `{}`; it is fetched again", source.display())
            }
            Self::TooShort { .. } => "give more text, or shorter or fewer rows".into(),
            _ => return None,
        };
        Some(text)
    }
}

fn known_suffixes() -> String {
    format!(
        "known suffixes are `jsonl`, `parquet` and: {}; all but `parquet` also with `.gz` or `.zst`",
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
    let mut text = format!("{bad} of {read} rows and files are bad, ");
    text.push_str(&match allowed {
        Some(share) => format!("more than `data.max_bad_rows` = {share} allows:"),
        None => "`data.strict` allows none:".into(),
    });
    for row in first {
        text.push_str("\n  ");
        text.push_str(&row.to_string());
    }
    if bad > first.len() {
        text.push_str(&format!("\n  and {} more", bad - first.len()));
    }
    text
}

/// The parts of a source as they are typed.
fn parts_of(name: &str, parts: &[String]) -> String {
    let typed: Vec<String> = parts.iter().map(|part| format!("`fetch:{name}/{part}`")).collect();
    typed.join(", ")
}
