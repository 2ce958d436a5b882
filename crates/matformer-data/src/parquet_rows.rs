//! Rows of a `.parquet` file with some of their columns, whatever these hold.

use std::fs::File;
use std::sync::Arc;

use matformer_core::fs;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::{ReaderIter, TreeBuilder};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

use crate::conversation::Fields;
use crate::inputs::Input;
use crate::parquet::{behind_group, broken, guarded};
use crate::records::of_row;
use crate::rows::{Row, Rows, next_number};
use crate::{Error, Result};

/// Rows, of which one row group after the other is read.
pub(crate) struct ParquetRows {
    input: Input,
    reader: SerializedFileReader<File>,
    /// The columns that are read.
    schema: SchemaDescPtr,
    /// The next row group.
    group: usize,
    rows: Option<ReaderIter>,
    /// Of the next row, from 1.
    number: u32,
}

impl ParquetRows {
    /// Opens the columns of a file that `wanted` names.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn open(input: &Input, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let file = fs::open(&input.path)?;
        guarded(input, || {
            let failed = |error| broken(input, &error);
            let reader = SerializedFileReader::new(file).map_err(failed)?;
            let whole = reader.metadata().file_metadata().schema_descr();
            let fields = whole.root_schema().get_fields().iter();
            let ours = fields.filter(|field| wanted(field.name())).cloned().collect();
            let schema = Type::group_type_builder(whole.name()).with_fields(ours).build();
            let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema.map_err(failed)?)));
            let input = input.clone();
            Ok(Self { input, reader, schema, group: 0, rows: None, number: 1 })
        })
    }

    /// The columns that are read.
    pub(crate) fn fields(&self) -> &[TypePtr] {
        self.schema.root_schema().get_fields()
    }

    /// What the file says of itself under a key.
    pub(crate) fn metadata(&self, key: &str) -> Option<String> {
        let pairs = self.reader.metadata().file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.clone()
    }

    /// The names of the columns that are read.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.fields().iter().map(|field| field.name().to_owned()).collect()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.reader.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// The next row, with its number.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::TooManyRows`].
    pub(crate) fn next_row(&mut self) -> Result<Option<(u32, parquet::record::Row)>> {
        let input = self.input.clone();
        let failed = |error| broken(&input, &error);
        loop {
            if self.rows.is_none() {
                if self.group == self.reader.num_row_groups() {
                    return Ok(None);
                }
                self.rows = Some(guarded(&input, || {
                    let group = self.reader.get_row_group(self.group).map_err(failed)?;
                    TreeBuilder::new().as_iter(self.schema.clone(), &*group).map_err(failed)
                })?);
                self.group += 1;
            }
            let Some(rows) = &mut self.rows else { continue };
            match guarded(&input, || rows.next().transpose().map_err(failed))? {
                Some(row) => {
                    let number = self.number;
                    self.number = next_number(number, &input)?;
                    return Ok(Some((number, row)));
                }
                None => self.rows = None,
            }
        }
    }

    /// Passes over the rows in front of number `number`: row groups as a whole.
    ///
    /// # Errors
    /// As [`next_row`](Self::next_row).
    pub(crate) fn skip(&mut self, number: u32) -> Result<()> {
        while self.number < number {
            let next = behind_group(&self.reader, self.group, self.number, number);
            if let Some(next) = next.filter(|_| self.rows.is_none()) {
                (self.number, self.group) = (next, self.group + 1);
            } else if self.next_row()?.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Rows that are conversations.
pub(crate) struct Conversations {
    rows: ParquetRows,
    fields: Fields,
}

impl Conversations {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Column`] if no column can hold a conversation.
    pub(crate) fn open(input: &Input, fields: &Fields) -> Result<Self> {
        let rows = ParquetRows::open(input, |name| fields.are_in(name))?;
        if rows.columns().is_empty() {
            let known = ParquetRows::open(input, |_| true)?.columns();
            let (file, field) = (input.label.clone(), fields.main().to_owned());
            return Err(Error::Column { file, field, known });
        }
        Ok(Self { rows, fields: fields.clone() })
    }
}

impl Rows for Conversations {
    fn next(&mut self) -> Result<Option<Row>> {
        let Some((number, row)) = self.rows.next_row()? else { return Ok(None) };
        let content = self.fields.content(of_row(&row));
        Ok(Some(Row { number, unit: "row", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        self.rows.skip(number)
    }
}
