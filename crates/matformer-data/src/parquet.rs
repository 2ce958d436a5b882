//! One column of text in a `.parquet` file.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use matformer_core::fs;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::inputs::Input;
use crate::rows::{Content, Row, Rows, next_number};
use crate::{Error, Result, rows};

/// Rows that are held at a time.
const ROWS: usize = 1024;

/// A column of text, of which one row group after the other is read.
pub(crate) struct Column {
    input: Input,
    field: String,
    reader: SerializedFileReader<File>,
    /// The place of the column in the file.
    index: usize,
    nullable: bool,
    /// The next row group.
    group: usize,
    column: Option<ColumnReader>,
    held: VecDeque<Option<ByteArray>>,
    /// Of the next row.
    number: u32,
}

impl Column {
    /// Opens the column `field` of a file.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Column`] if there is no such column of text.
    pub(crate) fn open(input: &Input, field: &str) -> Result<Self> {
        let file = fs::open(&input.path)?;
        guarded(input, || {
            let reader = SerializedFileReader::new(file).map_err(|error| broken(input, &error))?;
            let schema = reader.metadata().file_metadata().schema_descr_ptr();
            let columns = schema.columns();
            let ours = |column: &&Arc<ColumnDescriptor>| {
                column.path().parts() == [field] && is_text(column)
            };
            let index = columns.iter().position(|column| ours(&column));
            let index = index.ok_or_else(|| no_column(input, field, columns))?;
            let nullable = columns[index].max_def_level() > 0;
            let (input, field, held) = (input.clone(), field.to_owned(), VecDeque::new());
            let (group, column, number) = (0, None, 1);
            Ok(Self { input, field, reader, index, nullable, group, column, held, number })
        })
    }

    /// Reads some more rows, of the next row group where this one has ended; false behind the last.
    fn fill(&mut self) -> Result<bool> {
        let broken = |error: ParquetError| broken(&self.input, &error);
        loop {
            if self.column.is_none() {
                if self.group == self.reader.num_row_groups() {
                    return Ok(false);
                }
                let group = self.reader.get_row_group(self.group).map_err(broken)?;
                self.column = Some(group.get_column_reader(self.index).map_err(broken)?);
                self.group += 1;
            }
            let Some(ColumnReader::ByteArrayColumnReader(column)) = &mut self.column else {
                let (file, field) = (self.input.label.clone(), self.field.clone());
                return Err(Error::Column { file, field, known: vec![] });
            };
            let (mut values, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
            let (read, _, _) =
                column.read_records(ROWS, Some(&mut levels), None, &mut values).map_err(broken)?;
            if read == 0 {
                self.column = None;
                continue;
            }
            let mut values = values.into_iter();
            if self.nullable {
                let row = |level: i16| if level > 0 { values.next() } else { None };
                self.held.extend(levels.into_iter().map(row));
            } else {
                self.held.extend(values.map(Some));
            }
            return Ok(true);
        }
    }
}

impl Rows for Column {
    fn next(&mut self) -> Result<Option<Row>> {
        let input = self.input.clone();
        if self.held.is_empty() && !guarded(&input, || self.fill())? {
            return Ok(None);
        }
        let content = match self.held.pop_front().flatten() {
            Some(value) => Content::Text(value.data().to_vec()),
            None => Content::Bad(format!("`{}` is null", self.field)),
        };
        let number = self.number;
        self.number = next_number(number, &self.input)?;
        Ok(Some(Row { number, unit: "row", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        let input = self.input.clone();
        while self.number < number {
            let next = behind_group(&self.reader, self.group, self.number, number);
            if let Some(next) = next.filter(|_| self.column.is_none()) {
                (self.number, self.group) = (next, self.group + 1);
            } else if self.held.pop_front().is_some() {
                self.number += 1;
            } else if !guarded(&input, || self.fill())? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The number of the row behind a row group that begins with row `first`, if that is not behind row `number`.
pub(crate) fn behind_group(
    reader: &SerializedFileReader<File>,
    group: usize,
    first: u32,
    number: u32,
) -> Option<u32> {
    let rows = reader.metadata().row_groups().get(group)?.num_rows();
    let next = first.checked_add(u32::try_from(rows).ok()?)?;
    Some(next).filter(|next| *next <= number)
}

pub(crate) fn guarded<T>(input: &Input, read: impl FnOnce() -> Result<T>) -> Result<T> {
    rows::guarded(&input.label, "parquet", read)
}

pub(crate) fn broken(input: &Input, error: &ParquetError) -> Error {
    let reason = error.to_string().trim_start_matches("Parquet error: ").to_owned();
    Error::unreadable(&input.label, "parquet", reason)
}

fn no_column(input: &Input, field: &str, columns: &[Arc<ColumnDescriptor>]) -> Error {
    let top = |column: &Arc<ColumnDescriptor>| column.path().parts().first().cloned();
    let mut known: Vec<String> = columns.iter().filter_map(top).collect();
    known.dedup();
    Error::Column { file: input.label.clone(), field: field.into(), known }
}

/// Whether a column holds text, one per row: strings, or bytes that say nothing of themselves.
fn is_text(column: &ColumnDescriptor) -> bool {
    let said = matches!(
        (column.logical_type_ref(), column.converted_type()),
        (Some(LogicalType::String | LogicalType::Json | LogicalType::Enum), _)
            | (
                None,
                ConvertedType::UTF8
                    | ConvertedType::JSON
                    | ConvertedType::ENUM
                    | ConvertedType::NONE
            )
    );
    said && column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use parquet::basic::{Compression, Encoding};
    use parquet::data_type::{ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// A file with a column `id` and a nullable column `text` of these rows, in row groups of
    /// `group` rows.
    pub(crate) fn write(
        path: &Path,
        rows: &[Option<&[u8]>],
        group: usize,
        compression: Compression,
        version_2: bool,
    ) {
        let schema = "message rows { REQUIRED INT64 id; OPTIONAL BYTE_ARRAY text (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut properties = WriterProperties::builder().set_compression(compression);
        if version_2 {
            properties = properties
                .set_writer_version(parquet::file::properties::WriterVersion::PARQUET_2_0)
                .set_dictionary_enabled(false)
                .set_column_encoding("text".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
        }
        let file = std::fs::File::create(path).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
        for rows in rows.chunks(group) {
            let mut out = writer.next_row_group().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let ids: Vec<i64> = (0..rows.len() as i64).collect();
            column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
            column.close().unwrap();
            let mut column = out.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> =
                rows.iter().flatten().map(|row| ByteArray::from(row.to_vec())).collect();
            let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
            out.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn read(path: &Path, field: &str) -> Result<Vec<Option<Vec<u8>>>> {
        let mut rows = Column::open(&input(path), field)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            assert_eq!(row.number as usize, found.len() + 1);
            found.push(match row.content {
                Content::Text(text) => Some(text),
                _ => None,
            });
        }
        Ok(found)
    }

    fn input(path: &Path) -> Input {
        let format = crate::format::Format::of(path).unwrap();
        let name: String = "rows.parquet".into();
        Input::new(path, name.clone(), name, format)
    }

    #[test]
    fn rows_in_front_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows = many();
        let borrowed: Vec<_> = rows.iter().map(Option::as_deref).collect();
        write(&path, &borrowed, 700, Compression::SNAPPY, false);
        for number in [1, 2, 700, 701, 1400, 1401, 2999, 3000, 3001] {
            let mut column = Column::open(&input(&path), "text").unwrap();
            column.skip_to(number).unwrap();
            let found = column.next().unwrap().map(|row| row.number);
            assert_eq!(found, (number <= 3000).then_some(number));
        }
    }

    fn many() -> Vec<Option<Vec<u8>>> {
        let row = |i: usize| (i % 7 != 3).then(|| format!("row {i} ").repeat(i % 5).into_bytes());
        (0..3000).map(row).collect()
    }

    #[test]
    fn rows_come_back_from_every_packing_and_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows = many();
        let borrowed: Vec<_> = rows.iter().map(Option::as_deref).collect();
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::ZSTD(Default::default()),
            Compression::GZIP(Default::default()),
        ] {
            for (group, version_2) in [(usize::MAX, false), (700, true)] {
                write(&path, &borrowed, group, compression, version_2);
                assert!(read(&path, "text").unwrap() == rows, "{compression:?} {group}");
            }
        }
        write(&path, &[], 1, Compression::SNAPPY, false);
        assert_eq!(read(&path, "text").unwrap(), []);
    }

    #[test]
    fn other_columns_are_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        write(&path, &[Some(b"x")], 1, Compression::SNAPPY, false);
        for field in ["body", "id"] {
            let error = read(&path, field).unwrap_err();
            let said =
                format!("`rows.parquet` has no column of text `{field}`, there are: id, text");
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows = many();
        let borrowed: Vec<_> = rows.iter().map(Option::as_deref).collect();
        write(&path, &borrowed, 700, Compression::SNAPPY, false);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 150) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = read(&path, "text").unwrap_err();
            assert!(matches!(&error, Error::Damaged { .. }), "{length}: {error:?}");
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path, "text"), Err(Error::Damaged { .. })));
    }

    /// Whatever the bytes, there is an answer.
    #[test]
    fn any_bytes_are_rows_or_an_error() {
        use proptest::prelude::*;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows: Vec<Option<&[u8]>> = vec![Some(b"one"), None, Some(b"three"), Some(b"one")];
        write(&path, &rows, 2, Compression::SNAPPY, false);
        let whole = std::fs::read(&path).unwrap();
        let damage = prop::collection::vec((0..whole.len(), any::<u8>()), 1..4);
        proptest!(ProptestConfig::with_cases(300), |(damage in damage)| {
            let mut bytes = whole.clone();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            std::fs::write(&path, bytes).unwrap();
            let _ = read(&path, "text");
        });
    }
}
