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
use crate::progress::{Progress, Stage};
use crate::rows::Content;
use crate::shard::ShardWriter;
use crate::tokenizer::TRAINING_SAMPLE_BYTES;
use crate::{
    ChatTemplate, Conversation, DocumentSpan, Error, Hash, LaidOut, Result, SourceSize, SplitSize,
    Tokenizer,
};

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
    /// Of the training documents of each source, where there are several.
    pub sources: Vec<SourceSize>,
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
    /// What is learnt of a conversation.
    answers: Option<Answers>,
    lost: Option<LostBytes>,
}

/// What is learnt of a conversation.
struct Answers {
    /// The text of all answers.
    text: String,
    /// Of each token, whether it belongs to one.
    flags: Vec<bool>,
}

/// How texts become tokens.
#[derive(Clone, Copy)]
pub(crate) struct Encoder<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Whether it was given: then it may lose text, which is counted.
    pub given: bool,
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
    content.text(census.wanted(document)).map_err(changed)
}

/// Encodes both splits into shards in `folder`.
///
/// # Errors
/// As [`Texts::get`] and [`Tokenizer::encode`]; [`Error::Changed`]; [`Error::File`].
pub(crate) fn encode(
    census: &Census,
    encoder: Encoder<'_>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Encoded> {
    let bytes =
        |split: &&[Entry]| -> usize { split.iter().map(|document| document.bytes as usize).sum() };
    let total = census.splits().iter().map(bytes).sum::<usize>();
    let mut report = |done| progress(Progress { stage: Stage::Encode, done, total });
    report(0);
    let mut writer = Writer::create(census, encoder, folder)?;
    let (batches, read) = sync_channel(AHEAD);
    let (documents, encoded) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(|| read_documents(census, batches));
        let writing = scope.spawn(move || {
            writer.write(encoded)?;
            writer.finish()
        });
        let made = encode_all(census, encoder, read, documents, &mut report);
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
    encoder: Encoder<'_>,
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
        done += texts.iter().map(|(.., text)| text.len()).sum::<usize>();
        let encoded = match census.template() {
            Some(template) => texts
                .into_par_iter()
                .map(|(split, entry, text)| encoder.conversation(template, (split, entry), text))
                .collect::<Result<_>>()?,
            None => encoder.texts(texts)?,
        };
        if documents.send(encoded).is_err() {
            return Ok(());
        }
        report(done);
    }
    Ok(())
}

impl Encoder<'_> {
    fn texts<'a>(&self, texts: Vec<(usize, &'a Entry, String)>) -> Result<Vec<Document<'a>>> {
        let borrowed: Vec<&str> = texts.iter().map(|(.., text)| text.as_str()).collect();
        let tokens = self.tokenizer.encode_batch(&borrowed)?;
        let whole = |((split, entry, text), tokens): ((usize, &'a Entry, String), Vec<u32>)| {
            let lost = self.lost(&text, &tokens)?;
            Ok(Document { split, entry, text, tokens, answers: None, lost })
        };
        texts.into_par_iter().zip(tokens).map(whole).collect()
    }

    fn lost(&self, text: &str, tokens: &[u32]) -> Result<Option<LostBytes>> {
        match self.given {
            true => Ok(LostBytes::between(text, &self.tokenizer.decode(tokens)?)),
            false => Ok(None),
        }
    }

    /// A conversation in JSON. The begin token that most templates write is the one that documents begin with.
    fn conversation<'a>(
        &self,
        template: &ChatTemplate,
        (split, entry): (usize, &'a Entry),
        text: String,
    ) -> Result<Document<'a>> {
        let conversation = Conversation::from_json(&text);
        let laid_out = template.encode_answers(self.tokenizer, &conversation)?;
        let lost = self.lost(&laid_out.text, &laid_out.tokens)?;
        let LaidOut { mut tokens, answers: mut flags, .. } = laid_out;
        if tokens.first() == Some(&self.tokenizer.bos()) {
            tokens.remove(0);
            flags.remove(0);
        }
        let learnt = tokens.iter().zip(&flags).filter(|(_, learnt)| **learnt);
        let learnt: Vec<u32> = learnt.map(|(token, _)| *token).collect();
        let answers = Some(Answers { text: self.tokenizer.decode(&learnt)?, flags });
        Ok(Document { split, entry, text, tokens, answers, lost })
    }
}

/// Writes both shards, and counts what is in them.
struct Writer<'a> {
    census: &'a Census,
    tokenizer: &'a Tokenizer,
    shards: [ShardWriter; 2],
    /// The split that is being written.
    split: usize,
    sizes: [SplitSize; 2],
    sources: Vec<SourceSize>,
    hasher: Hasher,
    counts: ByteCounts,
    lost: Lost,
}

impl<'a> Writer<'a> {
    fn create(census: &'a Census, encoder: Encoder<'a>, folder: &Path) -> Result<Self> {
        let (tokenizer, template) = (encoder.tokenizer, census.template());
        let create = |name: &str| -> Result<ShardWriter> {
            let path = folder.join(name);
            let shard = ShardWriter::create(&path, tokenizer.hash(), tokenizer.vocab_size())?;
            Ok(if template.is_some() { shard.masked() } else { shard })
        };
        let shards = [create(SHARDS[0])?, create(SHARDS[1])?];
        let mut hasher = Hasher::default();
        // Where documents begin and end is part of the data.
        let separators = [tokenizer.bos(), tokenizer.eos()].map(u32::to_le_bytes);
        hasher.part(tokenizer.hash().as_bytes()).part(separators.concat());
        if let Some(template) = template {
            hasher.part("chat").part(template.source());
        }
        hasher.part(census.splits()[0].len().to_le_bytes());
        let sources = match census.wanted.len() {
            1 => Vec::new(),
            several => vec![SourceSize::default(); several],
        };
        let (sizes, counts, lost) = (Default::default(), ByteCounts::default(), Lost::default());
        Ok(Self { census, tokenizer, shards, split: 0, sizes, sources, hasher, counts, lost })
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
        let Document { split, entry, text, tokens, answers, lost } = document;
        let (bos, eos) = (self.tokenizer.bos(), self.tokenizer.eos());
        let (name, cluster) = (self.census.name(entry), self.census.cluster(entry));
        self.hasher.part(&name).part(text);
        if let Some(cluster) = cluster {
            self.hasher.part("cluster").part(cluster);
        }
        let learnt = answers.as_ref().map_or(text, |answers| &answers.text);
        if *split == 0 {
            self.counts.add(learnt);
        }
        if let Some(lost) = lost {
            self.lost.add(&name, *lost);
        }
        let flags = answers.as_ref().map(|answers| &answers.flags[..]);
        let answers = flags.map(|flags| flags.iter().filter(|flag| **flag).count());
        let own = SplitSize { documents: 1, tokens: tokens.len(), bytes: learnt.len(), answers };
        self.sizes[*split].add(own);
        if let (0, Some(source)) = (*split, self.sources.get_mut(self.census.source(entry))) {
            let start = self.shards[0].tokens();
            source.add(own, start..start + 1 + tokens.len() + 1);
        }
        let shard = &mut self.shards[*split];
        shard.list(&DocumentSpan {
            name,
            start: shard.tokens(),
            tokens: tokens.len(),
            bytes: learnt.len(),
            answers,
            cluster: cluster.cloned(),
            source: self.census.listed_source(entry),
        })?;
        shard.push(&[bos])?;
        shard.push_masked(tokens, flags.unwrap_or_default())?;
        if eos == bos { Ok(()) } else { shard.push(&[eos]) }
    }

    fn finish(self) -> Result<Encoded> {
        let data_hash = self.hasher.finish();
        self.shards.into_iter().try_for_each(ShardWriter::finish)?;
        let Self { sizes, sources, counts, lost, .. } = self;
        Ok(Encoded { sizes, sources, data_hash, counts, lost })
    }
}
