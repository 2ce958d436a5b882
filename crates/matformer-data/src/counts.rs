//! What is counted while text is read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rows::Taken;

/// How many documents were left out, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Larger than `max_file_bytes`.
    pub too_large: usize,
    /// The same text as an earlier document; the one in train stays.
    pub duplicate: usize,
    /// No text at all.
    pub empty: usize,
    /// Malformed rows and files: invalid JSON, not UTF-8, field missing or null.
    pub bad_rows: usize,
}

impl fmt::Display for Dropped {
    /// `2 empty, 1 bad row`; `none` where nothing was left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { too_large, duplicate, empty, bad_rows } = *self;
        let mut first = true;
        for (count, one, many) in [
            (bad_rows, "bad row", "bad rows"),
            (empty, "empty", "empty"),
            (duplicate, "duplicate", "duplicates"),
            (too_large, "too large", "too large"),
        ] {
            if count > 0 {
                let comma = if first { "" } else { ", " };
                write!(f, "{comma}{count} {}", if count == 1 { one } else { many })?;
                first = false;
            }
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// A row or a file that is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// `line 17`, `row 17`; nothing for a file that is one document.
    pub place: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file)?;
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// How many there are of one kind, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub count: usize,
    pub first: String,
}

impl Group {
    /// Counts one more of `kind`.
    pub(crate) fn add<K: Ord>(groups: &mut BTreeMap<K, Self>, kind: K, name: impl fmt::Display) {
        let new = || Self { count: 0, first: name.to_string() };
        groups.entry(kind).or_insert_with(new).count += 1;
    }
}

/// For files whose type is not clear from the name (`.json`): how many were read as rows, how many as single
/// documents, and how many are tables without the column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TakenFiles(BTreeMap<Taken, Group>);

impl TakenFiles {
    /// Counts a file.
    pub(crate) fn add(&mut self, taken: Taken, label: &str) {
        Group::add(&mut self.0, taken, label);
    }

    /// What a person may want to know of it, where anything was open.
    pub(crate) fn notes(&self) -> Vec<String> {
        let part = |taken: Taken, one: &str, many: &str| {
            let Group { count, first } = self.0.get(&taken)?;
            Some(match count {
                1 => format!("1 {one} (`{first}`)"),
                _ => format!("{count} {many} (first `{first}`)"),
            })
        };
        let rows = part(Taken::Rows, "holds rows", "hold rows");
        let documents = part(Taken::Document, "is one document", "are one document each");
        let said: Vec<String> = rows.into_iter().chain(documents).collect();
        let json = (!said.is_empty()).then(|| format!("files of JSON: {}", said.join(", ")));
        let tables = part(Taken::No, "table", "tables");
        let tables =
            tables.map(|tables| format!("without the column of `data.field`, not read: {tables}"));
        json.into_iter().chain(tables).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_for_what_is_said() {
        let mut taken = TakenFiles::default();
        assert!(taken.notes().is_empty());
        taken.add(Taken::Document, "package.json");
        assert_eq!(taken.notes(), ["files of JSON: 1 is one document (`package.json`)"]);
        taken.add(Taken::Rows, "a.json.gz");
        taken.add(Taken::Rows, "b.json.gz");
        let said = "files of JSON: 2 hold rows (first `a.json.gz`), 1 is one document \
                    (`package.json`)";
        taken.add(Taken::No, "a.csv");
        let table = "without the column of `data.field`, not read: 1 table (`a.csv`)";
        assert_eq!(taken.notes(), [said, table]);
    }
}
