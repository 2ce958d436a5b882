//! Files become named documents; what is no text is named, counted and left out.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use matformer_core::fs;

use crate::counts::{BadRow, Dropped, Taken};
use crate::format::{self, Format, Kind};
use crate::json::{self, Layout};
use crate::{DataConfig, Error, Result, parquet};

/// Bad rows that are named; the rest are counted.
const NAMED: usize = 5;
/// What some editors put in front of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One text with its name: `folder/path/in/it.rs`, `rows.jsonl:17`, `owner/name/rows.parquet:17` or
/// `crate/src/lib.rs`; no machine path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique within both splits.
    pub name: String,
    /// The text, as it was in the file, but for a byte order mark in front of it.
    pub text: String,
    /// What it shares with documents that are not independent of it ([`crate::DocumentSpan`]).
    pub cluster: Option<String>,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// The name of its document, or what stands in front of `:17` in the names of its rows. Holds
    /// no machine path.
    pub name: String,
    /// What errors call it: its path, or its hub name.
    pub label: String,
    /// What it holds.
    pub format: Format,
    /// The cluster of its documents.
    pub cluster: Option<String>,
}

/// Reads files and counts what it leaves out.
pub(crate) struct Reader<'a> {
    field: &'a str,
    max_bytes: usize,
    /// Rows and files, good or bad.
    read: usize,
    dropped: Dropped,
    /// The first of them.
    bad: Vec<BadRow>,
    taken: Taken,
}

impl<'a> Reader<'a> {
    /// A reader of the field `field` that leaves out documents of more than `max_bytes`.
    pub(crate) fn new(field: &'a str, max_bytes: usize) -> Self {
        Self {
            field,
            max_bytes,
            read: 0,
            dropped: Dropped::default(),
            bad: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Adds the documents of a file to `out`.
    ///
    /// # Errors
    /// A file that cannot be read or unpacked, or has no such column; bad rows are no errors yet.
    pub(crate) fn read(&mut self, input: &Input, out: &mut Vec<Document>) -> Result<()> {
        match input.format.kind {
            Kind::Text => {
                let file = format::open(&input.path, input.format.compression)?;
                self.text(input, file, out)
            }
            Kind::Json | Kind::Jsonl => self.json(input, out),
            Kind::Parquet => {
                let (field, mut number) = (self.field, 0);
                parquet::rows(&input.path, &input.label, field, &mut |row| {
                    number += 1;
                    let text = match row {
                        Some(bytes) => utf8(bytes.to_vec()),
                        None => Err(format!("`{field}` is null")),
                    };
                    self.row(input, ("row", number), text, out);
                })
            }
        }
    }

    /// A whole file as one document.
    fn text(&mut self, input: &Input, file: impl Read, out: &mut Vec<Document>) -> Result<()> {
        let most = (self.max_bytes as u64).saturating_add(BYTE_ORDER_MARK.len() as u64 + 1);
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(input, error))?;
        self.read += 1;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.len() > self.max_bytes {
            self.dropped.too_large += 1;
            return Ok(());
        }
        match utf8(bytes) {
            Ok(text) => self.keep(input, input.name.clone(), text, out),
            Err(reason) => self.bad(input, None, reason),
        }
        Ok(())
    }

    /// The rows of a file of JSON, or the file as one document. Its first lines mostly tell which; an
    /// array, or objects over several lines, is held in memory.
    fn json(&mut self, input: &Input, out: &mut Vec<Document>) -> Result<()> {
        let failed = |error| unreadable(input, error);
        let mut file = format::open(&input.path, input.format.compression)?;
        let mut start = Vec::new();
        let first = next_line(&mut file, &mut start).map_err(failed)?;
        let more = next_line(&mut file, &mut start).map_err(failed)? > first;
        let first_line = start[..first].strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start[..first]);
        let by_name = input.format.kind == Kind::Jsonl;
        let mut layout = Layout::of_start(first_line, more || by_name);
        if layout.is_none() {
            file.read_to_end(&mut start).map_err(failed)?;
            let json = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start);
            layout = Some(Layout::of_all(json, self.field));
        }
        match layout {
            Some(Layout::Objects) => {
                self.taken.rows.add(&input.label);
                let json = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start);
                self.objects(input, json, out);
                Ok(())
            }
            // Lines that are no objects are counted as bad rows.
            Some(Layout::Whole) if by_name => self.lines(input, start.chain(file), out),
            Some(Layout::Cut) => {
                self.read += 1;
                self.bad(input, None, "a JSON array that ends in the middle".into());
                Ok(())
            }
            Some(Layout::Lines) => {
                if !by_name {
                    self.taken.rows.add(&input.label);
                }
                self.lines(input, start.chain(file), out)
            }
            Some(Layout::Whole) | None => {
                self.taken.documents.add(&input.label);
                self.text(input, start.chain(file), out)
            }
        }
    }

    /// Every object of an array, or of a file, as one document.
    fn objects(&mut self, input: &Input, json: &[u8], out: &mut Vec<Document>) {
        for (index, object) in json::objects(json).unwrap_or_default().into_iter().enumerate() {
            let text = json::text_of(&json[object], self.field);
            self.row(input, ("object", index + 1), text, out);
        }
    }

    /// Every line of a file as one document.
    fn lines(
        &mut self,
        input: &Input,
        mut file: impl BufRead,
        out: &mut Vec<Document>,
    ) -> Result<()> {
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            let read = file.read_until(b'\n', &mut line);
            if read.map_err(|error| unreadable(input, error))? == 0 {
                return Ok(());
            }
            number += 1;
            let row = match number {
                1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
                _ => &line,
            };
            let row = row.trim_ascii();
            if !row.is_empty() {
                self.row(input, ("line", number), json::text_of(row, self.field), out);
            }
        }
    }

    fn row(
        &mut self,
        input: &Input,
        (unit, number): (&str, usize),
        text: Result<String, String>,
        out: &mut Vec<Document>,
    ) {
        self.read += 1;
        match text {
            Ok(text) => self.keep(input, format!("{}:{number}", input.name), text, out),
            Err(reason) => self.bad(input, Some(format!("{unit} {number}")), reason),
        }
    }

    fn keep(&mut self, input: &Input, name: String, text: String, out: &mut Vec<Document>) {
        if text.is_empty() {
            self.dropped.empty += 1;
        } else if text.len() > self.max_bytes {
            self.dropped.too_large += 1;
        } else {
            out.push(Document { name, text, cluster: input.cluster.clone() });
        }
    }

    fn bad(&mut self, input: &Input, place: Option<String>, reason: String) {
        self.dropped.bad_rows += 1;
        if self.bad.len() < NAMED {
            self.bad.push(BadRow { file: input.label.clone(), place, reason });
        }
    }

    /// What was left out, after a warning that names the first bad rows, and what was taken for rows.
    ///
    /// # Errors
    /// [`Error::BadRows`] if there are more of them than `config` allows.
    pub(crate) fn finish(self, config: &DataConfig) -> Result<(Dropped, Taken)> {
        let (bad, read) = (self.dropped.bad_rows, self.read);
        let allowed = (!config.strict).then_some(config.max_bad_rows);
        if bad as f64 > allowed.unwrap_or(0.0) * read as f64 {
            return Err(Error::BadRows { bad, read, allowed, first: self.bad });
        }
        for row in &self.bad {
            tracing::warn!("skipped {row}");
        }
        if bad > self.bad.len() {
            tracing::warn!("skipped {} more bad rows", bad - self.bad.len());
        }
        Ok((self.dropped, self.taken))
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// Adds the lines of a file to `out` up to the next one that is not blank; the bytes that `out` has.
fn next_line(file: &mut impl BufRead, out: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        let before = out.len();
        if file.read_until(b'\n', out)? == 0 {
            return Ok(before);
        }
        let line = &out[before..];
        if !line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii().is_empty() {
            return Ok(out.len());
        }
    }
}

/// Why reading a file failed: its packing is damaged, or the system says so.
fn unreadable(input: &Input, error: std::io::Error) -> Error {
    let format = match input.format.compression {
        Some(format::Compression::Gzip) => "gzip",
        Some(format::Compression::Zstd) => "zstd",
        None => return fs::error(&input.path, "read")(error).into(),
    };
    Error::Unreadable { file: input.label.clone(), format, reason: error.to_string() }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
