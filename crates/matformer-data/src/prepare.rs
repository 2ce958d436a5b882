//! From text to a folder with tokenizer and token shards, made once and reused.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde::{Deserialize, Serialize};

use crate::baselines::{Baselines, ByteCounts, baselines};
use crate::cache::{read_json, write_json};
use crate::counts::Dropped;
use crate::documents::Documents;
use crate::hash::Hasher;
use crate::hub::Hub;
use crate::progress::{Progress, Stage};
use crate::reader::Document;
use crate::tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{
    DataConfig, DocumentSpan, Error, Hash, HeldOut, Result, Shard, Tokenizer, cache,
    tokenizer_source,
};

/// Goes into the key: a folder of another version is never reused.
const FORMAT_VERSION: u32 = 2;
/// Written last before the folder is published.
const SUMMARY: &str = "summary.json";
const BYTE_COUNTS: &str = "train.bytes.json";
/// What every prepared folder has.
const FILES: [&str; 7] = [
    SUMMARY,
    TOKENIZER_FILE,
    "train.bin",
    "train.docs.jsonl",
    BYTE_COUNTS,
    "held_out.bin",
    "held_out.docs.jsonl",
];
/// Text that is tokenised between two reports of progress, in bytes.
const CHUNK: usize = 1 << 20;

/// Sizes of one split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSize {
    /// Documents.
    pub documents: usize,
    /// Tokens of text, without the separators.
    pub tokens: usize,
    /// Bytes of text.
    pub bytes: usize,
}

/// What a prepared folder holds: `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Version of the folder's format.
    pub format_version: u32,
    /// Hash over the tokenizer and the names and texts of both splits. Losses are comparable at
    /// equal hash only.
    pub data_hash: Hash,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_hash: Hash,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// The training documents.
    pub train: SplitSize,
    /// The held-out documents.
    pub held_out: SplitSize,
    /// What was left out.
    pub dropped: Dropped,
}

/// A folder with `tokenizer.json`, `train.bin`, `held_out.bin`, their lists of documents, and
/// `summary.json`.
#[derive(Debug, Clone)]
pub struct Prepared {
    dir: PathBuf,
    /// Whether the folder was there already.
    pub reused: bool,
    /// What the folder holds.
    pub summary: Summary,
    /// How the files were read, where a person might expect something else; nothing of a folder that
    /// was opened ([`Prepared::open`]).
    pub notes: Vec<String>,
}

/// Reads the text that `config` names, downloading what has a hub name, trains or copies the
/// tokenizer, and writes the token shards into a folder of `cache_dir` that is named by a hash of
/// the text and of what `config` makes of it. What is there already is reused; what is not appears
/// by one rename, in place of a folder that lacks a file.
///
/// # Errors
/// As [`Documents::read`], [`Tokenizer::train`] and [`Tokenizer::load`]; [`Error::NoTokenizer`];
/// [`Error::Lossy`] for a given tokenizer that does not decode a held-out document to its text;
/// [`Error::File`] for files that cannot be written.
pub fn prepare(
    config: &DataConfig,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    prepare_into(config, cache_dir, cache_dir, progress)
}

/// As [`prepare`], but what is not in `cache_dir` yet is written into `folder`: the cache is read
/// only.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_into(
    config: &DataConfig,
    cache_dir: &Path,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    config.validate()?;
    let given = match &config.tokenizer {
        Some(source) => {
            Some(Tokenizer::load(&tokenizer_source::locate(source, &Hub::from_env, progress)?)?)
        }
        None => None,
    };
    let documents = Documents::read(config, cache_dir, progress)?;
    let name = key(config, &documents, given.as_ref()).short();
    let dir = cache_dir.join(&name);
    match cache::missing(&dir, &FILES) {
        None => return Ok(Prepared { notes: documents.notes, ..Prepared::open(&dir)? }),
        Some(file) if dir.exists() => {
            tracing::warn!("`{}` has no `{file}` and is prepared again", dir.display());
        }
        Some(_) => {}
    }
    let dir = folder.join(name);
    cache::enter(folder)?;
    let scratch = fs::scratch_dir(&dir)?;
    let tokenizer = match given {
        Some(tokenizer) => copy(&tokenizer, scratch.path())?,
        None => {
            let total = size(&documents.train);
            progress(Progress { stage: Stage::Tokenizer, done: 0, total });
            Tokenizer::train(&documents.train, config.vocab_size, config.seed, scratch.path())?
        }
    };
    write(&documents, &tokenizer, scratch.path(), progress)?;
    cache::publish(scratch.path(), &dir, &FILES)?;
    Ok(Prepared { reused: false, notes: documents.notes, ..Prepared::open(&dir)? })
}

impl Prepared {
    /// Opens a folder that [`prepare`] wrote.
    ///
    /// # Errors
    /// [`Error::File`] if it is not there, [`Error::Cache`] if its summary is of another format.
    pub fn open(dir: &Path) -> Result<Self> {
        let summary =
            cache::read_summary(&dir.join(SUMMARY), FORMAT_VERSION, |summary: &Summary| {
                summary.format_version
            })?;
        Ok(Self { dir: dir.into(), reused: true, summary, notes: Vec::new() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hash over the tokenizer and the names and texts of both splits.
    pub fn data_hash(&self) -> Hash {
        self.summary.data_hash
    }

    /// The path of `tokenizer.json`.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER_FILE)
    }

    /// The path of the `tokenizer_config.json` beside it; a given tokenizer may come without one.
    pub fn tokenizer_config_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER_CONFIG_FILE)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(&self.tokenizer_path())
    }

    /// The training tokens, checked against the tokenizer.
    ///
    /// # Errors
    /// As [`Shard::open_checked`].
    pub fn train(&self) -> Result<Shard> {
        Shard::open_checked(&self.dir.join("train.bin"), &self.tokenizer()?)
    }

    /// The held-out documents, checked against the tokenizer.
    ///
    /// # Errors
    /// As [`Shard::open_checked`] and [`HeldOut::new`].
    pub fn held_out(&self) -> Result<HeldOut> {
        HeldOut::new(Shard::open_checked(&self.dir.join("held_out.bin"), &self.tokenizer()?)?)
    }

    /// About `tokens` tokens of the held-out documents ([`HeldOut::take`]), or all.
    ///
    /// # Errors
    /// As [`held_out`](Self::held_out) and [`HeldOut::take`].
    pub fn held_out_part(&self, tokens: Option<usize>) -> Result<HeldOut> {
        match tokens {
            None => self.held_out(),
            Some(tokens) => self.held_out()?.take(tokens, &self.tokenizer()?),
        }
    }

    /// What `held_out`, or a part of it, costs without a model.
    ///
    /// # Errors
    /// As [`baselines`] and [`HeldOut::texts`].
    pub fn baselines(&self, held_out: &HeldOut) -> Result<Baselines> {
        let counts: ByteCounts = read_json(&self.dir.join(BYTE_COUNTS))?;
        baselines(&counts, &held_out.texts(&self.tokenizer()?)?)
    }
}

/// Names the folder: everything that its contents depend on.
fn key(config: &DataConfig, documents: &Documents, tokenizer: Option<&Tokenizer>) -> Hash {
    let mut hasher = Hasher::default();
    hasher.part(FORMAT_VERSION.to_le_bytes());
    match tokenizer {
        Some(tokenizer) => {
            let special = (tokenizer.bos(), tokenizer.eos(), tokenizer.pad());
            hasher.part(tokenizer.hash().as_bytes()).part(format!("{special:?}"))
        }
        None => hasher.part(config.vocab_size.to_le_bytes()).part(config.seed.to_le_bytes()),
    };
    hash_documents(&mut hasher, documents);
    let Dropped { too_large, duplicate, empty, bad_rows } = documents.dropped;
    for count in [too_large, duplicate, empty, bad_rows] {
        hasher.part(count.to_le_bytes());
    }
    hasher.finish()
}

fn hash_documents(hasher: &mut Hasher, documents: &Documents) {
    for split in [&documents.train, &documents.held_out] {
        hasher.part(split.len().to_le_bytes());
        for document in split {
            hasher.part(&document.name).part(&document.text);
        }
    }
}

/// Takes over a given tokenizer, with the configuration beside it where there is one.
fn copy(tokenizer: &Tokenizer, folder: &Path) -> Result<Tokenizer> {
    let path = folder.join(TOKENIZER_FILE);
    fs::write_atomic(&path, &fs::read(tokenizer.path())?)?;
    let config = tokenizer.path().with_file_name(TOKENIZER_CONFIG_FILE);
    if config.is_file() {
        fs::write_atomic(folder.join(TOKENIZER_CONFIG_FILE), &fs::read(config)?)?;
    }
    Tokenizer::load(&path)
}

/// Writes everything but the tokenizer.
fn write(
    documents: &Documents,
    tokenizer: &Tokenizer,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let total = size(&documents.train) + size(&documents.held_out);
    let mut done = 0;
    let mut report = |bytes: usize| {
        done += bytes;
        progress(Progress { stage: Stage::Encode, done, total });
    };
    report(0);
    let train = encode(&documents.train, tokenizer, &folder.join("train.bin"), &mut report)?;
    let held_out_path = folder.join("held_out.bin");
    let held_out = encode(&documents.held_out, tokenizer, &held_out_path, &mut report)?;
    let decoded = HeldOut::new(Shard::open(&held_out_path)?)?.texts(tokenizer)?;
    if let Some((document, _)) =
        documents.held_out.iter().zip(decoded).find(|(document, text)| document.text != *text)
    {
        return Err(Error::Lossy {
            path: tokenizer.path().into(),
            document: document.name.clone(),
        });
    }
    let counts = ByteCounts::of(documents.train.iter().map(|document| document.text.as_str()));
    write_json(&folder.join(BYTE_COUNTS), &counts)?;
    let mut hasher = Hasher::default();
    hasher.part(tokenizer.hash().as_bytes());
    hash_documents(&mut hasher, documents);
    let summary = Summary {
        format_version: FORMAT_VERSION,
        data_hash: hasher.finish(),
        tokenizer_hash: tokenizer.hash(),
        vocab_size: tokenizer.vocab_size(),
        train,
        held_out,
        dropped: documents.dropped,
    };
    write_json(&folder.join(SUMMARY), &summary)
}

/// Encodes one split into a shard: each document as the separator and its tokens.
fn encode(
    documents: &[Document],
    tokenizer: &Tokenizer,
    path: &Path,
    report: &mut dyn FnMut(usize),
) -> Result<SplitSize> {
    let (mut tokens, mut spans) = (Vec::new(), Vec::new());
    let mut size = SplitSize { documents: documents.len(), ..SplitSize::default() };
    for chunk in chunks(documents, CHUNK) {
        let texts: Vec<&str> = chunk.iter().map(|document| document.text.as_str()).collect();
        for (document, encoded) in chunk.iter().zip(tokenizer.encode_batch(&texts)?) {
            spans.push(DocumentSpan {
                name: document.name.clone(),
                start: tokens.len(),
                tokens: encoded.len(),
                bytes: document.text.len(),
            });
            size.tokens += encoded.len();
            size.bytes += document.text.len();
            tokens.push(tokenizer.bos());
            tokens.extend(encoded);
        }
        report(texts.iter().map(|text| text.len()).sum());
    }
    Shard::write(path, &tokens, tokenizer.hash(), tokenizer.vocab_size())?;
    Shard::write_documents(path, &spans)?;
    Ok(size)
}

/// Cuts `documents` into runs, each as short as it can be to hold `bytes` of text.
fn chunks(documents: &[Document], bytes: usize) -> impl Iterator<Item = &[Document]> {
    let mut held = 0;
    documents.split_inclusive(move |document| {
        held += document.text.len();
        let full = held >= bytes;
        if full {
            held = 0;
        }
        full
    })
}

fn size(documents: &[Document]) -> usize {
    documents.iter().map(|document| document.text.len()).sum()
}
