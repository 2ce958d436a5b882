//! A run file as a TOML table: overrides, presets, and in what two differ.

use toml::{Table, Value};

use super::{
    Error, Result, RunFile, Tables,
    kinds::no_preset,
    paths::{self, Base},
};

/// Applies one `key=value`; a value that is not TOML is taken as a string.
pub(super) fn apply<T: Tables>(table: &mut Table, set: &str) -> Result<()> {
    let (key, value) = parse(set)?;
    check_table::<T>(key, &value)?;
    insert(table, key, value)?;
    without_aliases(table);
    Ok(())
}

/// The same, whatever the key.
pub(super) fn put(table: &mut Table, set: &str) -> Result<()> {
    let (key, value) = parse(set)?;
    insert(table, key, value)
}

/// What keys of `[train]` are called in runs of images, and what they are.
pub(super) const ALIASES: [(&str, &str); 2] =
    [("images_per_step", "tokens_per_step"), ("eval_images", "eval_tokens")];

/// Gives the keys of a table one name each, so that one above another replaces it.
pub(super) fn without_aliases(table: &mut Table) {
    let Some(Value::Table(train)) = table.get_mut("train") else { return };
    for (alias, name) in ALIASES {
        if let Some(value) = train.remove(alias) {
            train.insert(name.to_owned(), value);
        }
    }
}

fn parse(set: &str) -> Result<(&str, Value)> {
    let malformed = || Error::Set { found: set.to_owned() };
    let (key, text) = set.split_once('=').ok_or_else(malformed)?;
    let key = key.trim();
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(malformed());
    }
    let value = value(key, text.trim())?;
    // Spelled as the same path in a run file is.
    let mut one = Table::new();
    insert(&mut one, key, value.clone())?;
    paths::read(&mut one, &Base::here());
    Ok((key, get(&one, key).unwrap_or(value)))
}

fn get(table: &Table, key: &str) -> Option<Value> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |at, part| at.as_table()?.get(part)).cloned()
}

fn insert(table: &mut Table, key: &str, value: Value) -> Result<()> {
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
fn check_table<T: Tables>(key: &str, value: &Value) -> Result<()> {
    let Ok(defaults) = Table::try_from(RunFile::<T>::default()) else {
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

/// Puts the preset's shape below what the model's table says.
pub(super) fn resolve_preset<T: Tables>(table: &mut Table) -> Result<()> {
    let model = table.get_mut("model").and_then(Value::as_table_mut);
    let Some(Value::String(name)) = model.and_then(|model| model.remove("preset")) else {
        return Ok(());
    };
    let shape = T::preset(&name).ok_or_else(|| no_preset::<T>(&name))?;
    lay_below::<T>(table, &shape);
    Ok(())
}

/// Puts a shape below what the model's table says: it holds where the table is silent.
pub(super) fn lay_below<T: Tables>(table: &mut Table, shape: &T::Shape) {
    let Ok(mut below) = Table::try_from(shape) else {
        return;
    };
    let model = table.entry("model").or_insert_with(|| Value::Table(Table::new()));
    if let Some(model) = model.as_table_mut() {
        if let Some(Value::Table(given)) = model.remove(T::NAME) {
            below.extend(given);
        }
        model.insert(T::NAME.to_owned(), Value::Table(below));
    }
}

/// Puts the keys of a table above those of another, table by table.
pub(super) fn lay_above(table: &mut Table, above: Table) {
    for (key, value) in above {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_above(below, above),
            (_, value) => drop(table.insert(key, value)),
        }
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
