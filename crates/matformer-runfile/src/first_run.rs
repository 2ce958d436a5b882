//! What a first run sets for its kind of model, and how it is written.

use std::path::Path;

use matformer_data::Source;
use matformer_sources::{Record, Sources};
use toml::{Table, Value};

use crate::Result;

/// What a kind of model sets where nothing else is said.
pub struct FirstRun {
    /// The preset that its shape is.
    pub preset: String,
    /// Keys of the shape that differ from the preset.
    pub shape: Table,
    /// Keys of `[data]`, beside where the data is.
    pub data: Table,
    /// Keys of `[train]`.
    pub train: Table,
    /// What was found, in a sentence without its end.
    pub found: String,
}

/// The paths among these places, if all are.
pub(crate) fn paths_of(sources: &[Source]) -> Option<Vec<&Path>> {
    sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => Some(path.as_path()),
            _ => None,
        })
        .collect()
}

/// What the table of named sources says of one, `NAME` or `NAME/PART`: only of that part.
pub(crate) fn named(name: &str) -> Result<Record> {
    let sources = Sources::from_env()?;
    let (name, part) = name.split_once('/').map_or((name, None), |(name, part)| (name, Some(part)));
    let mut record = Record::of(&sources, sources.get(name)?);
    record.parts.retain(|found| part.is_none_or(|part| found.name == part));
    Ok(record)
}

/// A table of these keys.
pub(crate) fn table<const N: usize>(keys: [(&str, Value); N]) -> Table {
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A number of the table.
pub(crate) fn whole(n: u64) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A number of steps that is easily read: of two digits.
pub(crate) fn rounded(n: u64) -> u64 {
    let unit = 10_u64.pow(n.max(1).ilog10().saturating_sub(1));
    n.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_steps_are_round() {
        let found = [0, 7, 43, 101, 999, 1234].map(rounded);
        assert_eq!(found, [0, 7, 43, 110, 1000, 1300]);
    }
}
