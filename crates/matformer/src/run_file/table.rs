//! A run file as a TOML table: overrides, presets, and in what two differ.

use matformer_lm::{MatLmConfig, Preset};
use toml::{Table, Value};

use super::{Error, Result, RunFile};

/// Applies one `key=value`; a value that is not TOML is taken as a string.
pub(super) fn apply(table: &mut Table, set: &str) -> Result<()> {
    let (key, text) = set.split_once('=').ok_or_else(|| Error::Set { found: set.to_owned() })?;
    let key = key.trim();
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(Error::Set { found: set.to_owned() });
    }
    let value = value(key, text.trim())?;
    check_table(key, &value)?;
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or(key);
    let mut at = table;
    for part in parts {
        let next = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = next
            .as_table_mut()
            .ok_or_else(|| Error::SetPath { key: key.to_owned(), part: part.to_owned() })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

fn value(key: &str, text: &str) -> Result<Value> {
    let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match parsed {
        Some(value) => Ok(value),
        None if whole && text.parse::<i64>().is_err() => {
            Err(Error::SetNumber { key: key.to_owned(), found: text.to_owned() })
        }
        None => Ok(Value::String(text.to_owned())),
    }
}

/// A table is set key by key, or by another table.
fn check_table(key: &str, value: &Value) -> Result<()> {
    let Ok(defaults) = Table::try_from(RunFile::default()) else {
        return Ok(());
    };
    let mut parts = key.split('.');
    let first = parts.next().and_then(|part| defaults.get(part));
    let there = parts.try_fold(first, |at, part| Some(at?.as_table()?.get(part)));
    match there.flatten().and_then(Value::as_table) {
        Some(table) if !value.is_table() => Err(Error::SetTable {
            key: key.to_owned(),
            found: value.to_string(),
            example: table.keys().next().cloned().unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// Puts the preset's shape below what `[model.lm]` says.
pub(super) fn resolve_preset(table: &mut Table) -> std::result::Result<(), matformer_lm::Error> {
    let model = table.get_mut("model").and_then(Value::as_table_mut);
    let Some(Value::String(name)) = model.and_then(|model| model.remove("preset")) else {
        return Ok(());
    };
    lay_below(table, &name.parse::<Preset>()?.config());
    Ok(())
}

/// Puts a shape below what `[model.lm]` says: it holds where the table is silent.
pub(super) fn lay_below(table: &mut Table, shape: &MatLmConfig) {
    let Ok(mut lm) = Table::try_from(shape) else {
        return;
    };
    let model = table.entry("model").or_insert_with(|| Value::Table(Table::new()));
    if let Some(model) = model.as_table_mut() {
        if let Some(Value::Table(given)) = model.remove("lm") {
            lm.extend(given);
        }
        model.insert("lm".to_owned(), Value::Table(lm));
    }
}

/// The first key in which two values differ, and what they hold there.
pub(super) fn difference(key: &str, a: &Value, b: &Value) -> Option<(String, String, String)> {
    let (Value::Table(ta), Value::Table(tb)) = (a, b) else {
        return (a != b).then(|| (key.to_owned(), a.to_string(), b.to_string()));
    };
    let join = |name: &str| match key {
        "" => name.to_owned(),
        _ => format!("{key}.{name}"),
    };
    for name in ta.keys().chain(tb.keys().filter(|name| !ta.contains_key(*name))) {
        let found = match (ta.get(name), tb.get(name)) {
            (Some(a), Some(b)) => difference(&join(name), a, b),
            (a, b) => {
                let text = |v: Option<&Value>| v.map_or("absent".to_owned(), Value::to_string);
                Some((join(name), text(a), text(b)))
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
