//! Rows of data files.

use std::path::Path;

use matformer_core::fs;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A row of a data file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Its file and number, from 1: `data/test.jsonl:3`.
    pub at: String,
    /// Its columns.
    pub columns: Map<String, Value>,
}

/// The rows of a file of JSON lines, or with an array of objects.
pub(crate) fn json(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path)?;
    let mut rows = Vec::new();
    if text.trim_start().starts_with('[') {
        array(path, &text, &mut rows)?;
    } else {
        lines(path, &text, &mut rows)?;
    }
    Ok(rows)
}

/// The rows of a table, or of a file of JSON, by its name.
pub(crate) fn any(path: &Path) -> Result<Vec<Row>> {
    if path
        .extension()
        .is_some_and(|suffix| ["json", "jsonl", "ndjson"].iter().any(|s| suffix == *s))
    {
        return json(path);
    }
    let row = |(at, columns)| Row { at: format!("{}:{}", path.display(), at + 1), columns };
    Ok(matformer_data::records(path)?.into_iter().enumerate().map(row).collect())
}

fn array(path: &Path, text: &str, rows: &mut Vec<Row>) -> Result<()> {
    let wrong = |line, reason: String| Error::Row { path: path.to_owned(), line, reason };
    let values: Vec<Value> =
        serde_json::from_str(text).map_err(|error| wrong(error.line(), error.to_string()))?;
    for (index, value) in values.into_iter().enumerate() {
        let Value::Object(columns) = value else {
            return Err(wrong(1, format!("element {} of the array is not an object", index + 1)));
        };
        rows.push(Row { at: format!("{}:{}", path.display(), index + 1), columns });
    }
    Ok(())
}

fn lines(path: &Path, text: &str, rows: &mut Vec<Row>) -> Result<()> {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = index + 1;
        let columns = serde_json::from_str(line).map_err(|error| Error::Row {
            path: path.to_owned(),
            line: line_number,
            reason: error.to_string(),
        })?;
        rows.push(Row { at: format!("{}:{line_number}", path.display()), columns });
    }
    Ok(())
}
