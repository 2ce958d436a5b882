//! From text to a folder with tokenizer and token shards, made once and reused.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde::{Deserialize, Serialize};

use crate::baselines::{Baselines, ByteCounts, baselines};
use crate::cache::read_json;
use crate::counts::Dropped;
use crate::documents::Documents;
use crate::hash::Hasher;
use crate::hub::Hub;
use crate::lost::Lost;
use crate::progress::{Progress, Stage};
use crate::reader::Document;
use crate::special::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::{
    DataConfig, DocumentSpan, Error, Hash, HeldOut, Result, Shard, Tokenizer, cache,
    tokenizer_source,
};

/// Goes into the key: a folder of another version is never reused.
const FORMAT_VERSION: u32 = 3;
/// Written last before the folder is published.
const SUMMARY: &str = "summary.json";
const BYTE_COUNTS: &str = "train.bytes.json";
/// What every prepared folder has.
const FILES: [&str; 8] = [
    SUMMARY,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
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
    /// What was left out.
    pub dropped: Dropped,
    /// What the tokenizer does not give back; nothing for one that was trained here.
    pub lost: Lost,
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
/// [`Error::Lossy`] for a given tokenizer that loses more of the text than `config` allows;
/// [`Error::File`] for files that cannot be written.
pub fn prepare(
    config: &DataConfig,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    let wanted = Wanted::read(config, cache_dir, progress)?;
    match wanted.find(config)? {
        Some(prepared) => Ok(prepared),
        None => wanted.make(config, cache_dir, progress),
    }
}

/// What [`prepare`] would reuse, if it is there; nothing is written.
///
/// # Errors
/// As [`prepare`].
pub fn find_prepared(
    config: &DataConfig,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Prepared>> {
    Wanted::read(config, cache_dir, progress)?.find(config)
}

/// As [`prepare`], for a model with the tokenizer at `own`, which stands in for what `config` says of
/// one. What was prepared with a tokenizer that was trained is reused if that is this one.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_for(
    config: &DataConfig,
    own: &Path,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared> {
    config.validate()?;
    let tokenizer = Tokenizer::load(own)?;
    let documents = Documents::read(config, progress)?;
    let trained = Wanted::new(config, documents, None, cache_dir);
    let same = |found: &Prepared| found.summary.tokenizer_hash == tokenizer.hash();
    if let Some(prepared) = trained.find(config)?.filter(same) {
        return Ok(prepared);
    }
    let given = Wanted::new(config, trained.documents, Some(tokenizer), cache_dir);
    match given.find(config)? {
        Some(prepared) => Ok(prepared),
        None => given.make(config, cache_dir, progress),
    }
}

/// What is to be prepared, and where.
struct Wanted {
    documents: Documents,
    given: Option<Tokenizer>,
    dir: PathBuf,
}

impl Wanted {
    fn read(
        config: &DataConfig,
        cache_dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        config.validate()?;
        let given = match &config.tokenizer {
            Some(source) => {
                Some(Tokenizer::load(&tokenizer_source::locate(source, &Hub::from_env, progress)?)?)
            }
            None => None,
        };
        let documents = Documents::read(config, progress)?;
        Ok(Self::new(config, documents, given, cache_dir))
    }

    fn new(
        config: &DataConfig,
        documents: Documents,
        given: Option<Tokenizer>,
        cache_dir: &Path,
    ) -> Self {
        let dir = cache_dir.join(key(config, &documents, given.as_ref()).short());
        Self { documents, given, dir }
    }

    fn find(&self, config: &DataConfig) -> Result<Option<Prepared>> {
        match cache::missing(&self.dir, &FILES) {
            None => {
                let prepared = Prepared::open(&self.dir)?;
                let own = prepared.tokenizer_path();
                let path = self.given.as_ref().map_or(own.as_path(), Tokenizer::path);
                check_lost(&prepared.summary, path, config)?;
                Ok(Some(Prepared { notes: self.documents.notes.clone(), ..prepared }))
            }
            Some(file) => {
                if self.dir.exists() {
                    tracing::warn!(
                        "`{}` has no `{file}` and is prepared again",
                        self.dir.display()
                    );
                }
                Ok(None)
            }
        }
    }

    fn make(
        self,
        config: &DataConfig,
        cache_dir: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Prepared> {
        let Self { documents, given, dir } = self;
        fs::enter_cache(cache_dir)?;
        let scratch = fs::scratch_dir(&dir)?;
        let (tokenizer, given) = match given {
            Some(tokenizer) => {
                copy(&tokenizer, scratch.path())?;
                (tokenizer, true)
            }
            None => {
                let total = size(&documents.train);
                progress(Progress { stage: Stage::Tokenizer, done: 0, total });
                let (train, folder) = (&documents.train, scratch.path());
                let trained = Tokenizer::train(train, config.vocab_size, config.seed, folder)?;
                (trained.at(dir.join(TOKENIZER_FILE)), false)
            }
        };
        let mut writer = Writer { tokenizer: &tokenizer, given, folder: scratch.path(), progress };
        check_lost(&writer.write(&documents)?, tokenizer.path(), config)?;
        cache::publish(scratch.path(), &dir, &FILES)?;
        Ok(Prepared { reused: false, notes: documents.notes, ..Prepared::open(&dir)? })
    }
}

impl Prepared {
    /// Opens a folder that [`prepare`] wrote.
    ///
    /// # Errors
    /// [`Error::File`] if it is not there, [`Error::Prepared`] if its summary is of another format.
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
        let counts: ByteCounts = read_json(&self.dir.join(BYTE_COUNTS), "counts of bytes")?;
        baselines(&counts, &held_out.texts(&self.tokenizer()?)?)
    }
}

/// Names the folder: everything that its contents depend on.
fn key(config: &DataConfig, documents: &Documents, tokenizer: Option<&Tokenizer>) -> Hash {
    let mut hasher = Hasher::default();
    hasher.part(FORMAT_VERSION.to_le_bytes());
    match tokenizer {
        Some(tokenizer) => hasher.part(tokenizer.hash().as_bytes()).part(tokenizer.config()),
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
            if let Some(cluster) = &document.cluster {
                hasher.part("cluster").part(cluster);
            }
        }
    }
}

/// Whether the tokenizer at `path` loses no more text than `config` allows: the same for documents in
/// either split.
fn check_lost(summary: &Summary, path: &Path, config: &DataConfig) -> Result<()> {
    let Summary { train, held_out, lost, .. } = summary;
    let allowed = if config.strict { 0.0 } else { config.max_lost_bytes };
    let bytes = train.bytes + held_out.bytes;
    if lost.bytes as f64 <= allowed * bytes as f64 && (allowed > 0.0 || lost.documents == 0) {
        return Ok(());
    }
    let documents = train.documents + held_out.documents;
    Err(Error::Lossy { path: path.into(), lost: lost.clone(), documents, bytes, allowed })
}

/// Takes over a given tokenizer, with its configuration.
fn copy(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    fs::write_atomic(folder.join(TOKENIZER_FILE), &fs::read(tokenizer.path())?)?;
    fs::write_atomic(folder.join(TOKENIZER_CONFIG_FILE), tokenizer.config().as_bytes())?;
    Ok(())
}

/// Writes everything but the tokenizer into a folder.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether it was not trained here: then it may lose text.
    given: bool,
    folder: &'a Path,
    progress: &'a mut dyn FnMut(Progress),
}

impl Writer<'_> {
    fn write(&mut self, documents: &Documents) -> Result<Summary> {
        let Documents { train, held_out, dropped, .. } = documents;
        let tokenizer = self.tokenizer;
        let (total, mut done) = (size(train) + size(held_out), 0);
        (self.progress)(Progress { stage: Stage::Encode, done, total });
        let mut report = |bytes: usize| {
            done += bytes;
            (self.progress)(Progress { stage: Stage::Encode, done, total });
        };
        let mut lost = self.given.then(Lost::default);
        let mut split = |documents, file: &str| {
            encode(documents, tokenizer, &self.folder.join(file), lost.as_mut(), &mut report)
        };
        let sizes = (split(train, "train.bin")?, split(held_out, "held_out.bin")?);
        let counts = ByteCounts::of(train.iter().map(|document| document.text.as_str()));
        fs::write_json(self.folder.join(BYTE_COUNTS), "counts of bytes", &counts)?;
        let mut hasher = Hasher::default();
        // Where documents begin and end is part of the data.
        let separators = [tokenizer.bos(), tokenizer.eos()].map(u32::to_le_bytes);
        hasher.part(tokenizer.hash().as_bytes()).part(separators.concat());
        hash_documents(&mut hasher, documents);
        let summary = Summary {
            format_version: FORMAT_VERSION,
            data_hash: hasher.finish(),
            tokenizer_hash: tokenizer.hash(),
            vocab_size: tokenizer.vocab_size(),
            train: sizes.0,
            held_out: sizes.1,
            dropped: *dropped,
            lost: lost.unwrap_or_default(),
        };
        fs::write_json(self.folder.join(SUMMARY), "summary", &summary)?;
        Ok(summary)
    }
}

/// Encodes one split into a shard: each document begins with the begin token and ends with the end
/// token. Where they are the same, one stands between two documents. What does not come back is
/// counted in `lost`.
fn encode(
    documents: &[Document],
    tokenizer: &Tokenizer,
    path: &Path,
    mut lost: Option<&mut Lost>,
    report: &mut dyn FnMut(usize),
) -> Result<SplitSize> {
    let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
    let (mut tokens, mut spans) = (Vec::new(), Vec::new());
    let mut size = SplitSize { documents: documents.len(), ..SplitSize::default() };
    for chunk in chunks(documents, CHUNK) {
        let texts: Vec<&str> = chunk.iter().map(|document| document.text.as_str()).collect();
        let encoded = tokenizer.encode_batch(&texts)?;
        if let Some(lost) = &mut lost {
            let lists: Vec<&[u32]> = encoded.iter().map(Vec::as_slice).collect();
            let decoded = tokenizer.decode_batch(&lists)?;
            chunk.iter().zip(&decoded).for_each(|(document, text)| lost.compare(document, text));
        }
        for (document, encoded) in chunk.iter().zip(encoded) {
            spans.push(DocumentSpan {
                name: document.name.clone(),
                start: tokens.len(),
                tokens: encoded.len(),
                bytes: document.text.len(),
                cluster: document.cluster.clone(),
            });
            size.tokens += encoded.len();
            size.bytes += document.text.len();
            tokens.push(bos);
            tokens.extend(encoded);
            if eos != bos {
                tokens.push(eos);
            }
        }
        report(texts.iter().map(|text| text.len()).sum());
    }
    if eos == bos {
        tokens.push(eos);
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
