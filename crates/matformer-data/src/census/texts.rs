//! The second pass over a corpus: the text of each document, by its place.

use std::collections::HashMap;

use super::{Census, Entry};
use crate::format::Kind;
use crate::{Error, Result, rows};

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
