//! Rows of tables with all their columns, as JSON.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::format::{self, Format, Kind};
use crate::inputs::Input;
use crate::parquet_rows::ParquetRows;
use crate::{Error, Result, arrow};

/// A row: its columns.
pub type Record = Map<String, Value>;

/// The rows of a `.csv`, `.tsv`, `.parquet` or `.arrow` file; the first two also packed. A column of a text table
/// has the type that fits all its cells, as pandas sees it: whole numbers, numbers, `True` and `False`, or text;
/// cells such as an empty one or `NA` are null.
///
/// # Errors
/// [`Error::Suffix`] for a file of another name; [`Error::Damaged`] for one that is damaged; what reading says.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    first_records(path, usize::MAX)
}

/// The first rows of such a file, at most so many.
///
/// # Errors
/// As [`records`].
pub fn first_records(path: &Path, most: usize) -> Result<Vec<Record>> {
    let file = path.display().to_string();
    match Format::of(path) {
        Some(Format { kind: Kind::Table { delimiter }, compression }) => {
            let unreadable = |error: csv::Error| Error::unreadable(&file, "a table", error);
            let reader = format::open(path, compression)?;
            let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
            let header = reader.headers().map_err(unreadable)?.clone();
            let rows =
                reader.records().take(most).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
            Ok(typed(&header, &rows))
        }
        Some(format @ Format { kind: Kind::Parquet, .. }) => {
            parquet_records(path, file, format, most)
        }
        Some(Format { kind: Kind::Arrow, .. }) => arrow::records(path, most),
        _ => Err(Error::Suffix { file }),
    }
}

fn parquet_records(path: &Path, file: String, format: Format, most: usize) -> Result<Vec<Record>> {
    let input = Input::new(path, file.clone(), file.clone(), format);
    let mut rows = ParquetRows::open(&input, |_| true)?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some((_, row)) = rows.next_row()?
    {
        let unreadable = |reason| Error::unreadable(&file, "parquet", reason);
        found.push(of_row(&row).map_err(unreadable)?);
    }
    Ok(found)
}

/// The columns of a row of a `.parquet` file.
pub(crate) fn of_row(row: &Row) -> Result<Record, String> {
    let column = |(name, field): (&String, &Field)| Ok((name.clone(), value(field)?));
    row.get_column_iter().map(column).collect()
}

fn value(field: &Field) -> Result<Value, String> {
    let number = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => number(value.to_f64()),
        Field::Float(value) => number(f64::from(*value)),
        Field::Double(value) => number(*value),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => return Err("a column holds bytes that are no text".to_owned()),
        },
        Field::Group(row) => Value::Object(of_row(row)?),
        Field::ListInternal(list) => {
            list.elements().iter().map(value).collect::<Result<Vec<_>, _>>()?.into()
        }
        Field::MapInternal(map) => {
            let entry = |(key, item): &(Field, Field)| match key {
                Field::Str(key) => Ok((key.clone(), value(item)?)),
                key => Ok((key.to_string(), value(item)?)),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, String>>()?)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
    })
}

/// Cells that pandas reads as missing.
const MISSING: [&str; 18] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan",
];

/// What the cells of a column are.
#[derive(Clone, Copy)]
enum Cells {
    Ints,
    Floats,
    Bools,
    Texts,
}

fn typed(header: &StringRecord, rows: &[StringRecord]) -> Vec<Record> {
    let cells = |at: usize| rows.iter().map(move |row| row.get(at).unwrap_or_default());
    let kinds: Vec<Cells> = (0..header.len()).map(|at| kind(cells(at))).collect();
    let record = |row: &StringRecord| {
        let columns = header.iter().zip(row).zip(&kinds);
        columns.map(|((name, cell), kind)| (name.to_owned(), cell_value(cell, *kind))).collect()
    };
    rows.iter().map(record).collect()
}

fn is_missing(cell: &str) -> bool {
    cell == "null" || MISSING.contains(&cell)
}

fn kind<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> Cells {
    let there = || cells.clone().filter(|cell| !is_missing(cell));
    if there().next().is_none() {
        return Cells::Texts;
    }
    // A missing whole number makes the column one of floats.
    let is_full = cells.clone().all(|cell| !is_missing(cell));
    if there().all(|cell| cell.parse::<i64>().is_ok()) {
        return if is_full { Cells::Ints } else { Cells::Floats };
    }
    if there().all(|cell| cell.parse::<f64>().is_ok()) {
        return Cells::Floats;
    }
    if is_full && there().all(|cell| bool_of(cell).is_some()) { Cells::Bools } else { Cells::Texts }
}

fn bool_of(cell: &str) -> Option<bool> {
    match cell {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

fn cell_value(cell: &str, kind: Cells) -> Value {
    if is_missing(cell) {
        return Value::Null;
    }
    let value = match kind {
        Cells::Ints => cell.parse::<i64>().ok().map(Value::from),
        Cells::Floats => cell.parse::<f64>().ok().map(Value::from),
        Cells::Bools => bool_of(cell).map(Value::Bool),
        Cells::Texts => None,
    };
    value.unwrap_or_else(|| cell.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(name: &str, text: &str) -> Result<Vec<Record>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        records(&folder.path().join(name))
    }

    /// As `datasets.load_dataset("csv", …)` gives them.
    #[test]
    fn columns_have_the_type_of_all_their_cells() {
        let found =
            of("a.csv", "n,x,b,t,m\n1,1,True,1,\n-2,2.5,False,\"a, b\",7\n3,NA,True,NA,8\n");
        let expected = json!([
            { "n": 1, "x": 1.0, "b": true, "t": "1", "m": null },
            { "n": -2, "x": 2.5, "b": false, "t": "a, b", "m": 7.0 },
            { "n": 3, "x": null, "b": true, "t": null, "m": 8.0 },
        ]);
        assert_eq!(json!(found.unwrap()), expected);
        assert_eq!(
            json!(of("a.tsv", "a\tb\nx\ty,z\n").unwrap()),
            json!([{ "a": "x", "b": "y,z" }])
        );
    }

    #[test]
    fn damaged_files_are_errors() {
        let error = |name: &str, text: &str| of(name, text).unwrap_err().to_string();
        assert!(error("a.csv", "a,b\n1\n").contains("cannot be read as a table"));
        assert!(error("a.parquet", "PAR1").contains("cannot be read as parquet"));
        assert!(matches!(of("a.doc", "a"), Err(Error::Suffix { .. })));
    }
}
