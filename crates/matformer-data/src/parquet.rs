//! One column of text in a `.parquet` file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use matformer_core::fs;
use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::{Error, Result};

/// Rows that are held at a time.
const ROWS: usize = 1024;

/// Hands every row of the column `field` to `row`, in order: its bytes, or `None` for a null. Reads
/// one row group after the other, and of each that column only.
///
/// `label` names the file in errors.
pub(crate) fn rows(
    path: &Path,
    label: &str,
    field: &str,
    row: &mut dyn FnMut(Option<&[u8]>),
) -> Result<()> {
    // The crate panics on some damaged pages. What `row` has seen by then is of no use to anybody:
    // the error ends the reading.
    catch_unwind(AssertUnwindSafe(|| read(path, label, field, row))).unwrap_or_else(|_| {
        let reason = "its pages are damaged".into();
        Err(Error::Unreadable { file: label.into(), format: "parquet", reason })
    })
}

fn read(path: &Path, label: &str, field: &str, row: &mut dyn FnMut(Option<&[u8]>)) -> Result<()> {
    let broken = |error: ParquetError| Error::Unreadable {
        file: label.into(),
        format: "parquet",
        reason: error.to_string().trim_start_matches("Parquet error: ").into(),
    };
    let reader = SerializedFileReader::new(fs::open(path)?).map_err(broken)?;
    let columns = reader.metadata().file_metadata().schema_descr_ptr();
    let top = |column: &ColumnDescriptor| column.path().parts().first().cloned();
    let found = columns
        .columns()
        .iter()
        .position(|column| column.path().parts() == [field] && is_text(column));
    let Some(index) = found else {
        let mut known: Vec<String> =
            columns.columns().iter().filter_map(|column| top(column)).collect();
        known.dedup();
        return Err(Error::Column { file: label.into(), field: field.into(), known });
    };
    let nullable = columns.column(index).max_def_level() > 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        let ColumnReader::ByteArrayColumnReader(mut column) =
            group.get_column_reader(index).map_err(broken)?
        else {
            return Err(Error::Column { file: label.into(), field: field.into(), known: vec![] });
        };
        loop {
            let (mut values, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
            let (read, _, _) =
                column.read_records(ROWS, Some(&mut levels), None, &mut values).map_err(broken)?;
            if read == 0 {
                break;
            }
            let mut values = values.iter();
            if nullable {
                levels.iter().for_each(|&level| {
                    row(if level > 0 { values.next().map(ByteArray::data) } else { None });
                });
            } else {
                values.for_each(|value| row(Some(value.data())));
            }
        }
    }
    Ok(())
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
    use std::sync::Arc;

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
        let mut found = Vec::new();
        rows(path, "rows.parquet", field, &mut |row| found.push(row.map(<[u8]>::to_vec)))?;
        Ok(found)
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
            assert!(matches!(&error, Error::Unreadable { .. }), "{length}: {error:?}");
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path, "text"), Err(Error::Unreadable { .. })));
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
