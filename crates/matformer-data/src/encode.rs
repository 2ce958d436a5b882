//! The second pass over a corpus: texts become tokens.
//!
//! One thread reads, all cores encode, one thread writes; between them are few batches.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use matformer_core::rng;
use rayon::prelude::*;

use crate::baselines::ByteCounts;
use crate::census::{Census, Entry, Texts};
use crate::hash::Hasher;
use crate::lost::{Lost, LostBytes};
use crate::prepare::SplitSize;
use crate::progress::{Progress, Stage};
use crate::rows::Content;
use crate::shard::ShardWriter;
use crate::tokenizer::TRAINING_SAMPLE_BYTES;
use crate::{DocumentSpan, Error, Hash, Result, Tokenizer};

/// Text of a batch, in bytes.
const BATCH: usize = 4 << 20;
/// Batches that are read ahead, and that wait to be written.
const AHEAD: usize = 2;
/// The shards of the splits.
pub(crate) const SHARDS: [&str; 2] = ["train.bin", "held_out.bin"];

/// What the second pass has counted.
pub(crate) struct Encoded {
    /// Of the training and the held-out documents.
    pub sizes: [SplitSize; 2],
    /// Hash over the tokenizer and the documents.
    pub data_hash: Hash,
    /// Bytes of the training text.
    pub counts: ByteCounts,
    /// What the tokenizer does not give back.
    pub lost: Lost,
}

/// A document with its tokens.
struct Document<'a> {
    split: usize,
    entry: &'a Entry,
    text: String,
    tokens: Vec<u32>,
    lost: Option<LostBytes>,
}

/// Rows that were read, in order, with their splits.
type Batch<'a> = Vec<(usize, &'a Entry, Content)>;

/// The texts that a tokenizer is trained on: whole training documents, drawn by `seed`, until there are
/// [`TRAINING_SAMPLE_BYTES`].
///
/// # Errors
/// As [`Texts::get`]; [`Error::Changed`].
pub(crate) fn sample(census: &Census, seed: u64) -> Result<Vec<String>> {
    let [train, _] = census.splits();
    let mut texts = Texts::new(census);
    sampled(train, seed, TRAINING_SAMPLE_BYTES)
        .into_iter()
        .map(|place| text(census, &train[place], texts.get(&train[place])?))
        .collect()
}

/// The places of documents of `limit` bytes in all, ascending.
fn sampled(documents: &[Entry], seed: u64, limit: usize) -> Vec<usize> {
    let mut order: Vec<u32> = (0..documents.len() as u32).collect();
    let mut random = rng::keyed(seed, "tokenizer", 0);
    for at in (1..order.len()).rev() {
        order.swap(at, rng::index(&mut random, at + 1));
    }
    let mut bytes = 0;
    let fits = |place: &usize| {
        let fits = bytes < limit;
        bytes += documents[*place].bytes as usize;
        fits
    };
    let mut places: Vec<usize> =
        order.into_iter().map(|place| place as usize).take_while(fits).collect();
    places.sort_unstable();
    places
}

/// The text of a document, which the first pass has seen.
fn text(census: &Census, document: &Entry, content: Content) -> Result<String> {
    let changed = |_| {
        let file = census.inputs[document.input as usize].label.clone();
        Error::Changed { file }
    };
    content.text(&census.wanted).map_err(changed)
}

/// Encodes both splits into shards in `folder`. A `given` tokenizer may lose text, which is counted.
///
/// # Errors
/// As [`Texts::get`] and [`Tokenizer::encode`]; [`Error::Changed`]; [`Error::File`].
pub(crate) fn encode(
    census: &Census,
    (tokenizer, given): (&Tokenizer, bool),
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Encoded> {
    let bytes =
        |split: &&[Entry]| -> usize { split.iter().map(|document| document.bytes as usize).sum() };
    let total = census.splits().iter().map(bytes).sum::<usize>();
    let mut report = |done| progress(Progress { stage: Stage::Encode, done, total });
    report(0);
    let mut writer = Writer::create(census, tokenizer, folder)?;
    let (batches, read) = sync_channel(AHEAD);
    let (documents, encoded) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(|| read_documents(census, batches));
        let writing = scope.spawn(move || {
            writer.write(encoded)?;
            writer.finish()
        });
        let made = encode_all(census, (tokenizer, given), read, documents, &mut report);
        // The writer's error is the cause where nobody received what was encoded.
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (made, written) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(()), Ok(encoded)) => Ok(encoded),
        }
    })
}

/// Sends all documents in order; ends where nobody receives them.
fn read_documents<'a>(census: &'a Census, batches: SyncSender<Result<Batch<'a>>>) {
    let mut texts = Texts::new(census);
    let (mut batch, mut held) = (Vec::new(), 0);
    for (split, documents) in census.splits().into_iter().enumerate() {
        for entry in documents {
            let content = match texts.get(entry) {
                Ok(content) => content,
                Err(error) => return drop(batches.send(Err(error))),
            };
            held += entry.bytes as usize;
            batch.push((split, entry, content));
            if held >= BATCH {
                held = 0;
                if batches.send(Ok(std::mem::take(&mut batch))).is_err() {
                    return;
                }
            }
        }
    }
    drop(batches.send(Ok(batch)));
}

fn encode_all<'a>(
    census: &Census,
    (tokenizer, given): (&Tokenizer, bool),
    batches: Receiver<Result<Batch<'a>>>,
    documents: SyncSender<Vec<Document<'a>>>,
    report: &mut dyn FnMut(usize),
) -> Result<()> {
    let mut done = 0;
    for batch in batches {
        let texts: Vec<(usize, &Entry, String)> = batch?
            .into_par_iter()
            .map(|(split, entry, content)| Ok((split, entry, text(census, entry, content)?)))
            .collect::<Result<_>>()?;
        let borrowed: Vec<&str> = texts.iter().map(|(.., text)| text.as_str()).collect();
        let tokens = tokenizer.encode_batch(&borrowed)?;
        done += borrowed.iter().map(|text| text.len()).sum::<usize>();
        let whole = |((split, entry, text), tokens): ((usize, &'a Entry, String), Vec<u32>)| {
            let lost = match given {
                true => LostBytes::between(&text, &tokenizer.decode(&tokens)?),
                false => None,
            };
            Ok(Document { split, entry, text, tokens, lost })
        };
        let encoded = texts.into_par_iter().zip(tokens).map(whole).collect::<Result<_>>()?;
        if documents.send(encoded).is_err() {
            return Ok(());
        }
        report(done);
    }
    Ok(())
}

/// Writes both shards, and counts what is in them.
struct Writer<'a> {
    census: &'a Census,
    tokenizer: &'a Tokenizer,
    shards: [ShardWriter; 2],
    /// The split that is being written.
    split: usize,
    sizes: [SplitSize; 2],
    hasher: Hasher,
    counts: ByteCounts,
    lost: Lost,
}

impl<'a> Writer<'a> {
    fn create(census: &'a Census, tokenizer: &'a Tokenizer, folder: &Path) -> Result<Self> {
        let create = |name: &str| {
            ShardWriter::create(&folder.join(name), tokenizer.hash(), tokenizer.vocab_size())
        };
        let shards = [create(SHARDS[0])?, create(SHARDS[1])?];
        let mut hasher = Hasher::default();
        // Where documents begin and end is part of the data.
        let separators = [tokenizer.bos(), tokenizer.eos()].map(u32::to_le_bytes);
        hasher.part(tokenizer.hash().as_bytes()).part(separators.concat());
        hasher.part(census.splits()[0].len().to_le_bytes());
        let (sizes, counts, lost) = (Default::default(), ByteCounts::default(), Lost::default());
        Ok(Self { census, tokenizer, shards, split: 0, sizes, hasher, counts, lost })
    }

    fn write(&mut self, batches: Receiver<Vec<Document<'_>>>) -> Result<()> {
        for document in batches.into_iter().flatten() {
            self.go_on_to(document.split)?;
            self.add(&document)?;
        }
        self.go_on_to(SHARDS.len())
    }

    /// Ends the splits in front of `split`.
    fn go_on_to(&mut self, split: usize) -> Result<()> {
        let (bos, eos) = (self.tokenizer.bos(), self.tokenizer.eos());
        while self.split < split {
            if eos == bos {
                self.shards[self.split].push(&[eos])?;
            }
            self.split += 1;
            if let Some(documents) = self.census.splits().get(self.split) {
                self.hasher.part(documents.len().to_le_bytes());
            }
        }
        Ok(())
    }

    /// Adds a document: it begins with the begin token and ends with the end token. Where they are the
    /// same, one stands between two documents.
    fn add(&mut self, document: &Document<'_>) -> Result<()> {
        let Document { split, entry, text, tokens, lost } = document;
        let (bos, eos) = (self.tokenizer.bos(), self.tokenizer.eos());
        let (name, cluster) = (self.census.name(entry), self.census.cluster(entry));
        self.hasher.part(&name).part(text);
        if let Some(cluster) = cluster {
            self.hasher.part("cluster").part(cluster);
        }
        if *split == 0 {
            self.counts.add(text);
        }
        if let Some(lost) = lost {
            self.lost.add(&name, *lost);
        }
        let size = &mut self.sizes[*split];
        size.documents += 1;
        size.tokens += tokens.len();
        size.bytes += text.len();
        let shard = &mut self.shards[*split];
        shard.list(&DocumentSpan {
            name,
            start: shard.tokens(),
            tokens: tokens.len(),
            bytes: text.len(),
            cluster: cluster.cloned(),
        })?;
        shard.push(&[bos])?;
        shard.push(tokens)?;
        if eos == bos { Ok(()) } else { shard.push(&[eos]) }
    }

    fn finish(self) -> Result<Encoded> {
        self.shards.into_iter().try_for_each(ShardWriter::finish)?;
        let (sizes, counts, lost) = (self.sizes, self.counts, self.lost);
        Ok(Encoded { sizes, data_hash: self.hasher.finish(), counts, lost })
    }
}
