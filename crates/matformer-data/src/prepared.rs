//! A folder with a tokenizer and token shards, and what can be had from it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::baselines::{Baselines, ByteCounts, baselines};
use crate::cache::{self, read_json};
use crate::counts::Dropped;
use crate::encode::SHARDS;
use crate::lost::Lost;
use crate::special::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{
    BatchShape, Batches, CHAT_TEMPLATE_FILE, Error, Hash, HeldOut, Result, Shard, Tokenizer,
};

/// Goes into the key: a folder of another version is never reused.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// Written last before the folder is published.
pub(crate) const SUMMARY: &str = "summary.json";
/// How often each byte occurs in the text to train on.
pub(crate) const BYTE_COUNTS: &str = "train.bytes.json";

/// Sizes of one split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSize {
    /// Documents.
    pub documents: usize,
    /// Tokens of text, without the separators.
    pub tokens: usize,
    /// Bytes of text, or of answers where only these are learnt.
    pub bytes: usize,
    /// Tokens of answers, where only these are learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<usize>,
}

/// The training documents of a source, where there are several with weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSize {
    /// What they hold.
    pub size: SplitSize,
    /// Where they lie in the shard, with the separators around them.
    pub tokens: Range<usize>,
}

impl SplitSize {
    /// Adds what others hold.
    pub(crate) fn add(&mut self, other: Self) {
        self.documents += other.documents;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        if let Some(answers) = other.answers {
            *self.answers.get_or_insert(0) += answers;
        }
    }
}

impl SourceSize {
    /// Adds a document behind the others.
    pub(crate) fn add(&mut self, size: SplitSize, tokens: Range<usize>) {
        let start = if self.size.documents == 0 { tokens.start } else { self.tokens.start };
        self.tokens = start..tokens.end;
        self.size.add(size);
    }
}

/// What a prepared folder holds: `summary.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Version of the folder's format.
    pub format_version: u32,
    /// Hash over the tokenizer and the names, clusters and texts of both splits. Losses are
    /// comparable at equal hash only.
    pub data_hash: Hash,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_hash: Hash,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// The training documents.
    pub train: SplitSize,
    /// The held-out documents.
    pub held_out: SplitSize,
    /// The training documents of each source, where there are several with weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSize>,
    /// What was left out.
    pub dropped: Dropped,
    /// What the tokenizer does not give back; nothing for one that was trained here.
    pub lost: Lost,
}

/// A folder with `tokenizer.json`, `train.bin`, `held_out.bin`, their lists of documents, and
/// `summary.json`.
#[derive(Debug, Clone)]
pub struct Prepared {
    pub(crate) dir: PathBuf,
    /// Whether the folder was there already.
    pub reused: bool,
    /// What the folder holds.
    pub summary: Summary,
    /// How the files were read, where a person might expect something else; nothing of a folder that
    /// was opened ([`Prepared::open`]).
    pub notes: Vec<String>,
    /// Why the text cannot be read any more, where that is so.
    pub gone: Option<String>,
}

impl Prepared {
    /// Opens a folder that [`prepare`](crate::prepare) wrote.
    ///
    /// # Errors
    /// [`Error::File`] if it is not there, [`Error::Prepared`] if its summary is of another format.
    pub fn open(dir: &Path) -> Result<Self> {
        let summary =
            cache::read_summary(&dir.join(SUMMARY), FORMAT_VERSION, |summary: &Summary| {
                summary.format_version
            })?;
        let (reused, notes, gone) = (true, Vec::new(), None);
        Ok(Self { dir: dir.into(), reused, summary, notes, gone })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hash over the tokenizer and the names, clusters and texts of both splits.
    pub fn data_hash(&self) -> Hash {
        self.summary.data_hash
    }

    /// The path of `tokenizer.json`.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER_FILE)
    }

    /// The path of the `tokenizer_config.json` beside it.
    pub fn tokenizer_config_path(&self) -> PathBuf {
        self.dir.join(TOKENIZER_CONFIG_FILE)
    }

    /// The path of the chat template beside it, where that is a file of its own.
    pub fn chat_template_path(&self) -> Option<PathBuf> {
        Some(self.dir.join(CHAT_TEMPLATE_FILE)).filter(|path| path.is_file())
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
        Shard::open_checked(&self.dir.join(SHARDS[0]), &self.tokenizer()?)
    }

    /// Batches of the training tokens; `weights` are those of the sources, where there are several.
    ///
    /// # Errors
    /// As [`train`](Self::train) and [`Batches::new`]; [`Error::Prepared`] for weights of other sources.
    pub fn batches(&self, weights: &[f64], shape: BatchShape, seed: u64) -> Result<Batches> {
        let sources = &self.summary.sources;
        if sources.len() != weights.len() {
            let (what, path) = ("summary", self.dir.join(SUMMARY));
            let reason = format!("{} sources, expected: {}", sources.len(), weights.len());
            return Err(Error::Prepared { what, path, reason });
        }
        let part = |(source, weight): (&SourceSize, &f64)| (source.tokens.clone(), *weight);
        Batches::mixed(self.train()?, sources.iter().zip(weights).map(part), shape, seed)
    }

    /// Share of the training tokens that are learnt, where sources have these weights: less than 1 of
    /// conversations.
    pub fn learnt(&self, weights: &[f64]) -> f64 {
        let share = |size: &SplitSize| match size.answers {
            Some(answers) if size.tokens > 0 => answers as f64 / size.tokens as f64,
            _ => 1.0,
        };
        let Summary { train, sources, .. } = &self.summary;
        if sources.is_empty() {
            return share(train);
        }
        let sum: f64 = weights.iter().sum();
        sources.iter().zip(weights).map(|(source, weight)| share(&source.size) * weight / sum).sum()
    }

    /// The held-out documents, checked against the tokenizer.
    ///
    /// # Errors
    /// As [`Shard::open_checked`] and [`HeldOut::new`].
    pub fn held_out(&self) -> Result<HeldOut> {
        HeldOut::new(Shard::open_checked(&self.dir.join(SHARDS[1]), &self.tokenizer()?)?)
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
        let counts: ByteCounts = read_json(&self.dir.join(BYTE_COUNTS), "counts of bytes")?;
        baselines(&counts, &held_out.texts(&self.tokenizer()?)?)
    }
}
