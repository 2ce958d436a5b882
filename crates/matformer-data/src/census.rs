//! The first pass over a corpus: which documents there are, and which split each is in.
//!
//! No text is kept. Of each document a hash, a size and its place are, about 32 bytes.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

use crate::conversation::{Chat, Fields};
use crate::counts::{BadRow, Dropped, TakenFiles};
use crate::format::Kind;
use crate::hash::Hasher;
use crate::inputs::{self, Input, Part};
use crate::prepare::given;
use crate::progress::{Progress, Stage};
use crate::rows::{self, Left, Row, Taken, Wanted};
use crate::walk::Reason;
use crate::{ChatTemplate, DataConfig, Error, Hash, PassedOver, Result, blocks};

/// Bad rows that are named; the rest are counted.
const NAMED: usize = 5;
/// Bytes of rows that are read at a time, and hashed on all cores.
const BATCH: usize = 2 << 20;
/// Batches that are read ahead.
const AHEAD: usize = 2;

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
    /// drops what is too large, empty, a
    /// bad row or a duplicate, and splits the rest. Says how far it is.
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

/// What is said of repositories of which a validation split is held out.
fn split_note(inputs: &[Input]) -> Option<String> {
    let on_hub = |input: &&Input| input.label.starts_with("hf:");
    let of = |part| inputs.iter().filter(on_hub).filter(move |input| input.part == part);
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

/// The names of documents, by the files that they are in.
#[derive(Clone, Copy)]
struct Names<'a>(&'a [Input]);

impl Names<'_> {
    fn input(&self, document: &Entry) -> &Input {
        &self.0[document.input as usize]
    }

    fn name(&self, document: &Entry) -> String {
        let input = self.input(document);
        match (document.row, input.format.kind) {
            (0, _) => input.name.clone(),
            // So that they are in the order of the text.
            (block, Kind::Blocks { .. }) => format!("{}:{block:08}", input.name),
            (row, _) => format!("{}:{row}", input.name),
        }
    }

    /// The order of the names, as texts.
    fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        if a.input == b.input && !matches!(self.input(a).format.kind, Kind::Blocks { .. }) {
            return by_digits(a.row, b.row);
        }
        let (first, second) = (&self.input(a).name, &self.input(b).name);
        match a.input != b.input && (first.starts_with(second) || second.starts_with(first)) {
            true => self.name(a).cmp(&self.name(b)),
            false => first.cmp(second).then(a.row.cmp(&b.row)),
        }
    }
}

/// The order of two numbers that are written as texts: 10 comes before 9.
fn by_digits(a: u32, b: u32) -> Ordering {
    let digits = |number: u32| number.checked_ilog10().unwrap_or(0);
    let scaled = |number: u32| u64::from(number) * 10_u64.pow(9 - digits(number));
    scaled(a).cmp(&scaled(b)).then(digits(a).cmp(&digits(b)))
}

/// What the pass has found so far.
#[derive(Default)]
struct Found {
    documents: Vec<Entry>,
    /// Rows and files, good or bad.
    read: usize,
    dropped: Dropped,
    /// The first of the bad rows.
    bad: Vec<BadRow>,
    taken: TakenFiles,
    /// The sources of which some row had the field that is wanted, or none at all.
    field_known: HashSet<usize>,
}

/// A row that was looked at.
struct Looked {
    input: usize,
    number: u32,
    unit: &'static str,
    held_out: bool,
    found: Result<Text, Left>,
}

struct Text {
    hash: [u8; 16],
    bytes: usize,
}

/// What the thread that reads hands over: rows with their files, and how many bytes lie behind it.
struct Batch {
    rows: Vec<(usize, Row)>,
    taken: Vec<(usize, Taken)>,
    done: u64,
}

impl Found {
    fn read(
        &mut self,
        inputs: &[Input],
        (wanted, allowed): (&[Wanted], f64),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let total = inputs.iter().map(Input::bytes).sum::<u64>() as usize;
        progress(Progress { stage: Stage::Read, done: 0, total });
        let (batches, received) = sync_channel(AHEAD);
        std::thread::scope(|scope| {
            scope.spawn(|| read_files(inputs, wanted, batches));
            self.receive(inputs, (wanted, allowed), received, &mut |done| {
                progress(Progress { stage: Stage::Read, done: done as usize, total });
            })
        })
    }

    fn receive(
        &mut self,
        inputs: &[Input],
        (wanted, allowed): (&[Wanted], f64),
        batches: Receiver<Result<Batch>>,
        report: &mut dyn FnMut(u64),
    ) -> Result<()> {
        for batch in batches {
            let Batch { rows, taken, done } = batch?;
            for (input, taken) in taken {
                self.taken.add(taken, &inputs[input].label);
            }
            let of = |input: usize| &wanted[inputs[input].source];
            let look = |(input, row)| Looked::at(input, row, of(input));
            let looked: Vec<Looked> = rows.into_par_iter().map(look).collect();
            self.check_field(inputs, &looked, allowed)?;
            looked.into_iter().for_each(|row| self.add(inputs, row));
            report(done);
        }
        Ok(())
    }

    /// Refuses rows of which none has the field that is wanted: nothing is gained by reading on.
    ///
    /// # Errors
    /// [`Error::NoField`] if these are the first rows of a source, and more than may be bad.
    fn check_field(&mut self, inputs: &[Input], looked: &[Looked], allowed: f64) -> Result<()> {
        let source = |row: &Looked| inputs[row.input].source;
        let lacks = |row: &&Looked| matches!(row.found, Err(Left::NoField(_)));
        let has = looked.iter().filter(|row| row.number > 0 && !lacks(row));
        self.field_known.extend(has.map(source));
        let unknown = |row: &&Looked| lacks(row) && !self.field_known.contains(&source(row));
        let mut without = looked.iter().filter(unknown);
        let Some(first) = without.next() else { return Ok(()) };
        let (Err(Left::NoField(reason)), true) =
            (&first.found, (1 + without.count()) as f64 > allowed * looked.len() as f64)
        else {
            return Ok(());
        };
        let place = Some(format!("{} {}", first.unit, first.number));
        let (file, reason) = (inputs[first.input].label.clone(), reason.clone());
        Err(Error::NoField { row: BadRow { file, place, reason } })
    }

    fn add(&mut self, inputs: &[Input], row: Looked) {
        let Looked { input, number, unit, held_out, found } = row;
        self.read += 1;
        let reason = match found {
            Ok(Text { hash, bytes }) => {
                let part = inputs[input].part;
                let held_out = held_out || part == Part::Validation;
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let (input, row) = (input as u32, number);
                return self.documents.push(Entry { hash, bytes, input, row, held_out });
            }
            Err(Left::Empty) => return self.dropped.empty += 1,
            Err(Left::TooLarge) => return self.dropped.too_large += 1,
            Err(Left::Bad(reason) | Left::NoField(reason)) => reason,
        };
        self.dropped.bad_rows += 1;
        if self.bad.len() < NAMED {
            let place = (number > 0).then(|| format!("{unit} {number}"));
            self.bad.push(BadRow { file: inputs[input].label.clone(), place, reason });
        }
    }

    /// What was left out, after a warning that names the first bad rows.
    ///
    /// # Errors
    /// [`Error::BadRows`] if there are more of them than `config` allows.
    fn check_bad(&mut self, config: &DataConfig) -> Result<Dropped> {
        let (bad, read) = (self.dropped.bad_rows, self.read);
        let allowed = (!config.strict).then_some(config.max_bad_rows);
        let first = std::mem::take(&mut self.bad);
        if bad as f64 > allowed.unwrap_or(0.0) * read as f64 {
            return Err(Error::BadRows { bad, read, allowed, first });
        }
        for row in &first {
            tracing::warn!("skipped {row}");
        }
        if bad > first.len() {
            tracing::warn!("skipped {} more bad rows", bad - first.len());
        }
        Ok(self.dropped)
    }
}

impl Looked {
    fn at(input: usize, row: Row, wanted: &Wanted) -> Self {
        let Row { number, unit, held_out, content } = row;
        let laid_out =
            |text: String| match wanted.chat.as_ref().and_then(|chat| chat.refusal(&text)) {
                Some(reason) => Err(Left::Bad(reason)),
                None => Ok(text),
            };
        let found = content.text(wanted).and_then(laid_out).map(|text| {
            let whole = Hash::of(text.as_bytes());
            let mut hash = [0; 16];
            hash.copy_from_slice(&whole.as_bytes()[..16]);
            Text { hash, bytes: text.len() }
        });
        Self { input, number, unit, held_out, found }
    }
}

/// Reads all files and sends their rows; ends where nobody receives them.
fn read_files(inputs: &[Input], wanted: &[Wanted], batches: SyncSender<Result<Batch>>) {
    let (mut rows, mut taken, mut held, mut done) = (Vec::new(), Vec::new(), 0, 0);
    let mut read = || -> Result<bool> {
        for (index, input) in inputs.iter().enumerate() {
            let mut opened = match rows::open(input, &wanted[input.source]) {
                // Tables lie about in folders of other things.
                Err(Error::Column { .. }) if input.is_stray_table() => {
                    taken.push((index, Taken::No));
                    continue;
                }
                opened => opened?,
            };
            taken.extend(opened.taken.map(|taken| (index, taken)));
            while let Some(row) = opened.rows.next()? {
                held += row.content.len();
                rows.push((index, row));
                if held >= BATCH {
                    let (rows, taken) = (std::mem::take(&mut rows), std::mem::take(&mut taken));
                    let done = done + held.min(input.bytes() as usize) as u64;
                    if batches.send(Ok(Batch { rows, taken, done })).is_err() {
                        return Ok(false);
                    }
                    held = 0;
                }
            }
            done += input.bytes();
        }
        Ok(true)
    };
    let last = match read() {
        Ok(true) => Ok(Batch { rows, taken, done }),
        Ok(false) => return,
        Err(error) => Err(error),
    };
    // Whoever does not receive it has ended with an error of its own.
    let _ = batches.send(last);
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

/// The texts of documents, in the order of their names.
pub(crate) struct Texts<'a> {
    census: &'a Census,
    /// The file that is open.
    input: u32,
    /// A reader for each number of digits. In the order of names, rows of one number of digits are
    /// in the order of the file, so that each reader only goes forward. With each, the row it gave last.
    readers: HashMap<u32, (u32, Box<dyn rows::Rows>)>,
}

impl<'a> Texts<'a> {
    /// Those of a corpus.
    pub(crate) fn new(census: &'a Census) -> Self {
        Self { census, input: u32::MAX, readers: HashMap::new() }
    }

    /// What the row of a document holds; documents are asked for in their order.
    ///
    /// # Errors
    /// A file that cannot be read, or has no such row any more.
    pub(crate) fn get(&mut self, document: &Entry) -> Result<rows::Content> {
        if self.input != document.input {
            self.input = document.input;
            self.readers.clear();
        }
        let input = &self.census.inputs[document.input as usize];
        let class = match input.format.kind {
            Kind::Blocks { .. } => 0,
            _ => document.row.checked_ilog10().unwrap_or(0),
        };
        let changed = || Error::Changed { file: input.label.clone() };
        // The next split begins at the beginning.
        let behind = |(last, _): &(u32, _)| *last >= document.row;
        if self.readers.get(&class).is_none_or(behind) {
            let again = self.readers.values().find_map(|(_, reader)| reader.again());
            let reader = match again {
                Some(reader) => reader,
                None => rows::open(input, self.census.wanted(document))?.rows,
            };
            self.readers.insert(class, (document.row, reader));
        }
        let (last, reader) = self.readers.get_mut(&class).ok_or_else(changed)?;
        *last = document.row;
        reader.skip_to(document.row)?;
        let row = reader.next()?.filter(|row| row.number == document.row);
        Ok(row.ok_or_else(changed)?.content)
    }
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rows_tests.rs"]
mod rows_tests;
