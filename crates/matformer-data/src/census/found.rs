//! The rows of all files, looked at one by one.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rayon::prelude::*;

use super::Entry;
use crate::counts::{BadRow, Dropped, TakenFiles};
use crate::inputs::{Input, Part};
use crate::progress::{Progress, Stage};
use crate::rows::{self, Left, Row, Taken, Wanted};
use crate::{DataConfig, Error, Hash, Result};

/// Bad rows that are named; the rest are counted.
const NAMED: usize = 5;
/// Bytes of rows that are read at a time, and hashed on all cores.
const BATCH: usize = 2 << 20;
/// Batches that are read ahead.
const AHEAD: usize = 2;

/// What the pass has found so far.
#[derive(Default)]
pub(super) struct Found {
    pub documents: Vec<Entry>,
    /// Rows and files, good or bad.
    read: usize,
    dropped: Dropped,
    /// The first of the bad rows.
    bad: Vec<BadRow>,
    pub taken: TakenFiles,
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
    /// Reads the rows of all files, which `wanted` says by source how to read.
    ///
    /// # Errors
    /// A file that cannot be read, [`Error::NoField`].
    pub(super) fn read(
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
    pub(super) fn check_bad(&mut self, config: &DataConfig) -> Result<Dropped> {
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
