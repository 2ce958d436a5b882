//! Rows of `.csv` and `.tsv` files: a column of text under a header.

use std::io::BufRead;

use csv::{ByteRecord, Reader, ReaderBuilder};

use crate::format;
use crate::inputs::Input;
use crate::rows::{Content, Row, Rows, next_number, unreadable};
use crate::{Error, Result};

/// A column of a table.
pub(crate) struct Table {
    input: Input,
    reader: Reader<Box<dyn BufRead + Send>>,
    /// The place of the column.
    column: usize,
    record: ByteRecord,
    /// Of the next row, without the header.
    number: u32,
}

impl Table {
    /// Opens the column `field` of a file.
    ///
    /// # Errors
    /// A file that cannot be read or unpacked; [`Error::Column`].
    pub(crate) fn open(input: &Input, delimiter: u8, field: &str) -> Result<Self> {
        let file = format::open(&input.path, input.format.compression)?;
        let mut reader = ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(|error| failed(input, error))?;
        let Some(column) = header.iter().position(|name| name == field.as_bytes()) else {
            let known = header.iter().map(|name| String::from_utf8_lossy(name).into()).collect();
            let (file, field) = (input.label.clone(), field.into());
            return Err(Error::Column { file, field, known });
        };
        let (input, record) = (input.clone(), ByteRecord::new());
        Ok(Self { input, reader, column, record, number: 1 })
    }

    fn read(&mut self) -> Result<bool> {
        let read = self.reader.read_byte_record(&mut self.record);
        let read = read.map_err(|error| failed(&self.input, error))?;
        if read {
            self.number = next_number(self.number, &self.input)?;
        }
        Ok(read)
    }
}

impl Rows for Table {
    fn next(&mut self) -> Result<Option<Row>> {
        let number = self.number;
        if !self.read()? {
            return Ok(None);
        }
        let content = match self.record.get(self.column) {
            Some(text) => Content::Text(text.to_vec()),
            None => {
                let (found, expected) = (self.record.len(), self.column + 1);
                Content::Bad(format!("has {found} fields, expected: {expected} or more"))
            }
        };
        Ok(Some(Row { number, unit: "row", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        while self.number < number && self.read()? {}
        Ok(())
    }
}

fn failed(input: &Input, error: csv::Error) -> Error {
    unreadable(input, error.into())
}
