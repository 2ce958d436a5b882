//! Rows of data files.

use std::path::{Path, PathBuf};

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

/// The rows of some files of JSON lines, or with an array of objects each.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in files {
        let text = fs::read_to_string(path)?;
        if text.trim_start().starts_with('[') {
            array(path, &text, &mut rows)?;
        } else {
            lines(path, &text, &mut rows)?;
        }
    }
    Ok(rows)
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
