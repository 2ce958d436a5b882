//! The first pass over a corpus: which documents there are, and which split each is in.
//!
//! No text is kept. Of each document a hash, a size and its place are, about 32 bytes.

mod found;
mod names;
mod texts;

use std::sync::Arc;

use rayon::prelude::*;

use crate::conversation::{Chat, Fields};
use crate::counts::Dropped;
use crate::format::Kind;
use crate::hash::Hasher;
use crate::inputs::{self, Input, Part};
use crate::prepare::given;
use crate::progress::Progress;
use crate::rows::Wanted;
use crate::walk::Reason;
use crate::{ChatTemplate, DataConfig, Error, PassedOver, Result, blocks, splits};

use found::Found;
use names::Names;
pub(crate) use texts::Texts;

/// The documents of a corpus, in the order of their split and of their names.
#[derive(Debug)]
pub(crate) struct Census {
    /// The files.
    pub inputs: Vec<Input>,
    /// How their rows are read, by their sources.
    pub wanted: Vec<Wanted>,
    /// The documents: those to train on, then those that are held out.
    documents: Vec<Entry>,
    /// How many are trained on.
    train: usize,
    /// Whether those that are held out are of no source.
    validation: bool,
    /// What was left out.
    pub dropped: Dropped,
    /// How the files were read, where a person might expect something else.
    pub notes: Vec<String>,
}

/// A document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The beginning of the SHA-256 of its text.
    hash: [u8; 16],
    /// Bytes of its text, or the largest number of which it has more.
    pub bytes: u32,
    /// Its file, as a place in the list.
    pub input: u32,
    /// Its row there; 0 where it is the file.
    pub row: u32,
    held_out: bool,
}

impl Census {
    /// Reads what `config` names, downloading what has a hub name, as conversations where there is a `template`:
    /// drops what is too large, empty, a bad row or a duplicate, and splits the rest. Says how far it is.
    ///
    /// # Errors
    /// A file that cannot be read, unpacked or downloaded, more bad rows than `config` allows, a
    /// field that the rows do not have, two files of one name, an empty split; [`Error::Unresolved`].
    pub(crate) fn take(
        config: &DataConfig,
        template: Option<Arc<ChatTemplate>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let mut passed = PassedOver::default();
        let mut inputs = files(config, &mut passed, progress)?;
        if template.is_some() {
            keep_conversations(&mut inputs, &mut passed)?;
        }
        if inputs.is_empty() {
            return Err(Error::NoFile { passed_over: passed });
        }
        let mut notes: Vec<String> =
            (!passed.is_empty()).then(|| format!("passed over: {passed}")).into_iter().collect();
        notes.extend(split_note(&inputs));
        notes.extend(splits::missing_notes(inputs.iter().map(|input| input.label.as_str())));
        if let [alone] = &mut inputs[..]
            && alone.part == Part::Drawn
            && alone.format.kind == Kind::Text
        {
            alone.format.kind =
                Kind::Blocks { train: blocks::held_out_from(alone, config.held_out)? };
            notes.push(format!(
                "`{}` is all there is: its last {} % are held out, in blocks",
                alone.label,
                100.0 * config.held_out
            ));
        }
        let tokenizer = match inputs.iter().find(|input| input.format.kind == Kind::Tokens) {
            Some(tokens) => {
                let missing = || Error::NoDecoder { file: tokens.label.clone() };
                Some(Arc::new(given(config, progress)?.ok_or_else(missing)?))
            }
            None => None,
        };
        let wanted = |field: &str| Wanted {
            field: field.to_owned(),
            max_bytes: config.max_bytes(),
            tokenizer: tokenizer.clone(),
            chat: template.clone().map(|template| Chat { fields: Fields::of(field), template }),
        };
        let wanted: Vec<Wanted> = config.fields().into_iter().map(wanted).collect();
        let mut found = Found::default();
        found.read(&inputs, (&wanted, config.max_bad_rows), progress)?;
        let mut dropped = found.check_bad(config)?;
        notes.extend(found.taken.notes());
        let mut documents = found.documents;
        let names = Names(&inputs);
        if config.deduplicate {
            let before = documents.len();
            drop_duplicates(&mut documents, names);
            dropped.duplicate = before - documents.len();
        }
        split(&mut documents, names, config);
        documents.par_sort_unstable_by(|a, b| {
            let sources = || names.input(a).source.cmp(&names.input(b).source);
            a.held_out.cmp(&b.held_out).then_with(sources).then_with(|| names.order(a, b))
        });
        let train = documents.partition_point(|document| !document.held_out);
        for (split, size) in [("train", train), ("held_out", documents.len() - train)] {
            if size == 0 {
                return Err(Error::EmptySplit { split, documents: documents.len(), dropped });
            }
        }
        for source in 0..config.sources.len() {
            let of = |document: &Entry| names.input(document).source == source;
            if !documents[..train].iter().any(of) {
                return Err(Error::NoDocument { number: source + 1, dropped });
            }
        }
        let validation = !config.validation.is_empty();
        Ok(Self { inputs, wanted, documents, train, validation, dropped, notes })
    }

    /// The documents to train on, and those that are held out, sorted by name.
    pub(crate) fn splits(&self) -> [&[Entry]; 2] {
        let (train, held_out) = self.documents.split_at(self.train);
        [train, held_out]
    }

    /// The source of a document, where there are several with weights.
    pub(crate) fn source(&self, document: &Entry) -> usize {
        self.inputs[document.input as usize].source
    }

    /// The same, where there are several, and none of what `data.validation` names.
    pub(crate) fn listed_source(&self, document: &Entry) -> Option<usize> {
        let of_none = self.wanted.len() == 1 || self.validation && document.held_out;
        (!of_none).then(|| self.source(document))
    }

    /// How the rows of a document's file are read.
    pub(crate) fn wanted(&self, document: &Entry) -> &Wanted {
        &self.wanted[self.source(document)]
    }

    /// What lays out conversations, where documents are such.
    pub(crate) fn template(&self) -> Option<&Arc<ChatTemplate>> {
        self.wanted.first()?.chat.as_ref().map(|chat| &chat.template)
    }

    /// The name of a document.
    pub(crate) fn name(&self, document: &Entry) -> String {
        Names(&self.inputs).name(document)
    }

    /// What a document shares with those that are not independent of it.
    pub(crate) fn cluster(&self, document: &Entry) -> Option<&String> {
        self.inputs[document.input as usize].cluster.as_ref()
    }

    /// Adds what tells these documents from others: names, texts and clusters, and what was left out.
    pub(crate) fn fingerprint(&self, hasher: &mut Hasher) {
        for split in self.splits() {
            hasher.part(split.len().to_le_bytes());
            for document in split {
                hasher.part(self.name(document)).part(document.hash);
                if self.wanted.len() > 1 {
                    hasher.part("source").part(self.source(document).to_le_bytes());
                }
                if let Some(cluster) = self.cluster(document) {
                    hasher.part("cluster").part(cluster);
                }
            }
        }
        let Dropped { too_large, duplicate, empty, bad_rows } = self.dropped;
        for count in [too_large, duplicate, empty, bad_rows] {
            hasher.part(count.to_le_bytes());
        }
    }
}

/// Keeps the files that can hold conversations.
///
/// # Errors
/// [`Error::NoConversations`] for another one that was named.
fn keep_conversations(inputs: &mut Vec<Input>, passed: &mut PassedOver) -> Result<()> {
    let kinds = [Kind::Json, Kind::Jsonl, Kind::Parquet, Kind::Arrow];
    let can = |input: &Input| kinds.contains(&input.format.kind);
    if let Some(other) = inputs.iter().find(|input| input.named && !can(input)) {
        return Err(Error::NoConversations { file: other.label.clone() });
    }
    inputs.retain(|input| {
        if !can(input) {
            passed.add(Reason::Format, &input.label);
        }
        can(input)
    });
    Ok(())
}

/// What is said of repositories, and of data sets saved with their splits, of which a validation split is held out.
fn split_note(inputs: &[Input]) -> Option<String> {
    let has_splits = |input: &&Input| {
        input.label.starts_with("hf:") || !input.named && input.format.kind == Kind::Arrow
    };
    let of = |part| inputs.iter().filter(has_splits).filter(move |input| input.part == part);
    let (train, held_out) = (of(Part::Train).count(), of(Part::Validation).count());
    let (first, _) = (of(Part::Train).next()?, of(Part::Validation).next()?);
    Some(format!(
        "splits: files to train on: {train} (first `{}`), files of a validation split: {held_out}",
        first.label
    ))
}

/// The files that a configuration names, each with the split that it is in.
///
/// # Errors
/// As [`inputs::find`].
pub(crate) fn files(
    config: &DataConfig,
    passed: &mut PassedOver,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Input>> {
    let mut files = inputs::find(&config.groups(), &config.validation, passed, progress)?;
    if config.cluster_folders {
        for file in &mut files {
            file.cluster = file.cluster.take().or_else(|| file.folder.take());
        }
    }
    Ok(files)
}

impl DataConfig {
    /// Documents above this size are dropped.
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_file_bytes.unwrap_or(usize::MAX)
    }
}

/// Of equal texts one stays: that of the split that is given whole, else the first by name.
fn drop_duplicates(documents: &mut Vec<Entry>, names: Names<'_>) {
    // `data.validation` keeps what it measures on.
    let rank = |document: &Entry| names.input(document).part != Part::Validation;
    let blocks =
        |document: &Entry| matches!(names.input(document).format.kind, Kind::Blocks { .. });
    if documents.first().is_some_and(blocks) {
        return;
    }
    documents.par_sort_unstable_by(|a, b| {
        let source = |document| names.input(document).source;
        let sources = || source(a).cmp(&source(b));
        let first = || rank(a).cmp(&rank(b)).then_with(sources).then_with(|| names.order(a, b));
        a.hash.cmp(&b.hash).then_with(first)
    });
    documents.dedup_by(|later, first| later.hash == first.hash);
}

/// Splits what is drawn by a hash of the name, keyed by the seed: a document stays where it is when
/// others come or go. Of two documents or more, at least one is in train and one is held out.
fn split(documents: &mut [Entry], names: Names<'_>, config: &DataConfig) {
    let is_drawn = |document: &&Entry| {
        let input = names.input(document);
        input.part == Part::Drawn && !matches!(input.format.kind, Kind::Blocks { .. })
    };
    let draw = |document: &Entry| {
        let mut hasher = Hasher::default();
        hasher.part("held_out").part(config.seed.to_le_bytes()).part(names.name(document));
        let [a, b, c, d, ..] = *hasher.finish().as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
    };
    let draws = || documents.par_iter().filter(is_drawn).map(draw);
    let smallest = draws().reduce(|| f64::INFINITY, f64::min);
    let largest = draws().reduce(|| 0.0, f64::max);
    let limit = config.held_out.max(smallest);
    documents.par_iter_mut().filter(|document| is_drawn(&&**document)).for_each(|document| {
        let drawn = draw(document);
        document.held_out = drawn <= limit && drawn < largest;
    });
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rows_tests.rs"]
mod rows_tests;
