//! Rows of `.arrow` files, which `datasets` saves and caches.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType, FieldRef, SchemaRef, TimeUnit};
use matformer_core::fs;
use serde_json::{Map, Number, Value};

use crate::conversation::Fields;
use crate::inputs::Input;
use crate::records::Record;
use crate::rows::{Content, Row, Rows, guarded, next_number};
use crate::{Error, Result};

/// What errors call the format.
const ARROW: &str = "arrow";
/// What a file begins with that has its batches listed at its end. Others are streams of batches.
const LISTED: &[u8] = b"ARROW1";

/// Batches of rows, one after the other.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// The rows of an Arrow file with some of its columns.
struct ArrowRows {
    label: String,
    batches: Batches,
    batch: Option<RecordBatch>,
    /// Of the next row in the batch, from 0.
    at: usize,
}

impl ArrowRows {
    /// Opens a file, for all columns or for those that `wanted` names.
    fn open(path: &Path, label: &str, wanted: &dyn Fn(&str) -> bool) -> Result<(Self, SchemaRef)> {
        let mut file = fs::open(path)?;
        let label = label.to_owned();
        guarded(&label, ARROW, || {
            let listed = is_listed(&mut file).map_err(fs::error(path, "read"))?;
            let schema = opened(&file, listed, None).map_err(|e| broken(&label, &e))?.1;
            file.rewind().map_err(fs::error(path, "read"))?;
            let names = schema.fields().iter().map(|field| field.name());
            let columns = names.enumerate().filter(|(_, name)| wanted(name)).map(|(at, _)| at);
            let opened = opened(&file, listed, Some(columns.collect()));
            let (batches, _) = opened.map_err(|e| broken(&label, &e))?;
            Ok((Self { label: label.clone(), batches, batch: None, at: 0 }, schema))
        })
    }

    /// The next row: its batch, and its place there.
    fn next(&mut self) -> Result<Option<(&RecordBatch, usize)>> {
        while self.batch.as_ref().is_none_or(|batch| self.at == batch.num_rows()) {
            let label = self.label.clone();
            let next = guarded(&label, ARROW, || {
                self.batches.next().transpose().map_err(|e| broken(&label, &e))
            })?;
            let Some(next) = next else { return Ok(None) };
            (self.batch, self.at) = (Some(next), 0);
        }
        self.at += 1;
        Ok(self.batch.as_ref().map(|batch| (batch, self.at - 1)))
    }
}

fn is_listed(file: &mut File) -> std::io::Result<bool> {
    let mut start = Vec::new();
    Read::by_ref(file).take(LISTED.len() as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == LISTED)
}

/// The batches of a file, and all of its columns.
fn opened(
    file: &File,
    listed: bool,
    columns: Option<Vec<usize>>,
) -> Result<(Batches, SchemaRef), ArrowError> {
    let file = BufReader::new(file.try_clone()?);
    if listed {
        let reader = FileReader::try_new(file, columns)?;
        let schema = reader.schema();
        return Ok((Box::new(reader), schema));
    }
    let reader = StreamReader::try_new(file, columns)?;
    let schema = reader.schema();
    Ok((Box::new(reader), schema))
}

fn broken(label: &str, error: &ArrowError) -> Error {
    Error::unreadable(label, ARROW, error)
}

/// The rows of a file with all their columns, at most so many.
///
/// # Errors
/// [`Error::Damaged`], also for columns of a type that has no JSON; what reading says.
pub(crate) fn records(path: &Path, most: usize) -> Result<Vec<Record>> {
    let label = path.display().to_string();
    let (mut rows, _) = ArrowRows::open(path, &label, &|_| true)?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some((batch, at)) = rows.next()?
    {
        let record = record(batch, at);
        found.push(record.map_err(|reason| Error::unreadable(&label, ARROW, reason))?);
    }
    Ok(found)
}

/// A column of text, or conversations.
pub(crate) struct Documents {
    input: Input,
    rows: ArrowRows,
    wanted: Wanted,
    /// Of the next row, from 1.
    number: u32,
}

/// What is read of a row.
enum Wanted {
    Text(String),
    Conversation(Fields),
}

impl Documents {
    /// The column `field` of a file, which is of text.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Column`].
    pub(crate) fn text(input: &Input, field: &str) -> Result<Self> {
        let (rows, schema) = ArrowRows::open(&input.path, &input.label, &|name| name == field)?;
        if !schema.column_with_name(field).is_some_and(|(_, column)| is_text(column.data_type())) {
            return Err(no_column(input, field, &schema));
        }
        let (input, wanted) = (input.clone(), Wanted::Text(field.to_owned()));
        Ok(Self { input, rows, wanted, number: 1 })
    }

    /// The conversations of a file.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn conversations(input: &Input, fields: &Fields) -> Result<Self> {
        let wanted = |name: &str| fields.are_in(name);
        let (rows, schema) = ArrowRows::open(&input.path, &input.label, &wanted)?;
        if !schema.fields().iter().any(|field| wanted(field.name())) {
            return Err(no_column(input, fields.main(), &schema));
        }
        let (input, wanted) = (input.clone(), Wanted::Conversation(fields.clone()));
        Ok(Self { input, rows, wanted, number: 1 })
    }
}

fn no_column(input: &Input, field: &str, schema: &SchemaRef) -> Error {
    // A column of the right name may be of a type that is no text.
    let known = schema.fields().iter().map(|f| format!("{} ({})", f.name(), f.data_type()));
    let known = known.collect();
    Error::Column { file: input.label.clone(), field: field.into(), known }
}

impl Rows for Documents {
    fn next(&mut self) -> Result<Option<Row>> {
        let Some((batch, at)) = self.rows.next()? else { return Ok(None) };
        let content = match &self.wanted {
            Wanted::Text(field) => match text(batch.column(0), at) {
                Some(text) => Content::Text(text.to_vec()),
                None => Content::Bad(format!("`{field}` is null")),
            },
            Wanted::Conversation(fields) => fields.content(record(batch, at)),
        };
        let number = self.number;
        self.number = next_number(number, &self.input)?;
        Ok(Some(Row { number, unit: "row", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        while self.number < number && self.rows.next()?.is_some() {
            self.number = next_number(self.number, &self.input)?;
        }
        Ok(())
    }
}

/// Whether a column holds texts, or bytes that may be some.
fn is_text(column: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Dictionary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    match column {
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A text of a column, if it is one and not null.
fn text(column: &dyn Array, at: usize) -> Option<&[u8]> {
    if column.is_null(at) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(at).as_bytes()),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(at).as_bytes()),
        DataType::Utf8View => Some(column.as_string_view().value(at).as_bytes()),
        DataType::Binary => Some(column.as_binary::<i32>().value(at)),
        DataType::LargeBinary => Some(column.as_binary::<i64>().value(at)),
        DataType::BinaryView => Some(column.as_binary_view().value(at)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = value(dictionary.keys(), at).ok()?.as_u64()?;
            text(dictionary.values(), usize::try_from(key).ok()?)
        }
        _ => None,
    }
}

fn record(batch: &RecordBatch, at: usize) -> Result<Record, String> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let of = |(field, column): (&FieldRef, &ArrayRef)| {
        let value =
            value(column, at).map_err(|reason| format!("column `{}` {reason}", field.name()))?;
        Ok((field.name().clone(), value))
    };
    columns.map(of).collect()
}

fn value(array: &dyn Array, at: usize) -> Result<Value, String> {
    if array.is_null(at) {
        return Ok(Value::Null);
    }
    if let Some(text) = text(array, at) {
        let text = std::str::from_utf8(text);
        return text.map(Into::into).map_err(|_| "has bytes that are not UTF-8".to_owned());
    }
    let float = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => array.as_boolean().value(at).into(),
        DataType::Int8 => whole::<Int8Type>(array, at),
        DataType::Int16 => whole::<Int16Type>(array, at),
        DataType::Int32 => whole::<Int32Type>(array, at),
        DataType::Int64 => whole::<Int64Type>(array, at),
        DataType::UInt8 => whole::<UInt8Type>(array, at),
        DataType::UInt16 => whole::<UInt16Type>(array, at),
        DataType::UInt32 => whole::<UInt32Type>(array, at),
        DataType::UInt64 => whole::<UInt64Type>(array, at),
        DataType::Float16 => float(array.as_primitive::<Float16Type>().value(at).to_f64()),
        DataType::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(at))),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(at)),
        DataType::List(_) => list(&array.as_list::<i32>().value(at))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(at))?,
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let column = |(field, column): (&FieldRef, &ArrayRef)| {
                Ok((field.name().clone(), value(column, at)?))
            };
            Value::Object(columns.map(column).collect::<Result<Map<_, _>, String>>()?)
        }
        DataType::Date32 => whole::<Date32Type>(array, at),
        DataType::Date64 => whole::<Date64Type>(array, at),
        DataType::Timestamp(TimeUnit::Second, _) => whole::<TimestampSecondType>(array, at),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            whole::<TimestampMillisecondType>(array, at)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            whole::<TimestampMicrosecondType>(array, at)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => whole::<TimestampNanosecondType>(array, at),
        other => return Err(format!("has the type {other}, which is not read")),
    })
}

fn whole<T: ArrowPrimitiveType>(array: &dyn Array, at: usize) -> Value
where
    T::Native: Into<Value>,
{
    array.as_primitive::<T>().value(at).into()
}

fn list(items: &ArrayRef) -> Result<Value, String> {
    (0..items.len()).map(|at| value(items, at)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int64Builder, ListBuilder, StringBuilder};
    use arrow_array::{
        BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array,
        LargeBinaryArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    };
    use arrow_ipc::writer::{FileWriter, StreamWriter};
    use arrow_schema::{Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::format::Format;

    /// Three rows, in two batches.
    fn batches() -> Vec<RecordBatch> {
        let batch = |texts: Vec<Option<&str>>| {
            let n = texts.len() as i64;
            let (mut lists, mut numbers) =
                (ListBuilder::new(StringBuilder::new()), Int64Builder::new());
            for at in 0..n {
                (0..at).for_each(|_| lists.values().append_value("x"));
                lists.append(true);
                numbers.append_value(at);
            }
            let inner: ArrayRef = Arc::new(numbers.finish());
            let inner =
                StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), inner)]);
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("text", Arc::new(StringArray::from(texts))),
                ("label", Arc::new(Int64Array::from_iter_values(0..n))),
                ("share", Arc::new(Float64Array::from_iter_values((0..n).map(|n| n as f64 / 2.0)))),
                ("is", Arc::new(BooleanArray::from_iter((0..n).map(|n| Some(n == 1))))),
                ("choices", Arc::new(lists.finish())),
                ("inner", Arc::new(inner)),
            ];
            let fields = columns
                .iter()
                .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
            let schema = Schema::new(fields.collect::<Vec<_>>());
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            RecordBatch::try_new(Arc::new(schema), columns).unwrap()
        };
        vec![batch(vec![Some("one"), None]), batch(vec![Some("three")])]
    }

    fn write(path: &Path, listed: bool) {
        let batches = batches();
        let file = File::create(path).unwrap();
        if listed {
            let mut writer = FileWriter::try_new(file, &batches[0].schema()).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.finish().unwrap();
        } else {
            let mut writer = StreamWriter::try_new(file, &batches[0].schema()).unwrap();
            batches.iter().for_each(|batch| writer.write(batch).unwrap());
            writer.finish().unwrap();
        }
    }

    fn input(path: &Path) -> Input {
        Input::new(path, "a".into(), "rows.arrow".into(), Format::of(path).unwrap())
    }

    fn read(path: &Path, field: &str, from: u32) -> Result<Vec<(u32, Content)>> {
        let mut rows = Documents::text(&input(path), field)?;
        rows.skip_to(from)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((row.number, row.content));
        }
        Ok(found)
    }

    #[test]
    fn rows_come_back_from_both_kinds_of_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        for listed in [false, true] {
            write(&path, listed);
            let text = |text: &str| Content::Text(text.into());
            let all =
                [(1, text("one")), (2, Content::Bad("`text` is null".into())), (3, text("three"))];
            assert_eq!(read(&path, "text", 1).unwrap(), all);
            assert_eq!(read(&path, "text", 3).unwrap(), all[2..]);
            assert_eq!(read(&path, "text", 9).unwrap(), []);
            let rows = records(&path, usize::MAX).unwrap();
            assert_eq!(rows.len(), 3);
            let second = json!({ "text": null, "label": 1, "share": 0.5, "is": true, "choices": ["x"],
                                 "inner": { "n": 1 } });
            assert_eq!(Value::Object(rows[1].clone()), second);
        }
    }

    #[test]
    fn other_columns_are_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        write(&path, false);
        for field in ["label", "body"] {
            let said = read(&path, field, 1).unwrap_err().to_string();
            let expected = format!(
                "`rows.arrow` has no column of text `{field}`, there are: text (Utf8), label (Int64), share (Float64)"
            );
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn texts_of_every_type_and_dates_are_read() {
        let texts = || ["one", "two", "one"].into_iter();
        let bytes = || texts().map(str::as_bytes);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("view", Arc::new(StringViewArray::from_iter_values(texts()))),
            ("bytes", Arc::new(BinaryArray::from_iter_values(bytes()))),
            ("large", Arc::new(LargeBinaryArray::from_iter_values(bytes()))),
            ("coded", Arc::new(texts().collect::<DictionaryArray<Int8Type>>())),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(7..10))),
            ("size", Arc::new(FixedSizeBinaryArray::try_from_iter(bytes()).unwrap())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        let mut writer =
            FileWriter::try_new(File::create(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        for field in ["view", "bytes", "large", "coded"] {
            let found = read(&path, field, 1).unwrap().into_iter().map(|(_, content)| content);
            let expected: Vec<Content> = bytes().map(|text| Content::Text(text.to_vec())).collect();
            assert_eq!(found.collect::<Vec<_>>(), expected, "{field}");
        }
        let said = read(&path, "at", 1).unwrap_err().to_string();
        assert!(
            said.contains("no column of text `at`") && said.contains("at (Timestamp"),
            "{said}"
        );
        let known = batch.project(&[0, 3, 4]).unwrap();
        let expected = json!({ "view": "two", "coded": "two", "at": 8 });
        assert_eq!(record(&known, 1).map(Value::Object), Ok(expected));
        let refused = record(&batch, 0).unwrap_err();
        assert!(refused.starts_with("column `size` has the type FixedSizeBinary"), "{refused}");
    }

    #[test]
    fn any_bytes_are_rows_or_an_error() {
        use proptest::prelude::*;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        write(&path, true);
        let listed = std::fs::read(&path).unwrap();
        write(&path, false);
        let stream = std::fs::read(&path).unwrap();
        for length in (0..listed.len()).step_by(97) {
            std::fs::write(&path, &listed[..length]).unwrap();
            assert!(matches!(records(&path, usize::MAX), Err(Error::Damaged { .. })), "{length}");
        }
        let damage = prop::collection::vec((0..1_usize << 16, any::<u8>()), 0..4);
        proptest!(ProptestConfig::with_cases(200), |(damage in damage, is_listed in any::<bool>())| {
            let mut bytes = if is_listed { listed.clone() } else { stream.clone() };
            let n = bytes.len();
            for (at, byte) in damage {
                bytes[at % n] = byte;
            }
            std::fs::write(&path, bytes).unwrap();
            let _ = (records(&path, usize::MAX), read(&path, "text", 2));
        });
    }
}
