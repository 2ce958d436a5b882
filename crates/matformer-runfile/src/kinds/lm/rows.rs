//! What the rows of files hold, as far as the first of them say.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use matformer_core::fs;
use matformer_data::first_records;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The field of a row that holds the text, where nothing else is said.
const TEXT: &str = "text";
/// Fields of rows of other forms, which have no text of their own.
const OTHER_FORMS: [&str; 4] = ["messages", "conversations", "prompt", "completion"];
/// Rows of a file that are looked at.
const ROWS: usize = 100;
/// Files that are looked at.
const FILES: usize = 16;
/// Share of the rows that may be bad: the default of `data.max_bad_rows`.
const BAD: f64 = 0.01;

/// What rows hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Text in the field `text`, or nothing that can be told.
    Text,
    /// Text in another field.
    Field(String),
    /// Conversations: `messages`, or `prompt` and `completion`.
    Conversations,
}

/// What the rows at these places hold.
///
/// # Errors
/// When many of the rows are no JSON objects, or have no field of text in common.
pub(super) fn held(places: &[&Path]) -> Result<Holds> {
    let mut files = Vec::new();
    places.iter().for_each(|place| find(place, 4, &mut files));
    let mut found = Found::default();
    for file in files.iter().take(FILES) {
        // What cannot be read is said when it is read whole.
        let _ = found.read(file);
    }
    found.holds()
}

/// Files of rows at a place, at most `depth` folders deep.
fn find(place: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    if place.is_dir() {
        let below = if depth == 0 { Vec::new() } else { fs::read_dir(place).unwrap_or_default() };
        below.iter().for_each(|path| find(path, depth - 1, files));
    } else if has_suffix(place, &LINES) || has_suffix(place, &TABLES) {
        files.push(place.to_owned());
    }
}

/// Suffixes of files with an object in each line.
const LINES: [&str; 3] = ["jsonl", "ndjson", "jsonlines"];
/// Suffixes of tables.
const TABLES: [&str; 2] = ["parquet", "arrow"];

fn has_suffix(path: &Path, known: &[&str]) -> bool {
    path.extension().is_some_and(|suffix| known.iter().any(|known| suffix == *known))
}

/// What rows hold.
#[derive(Default)]
struct Found {
    rows: usize,
    /// Rows that are no JSON objects, and where the first is.
    bad: usize,
    first_bad: Option<String>,
    /// Rows without a field `text`, and where the first is.
    without: usize,
    first_without: Option<String>,
    /// How many of these have each field with text, and how much.
    fields: BTreeMap<String, (usize, usize)>,
    /// How many of these are conversations.
    conversations: usize,
    other_form: bool,
}

impl Found {
    fn read(&mut self, path: &Path) -> std::io::Result<()> {
        if has_suffix(path, &TABLES) {
            let rows = first_records(path, ROWS).unwrap_or_default();
            for (number, row) in rows.iter().enumerate() {
                self.rows += 1;
                self.add(row, || format!("{}, row {}", path.display(), number + 1));
            }
            return Ok(());
        }
        let lines = BufReader::new(std::fs::File::open(path)?).lines();
        let lines = lines
            .enumerate()
            .filter(|(_, line)| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
        for (number, line) in lines.take(ROWS) {
            let place = || format!("{}, line {}", path.display(), number + 1);
            self.rows += 1;
            match line.ok().and_then(|line| serde_json::from_str::<Map<_, _>>(&line).ok()) {
                Some(row) => self.add(&row, place),
                None => {
                    self.bad += 1;
                    self.first_bad.get_or_insert_with(place);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, row: &Map<String, Value>, place: impl FnOnce() -> String) {
        if row.get(TEXT).is_some_and(Value::is_string) {
            return;
        }
        self.other_form |= OTHER_FORMS.iter().any(|form| row.contains_key(*form));
        let has = |name: &str| row.contains_key(name);
        self.conversations += usize::from(has("messages") || has("prompt") && has("completion"));
        self.without += 1;
        self.first_without.get_or_insert_with(place);
        for (name, value) in row {
            if let Value::String(text) = value {
                let (rows, bytes) = self.fields.entry(name.clone()).or_default();
                *rows += 1;
                *bytes += text.len();
            }
        }
    }

    fn holds(self) -> Result<Holds> {
        let most = (BAD * self.rows as f64) as usize;
        if self.bad > most {
            return Err(Error::Rows {
                place: self.first_bad.unwrap_or_default(),
                found: "not a JSON object".to_owned(),
                expected: "one in each line of the file",
            });
        }
        let good = self.rows - self.bad;
        if self.without > most && self.conversations + most >= good {
            return Ok(Holds::Conversations);
        }
        if self.without <= most || self.other_form {
            return Ok(Holds::Text);
        }
        let common = self.fields.iter().filter(|(_, (rows, _))| rows + most >= good);
        if let Some((name, _)) = common.max_by_key(|(_, (_, bytes))| *bytes) {
            return Ok(Holds::Field(name.clone()));
        }
        let names: Vec<String> = self.fields.keys().map(|name| format!("`{name}`")).collect();
        let names = if names.is_empty() { "none of text".to_owned() } else { names.join(", ") };
        Err(Error::Rows {
            place: self.first_without.unwrap_or_default(),
            found: format!("no field `{TEXT}` (fields: {names})"),
            expected: "`text`, or another field that all rows have",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_in(rows: &str) -> Result<Holds> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("deep")).unwrap();
        std::fs::write(root.path().join("deep/my.jsonl"), rows).unwrap();
        held(&[root.path()])
    }

    #[test]
    fn the_field_of_the_text_is_found() {
        assert_eq!(held_in("{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n").unwrap(), Holds::Text);
        let rows = "{\"id\": \"1\", \"content\": \"a long text\"}\n".repeat(3);
        assert_eq!(held_in(&rows).unwrap(), Holds::Field("content".into()));
        for row in ["{\"messages\": []}", "{\"prompt\": \"a\", \"completion\": \"b\"}"] {
            assert_eq!(held_in(row).unwrap(), Holds::Conversations, "{row}");
        }
        assert_eq!(held_in("{\"conversations\": []}\n").unwrap(), Holds::Text);
        assert_eq!(held_in("").unwrap(), Holds::Text);
    }

    #[test]
    fn rows_that_do_not_serve_are_named() {
        let said = |rows: &str| held_in(rows).unwrap_err().to_string();
        let bad = said("{\"text\": \"a\"}\noops\n");
        assert!(bad.ends_with("line 2: not a JSON object; expected one in each line of the file"));
        let none = said("{\"n\": 1}\n");
        assert!(none.contains("line 1: no field `text` (fields: none of text)"), "{none}");
        let mixed = said("{\"a\": \"x\"}\n{\"text\": \"x\"}\n");
        assert!(mixed.contains("no field `text` (fields: `a`)"), "{mixed}");
    }
}
