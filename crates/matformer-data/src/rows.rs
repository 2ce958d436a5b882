//! The rows of a file, one after the other: what all formats have in common.

use std::io::{BufRead, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use matformer_core::fs;

use crate::conversation::Chat;
use crate::format::{self, Kind};
use crate::inputs::Input;
use crate::json::{self, Layout, NoText};
use crate::parquet_rows::Conversations;
use crate::table::Table;
use crate::{Error, Result, Tokenizer, arrow, blocks, parquet, tokens};

/// What some editors put in front of a text in UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A line is read up to this length, whatever the limit on documents, in bytes.
const LONGEST_LINE: u64 = 1 << 30;
/// Bytes of a line beside its text.
const BESIDE: u64 = 16 << 20;
/// The most bytes that JSON writes for one byte of text.
const ESCAPED: u64 = 6;

/// A row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its place in the file, from 1; 0 where the file is one document.
    pub number: u32,
    /// What it is called: `line`, `row`.
    pub unit: &'static str,
    /// Whether it lies in the part of a text that is held out by its place.
    pub held_out: bool,
    /// What it holds.
    pub content: Content,
}

/// What a row holds, before it is known to be a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// The bytes of a text.
    Text(Vec<u8>),
    /// An object with the text in a field.
    Json(Vec<u8>),
    /// No text, and why.
    Bad(String),
    /// Longer than any document may be.
    TooLarge,
}

/// Why a row is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its text is empty.
    Empty,
    /// Its text is longer than documents may be.
    TooLarge,
    /// It has fields, but not the one that was asked for.
    NoField(String),
    /// It is no text.
    Bad(String),
}

/// Which text of a row is read.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The name of the field, or the column.
    pub field: String,
    /// Longer documents are left out, in bytes.
    pub max_bytes: usize,
    /// Decodes token ids, where there are any.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// How conversations are read, where rows are such: their text is a list of messages in JSON.
    pub chat: Option<Chat>,
}

impl Wanted {
    /// The text, or the conversation as JSON, of a row in JSON.
    fn read(&self, row: &[u8]) -> Result<String, NoText> {
        match &self.chat {
            Some(chat) => chat.fields.of_json(row),
            None => json::text_of(row, &self.field),
        }
    }
}

impl Content {
    /// About how many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Json(bytes) => bytes.len(),
            Self::Bad(_) | Self::TooLarge => 0,
        }
    }

    /// The text, or why it is no document.
    pub(crate) fn text(self, wanted: &Wanted) -> Result<String, Left> {
        let text = match self {
            Self::Text(bytes) => String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Left::Bad(format!("not UTF-8 from byte {at} on"))
            })?,
            Self::Json(row) => wanted.read(&row).map_err(|error| match error {
                NoText::Field(reason) => Left::NoField(reason),
                NoText::Other(reason) => Left::Bad(reason),
            })?,
            Self::Bad(reason) => return Err(Left::Bad(reason)),
            Self::TooLarge => return Err(Left::TooLarge),
        };
        match text.len() {
            0 => Err(Left::Empty),
            bytes if bytes > wanted.max_bytes => Err(Left::TooLarge),
            _ => Ok(text),
        }
    }
}

/// The rows of a file, in order.
pub(crate) trait Rows: Send {
    /// The next row.
    ///
    /// # Errors
    /// A file that cannot be read or unpacked.
    fn next(&mut self) -> Result<Option<Row>>;

    /// Passes over the rows in front of number `number`.
    ///
    /// # Errors
    /// As [`Rows::next`].
    fn skip_to(&mut self, number: u32) -> Result<()>;

    /// All rows once more, where they are in memory.
    fn again(&self) -> Option<Box<dyn Rows>> {
        None
    }
}

/// How a file whose name leaves it open is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    /// Row by row.
    Rows,
    /// As one document.
    Document,
    /// Not at all: a table without the column.
    No,
}

/// A file that is being read.
pub(crate) struct Opened {
    /// Its rows.
    pub rows: Box<dyn Rows>,
    /// How it is read, where its name does not say it.
    pub taken: Option<Taken>,
}

/// Calls what reads a file by a crate that panics on some that are damaged. What was read by then is of no use
/// to anybody: the error ends the reading.
pub(crate) fn guarded<T>(
    label: &str,
    format: &'static str,
    read: impl FnOnce() -> Result<T>,
) -> Result<T> {
    matformer_core::guarded(read)
        .unwrap_or_else(|| Err(Error::unreadable(label, format, "its pages are damaged")))
}

/// Opens a file.
///
/// # Errors
/// A file that cannot be read or unpacked, or has no column `wanted.field`.
pub(crate) fn open(input: &Input, wanted: &Wanted) -> Result<Opened> {
    let by_name = |rows| Opened { rows, taken: None };
    Ok(match input.format.kind {
        Kind::Text => {
            let file = format::open(&input.path, input.format.compression)?;
            by_name(Box::new(Whole::new(input, file, wanted)))
        }
        Kind::Blocks { train } => by_name(Box::new(blocks::Blocks::open(input, train)?)),
        Kind::Table { delimiter } => {
            by_name(Box::new(Table::open(input, delimiter, &wanted.field)?))
        }
        Kind::Tokens => match &wanted.tokenizer {
            Some(tokenizer) => by_name(Box::new(tokens::Documents::open(input, tokenizer)?)),
            None => return Err(Error::NoDecoder { file: input.label.clone() }),
        },
        Kind::Parquet => by_name(match &wanted.chat {
            Some(chat) => Box::new(Conversations::open(input, &chat.fields)?),
            None => Box::new(parquet::Column::open(input, &wanted.field)?),
        }),
        Kind::Arrow => by_name(Box::new(match &wanted.chat {
            Some(chat) => arrow::Documents::conversations(input, &chat.fields)?,
            None => arrow::Documents::text(input, &wanted.field)?,
        })),
        Kind::Json | Kind::Jsonl => open_json(input, wanted)?,
    })
}

/// The rows of a file of JSON, or the file as one document. Its first lines mostly tell which; an
/// array, or objects over several lines, is held in memory.
fn open_json(input: &Input, wanted: &Wanted) -> Result<Opened> {
    let failed = |error| unreadable(input, error);
    let mut file = format::open(&input.path, input.format.compression)?;
    let mut start = Vec::new();
    let first = next_line(&mut file, &mut start).map_err(failed)?;
    let more = next_line(&mut file, &mut start).map_err(failed)? > first;
    let by_name = input.format.kind == Kind::Jsonl;
    let mut layout = Layout::of_start(unmarked(&start[..first]), more || by_name);
    if layout.is_none() {
        file.read_to_end(&mut start).map_err(failed)?;
        layout = Some(Layout::of_all(unmarked(&start), &|row| wanted.read(row).is_ok()));
    }
    let said = |taken| (!by_name).then_some(taken);
    Ok(match layout {
        Some(Layout::Objects) => {
            Opened { rows: Box::new(Objects::new(start)), taken: Some(Taken::Rows) }
        }
        Some(Layout::Cut) => {
            let reason = "a JSON array that ends in the middle".into();
            Opened { rows: Box::new(Whole::bad(input, reason)), taken: None }
        }
        Some(Layout::Whole) | None if !by_name && wanted.chat.is_some() => {
            let reason = "no rows, expected: objects with a conversation".into();
            Opened { rows: Box::new(Whole::bad(input, reason)), taken: None }
        }
        Some(Layout::Whole) | None if !by_name => {
            let file = Cursor::new(start).chain(file);
            let rows = Box::new(Whole::new(input, file, wanted));
            Opened { rows, taken: Some(Taken::Document) }
        }
        // Lines that are no objects are counted as bad rows.
        _ => {
            let rows = Box::new(Lines::new(input, Cursor::new(start).chain(file), wanted));
            Opened { rows, taken: said(Taken::Rows) }
        }
    })
}

/// Without a byte order mark in front.
fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Adds the lines of a file to `out` up to the next one that is not blank; the bytes that `out` has.
fn next_line(file: &mut impl BufRead, out: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        let before = out.len();
        if file.read_until(b'\n', out)? == 0 {
            return Ok(before);
        }
        if !unmarked(&out[before..]).trim_ascii().is_empty() {
            return Ok(out.len());
        }
    }
}

/// Why reading a file failed: its packing is damaged, or the system says so.
pub(crate) fn unreadable(input: &Input, error: std::io::Error) -> Error {
    let format = match input.format.compression {
        Some(format::Compression::Gzip) => "gzip",
        Some(format::Compression::Zstd) => "zstd",
        None => return fs::error(&input.path, "read")(error).into(),
    };
    Error::unreadable(&input.label, format, error)
}

/// A file that is one document.
struct Whole {
    input: Input,
    file: Option<Box<dyn BufRead + Send>>,
    bad: Option<String>,
    max_bytes: usize,
}

impl Whole {
    fn new(input: &Input, file: impl BufRead + Send + 'static, wanted: &Wanted) -> Self {
        let (file, max_bytes) = (Some(Box::new(file) as Box<_>), wanted.max_bytes);
        Self { input: input.clone(), file, bad: None, max_bytes }
    }

    fn bad(input: &Input, reason: String) -> Self {
        Self { input: input.clone(), file: None, bad: Some(reason), max_bytes: 0 }
    }
}

impl Rows for Whole {
    fn next(&mut self) -> Result<Option<Row>> {
        let content = match (self.bad.take(), self.file.take()) {
            (Some(reason), _) => Content::Bad(reason),
            (None, None) => return Ok(None),
            (None, Some(file)) => {
                let most = (self.max_bytes as u64).saturating_add(BYTE_ORDER_MARK.len() as u64 + 1);
                let mut bytes = Vec::new();
                let read = file.take(most).read_to_end(&mut bytes);
                read.map_err(|error| unreadable(&self.input, error))?;
                if bytes.starts_with(BYTE_ORDER_MARK) {
                    bytes.drain(..BYTE_ORDER_MARK.len());
                }
                match bytes.len() > self.max_bytes {
                    true => Content::TooLarge,
                    false => Content::Text(bytes),
                }
            }
        };
        Ok(Some(Row { number: 0, unit: "file", held_out: false, content }))
    }

    fn skip_to(&mut self, _: u32) -> Result<()> {
        Ok(())
    }
}

/// A file of one object per line.
struct Lines<F> {
    input: Input,
    file: F,
    /// Of the next line.
    number: u32,
    /// Longer lines are left out.
    longest: u64,
}

impl<F: BufRead> Lines<F> {
    fn new(input: &Input, file: F, wanted: &Wanted) -> Self {
        let text = (wanted.max_bytes as u64).saturating_mul(ESCAPED);
        let longest = text.saturating_add(BESIDE).min(LONGEST_LINE);
        Self { input: input.clone(), file, number: 1, longest }
    }

    fn past(&mut self) -> Result<()> {
        self.number = next_number(self.number, &self.input)?;
        Ok(())
    }
}

/// The number behind another one.
pub(crate) fn next_number(number: u32, input: &Input) -> Result<u32> {
    number.checked_add(1).ok_or_else(|| Error::TooManyRows { file: input.label.clone() })
}

impl<F: BufRead + Send> Rows for Lines<F> {
    fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let mut line = Vec::new();
            let failed = |error| unreadable(&self.input, error);
            let mut part = self.file.by_ref().take(self.longest);
            if part.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                return Ok(None);
            }
            let number = self.number;
            let cut = line.len() as u64 == self.longest && line.last() != Some(&b'\n');
            if cut {
                self.file.skip_until(b'\n').map_err(failed)?;
            }
            self.past()?;
            let row = if number == 1 { unmarked(&line) } else { &line };
            let row = row.trim_ascii();
            let content = match (cut, row.len() == line.len()) {
                (true, _) => Content::TooLarge,
                (false, true) => Content::Json(line),
                (false, false) if row.is_empty() => continue,
                (false, false) => Content::Json(row.to_vec()),
            };
            return Ok(Some(Row { number, unit: "line", held_out: false, content }));
        }
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        while self.number < number {
            let skipped = self.file.skip_until(b'\n');
            if skipped.map_err(|error| unreadable(&self.input, error))? == 0 {
                return Ok(());
            }
            self.past()?;
        }
        Ok(())
    }
}

/// Objects in one array, or one after the other.
struct Objects {
    json: Arc<Vec<u8>>,
    objects: Arc<Vec<Range<usize>>>,
    /// Of the next object, from 0.
    place: usize,
}

impl Objects {
    fn new(mut json: Vec<u8>) -> Self {
        let mark = json.len() - unmarked(&json).len();
        json.drain(..mark);
        let objects = Arc::new(json::objects(&json).unwrap_or_default());
        Self { json: Arc::new(json), objects, place: 0 }
    }
}

impl Rows for Objects {
    fn next(&mut self) -> Result<Option<Row>> {
        let Some(object) = self.objects.get(self.place) else { return Ok(None) };
        self.place += 1;
        let content = Content::Json(self.json[object.clone()].to_vec());
        let number = self.place as u32;
        Ok(Some(Row { number, unit: "object", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        self.place = self.place.max((number as usize).saturating_sub(1));
        Ok(())
    }

    fn again(&self) -> Option<Box<dyn Rows>> {
        let (json, objects) = (self.json.clone(), self.objects.clone());
        Some(Box::new(Self { json, objects, place: 0 }))
    }
}
