//! A text that is all there is, as blocks: its end is held out.

use std::io::{BufRead, Read};

use crate::Result;
use crate::format;
use crate::inputs::Input;
use crate::rows::{BYTE_ORDER_MARK, Content, Row, Rows, next_number, unreadable};

/// A block to train on, in bytes.
const TRAIN: u64 = 1 << 20;
/// A block that is held out, in bytes: small, so that there are many and a loss has an error.
const HELD_OUT: u64 = 1 << 12;

/// The blocks of a text: they end with a line if there is an end of one in their second half.
pub(crate) struct Blocks {
    input: Input,
    file: Box<dyn BufRead + Send>,
    /// Bytes that were read behind the end of the last block.
    held: Vec<u8>,
    /// Where the next block begins.
    at: u64,
    /// Where held-out blocks begin.
    train: u64,
    /// Of the next block.
    number: u32,
}

/// Where the part of a text that is held out begins: with the last `share` of its bytes.
///
/// # Errors
/// A file that cannot be read or unpacked.
pub(crate) fn held_out_from(input: &Input, share: f64) -> Result<u64> {
    let bytes = match input.format.compression {
        None => input.bytes(),
        Some(_) => {
            let mut file = format::open(&input.path, input.format.compression)?;
            std::io::copy(&mut file, &mut std::io::sink()).map_err(|e| unreadable(input, e))?
        }
    };
    Ok(bytes.saturating_sub(((bytes as f64 * share) as u64).max(1)))
}

impl Blocks {
    /// The blocks of a file, of which those from byte `train` on are held out.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(crate) fn open(input: &Input, train: u64) -> Result<Self> {
        let file = format::open(&input.path, input.format.compression)?;
        Ok(Self { input: input.clone(), file, held: Vec::new(), at: 0, train, number: 1 })
    }
}

impl Rows for Blocks {
    fn next(&mut self) -> Result<Option<Row>> {
        let held_out = self.at >= self.train;
        let left = self.train.saturating_sub(self.at);
        let last = !held_out && left <= TRAIN;
        let target = if held_out { HELD_OUT } else { TRAIN.min(left) };
        // One byte more tells whether a block is the rest of the file.
        let more = (target + 1).saturating_sub(self.held.len() as u64);
        let read = self.file.by_ref().take(more).read_to_end(&mut self.held);
        read.map_err(|error| unreadable(&self.input, error))?;
        if self.held.is_empty() {
            return Ok(None);
        }
        let end = match self.held.len() as u64 > target {
            true => end_of_block(&self.held, target as usize),
            false => self.held.len(),
        };
        let rest = self.held.split_off(end);
        let mut text = std::mem::replace(&mut self.held, rest);
        let (first, number) = (self.at == 0, self.number);
        self.at += end as u64;
        self.number = next_number(number, &self.input)?;
        if last {
            self.train = self.train.min(self.at);
        }
        if first && text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(Row { number, unit: "block", held_out, content: Content::Text(text) }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        while self.number < number && self.next()?.is_some() {}
        Ok(())
    }
}

/// Where a block of about `target` of these bytes ends: behind a line, or in front of a character.
fn end_of_block(bytes: &[u8], target: usize) -> usize {
    let half = target / 2;
    if let Some(line) = bytes[half..target].iter().rposition(|byte| *byte == b'\n') {
        return half + line + 1;
    }
    let begins = |at: &usize| bytes[*at] & 0xc0 != 0x80;
    (half..=target).rev().find(begins).filter(|end| *end > 0).unwrap_or(target.max(1))
}
