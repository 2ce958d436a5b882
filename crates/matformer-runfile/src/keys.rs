//! The keys of run files: their names, types and defaults, and what they do. Whatever names a key reads this
//! table: the check of a run file and its hints, the comments of a first run file, `matformer keys`, and
//! the tables in docs/formats.md.

mod table;

use toml::{Table, Value};

pub use table::KEYS;

use crate::{RunFile, RunKind, Tables, table::ALIASES, visit};

/// A key of run files.
#[derive(Debug)]
pub struct Key {
    /// The key with its tables: `train.steps`.
    pub path: &'static str,
    /// The kind of model whose run files have it; both if none.
    pub kind: Option<RunKind>,
    /// What its value is.
    pub value: ValueType,
    /// A value, for a key that is absent by default.
    pub example: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
    /// Which first run files show it.
    pub shown: Shown,
}

/// What the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueType {
    /// A whole number, 0 or more.
    Whole,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of whole numbers.
    Wholes,
    /// A list of numbers.
    Numbers,
    /// A list of texts.
    Texts,
    /// Something of which there is more to check, in a few words.
    Other(&'static str),
}

/// Which first run files show a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// None.
    Never,
    /// Those of this kind of model.
    Of(RunKind),
    /// Those of all kinds that have it.
    Always,
}

impl ValueType {
    /// Its name, as an error or a page says what is expected.
    pub fn name(self) -> String {
        match self {
            Self::Whole => "a whole number, 0 or more".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Wholes => "a list of whole numbers".to_owned(),
            Self::Numbers => "a list of numbers".to_owned(),
            Self::Texts => "a list of strings".to_owned(),
            Self::Other(name) => name.to_owned(),
            Self::Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                match &words[..] {
                    [words @ .., last] if !words.is_empty() => {
                        format!("{} or {last}", words.join(", "))
                    }
                    words => words.concat(),
                }
            }
        }
    }

    fn accepts(self, value: &Value) -> bool {
        let whole = |value: &Value| value.as_integer().is_some_and(|n| n >= 0);
        let number = |value: &Value| value.is_float() || value.is_integer();
        let all =
            |is: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(is));
        match self {
            Self::Whole => whole(value),
            Self::Number => number(value),
            Self::Bool => value.is_bool(),
            Self::Text => value.is_str(),
            Self::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Wholes => all(&whole),
            Self::Numbers => all(&number),
            Self::Texts => all(&Value::is_str),
            Self::Other(_) => true,
        }
    }
}

impl Key {
    /// The table that it is in, and its own name.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// Whether run files of this kind of model have it.
    pub fn is_of(&self, kind: RunKind) -> bool {
        self.kind.is_none_or(|own| own == kind)
    }

    /// Whether first run files of this kind of model show it.
    pub fn is_shown(&self, kind: RunKind) -> bool {
        self.is_of(kind)
            && match self.shown {
                Shown::Never => false,
                Shown::Of(shown) => kind == shown,
                Shown::Always => true,
            }
    }

    /// Its default as TOML, in runs of a kind that has it; none where it is absent by default.
    pub fn default(&self) -> Option<String> {
        visit!(self.kind.unwrap_or_default(), default_of(self.path))
    }
}

fn default_of<T: Tables>(path: &str) -> Option<String> {
    let defaults = Table::try_from(RunFile::<T>::default()).ok()?;
    let canonical = canonical(path);
    let mut parts = canonical.split('.');
    let first = defaults.get(parts.next()?)?;
    let found = parts.try_fold(first, |at, part| at.as_table()?.get(part))?;
    (!found.is_table()).then(|| found.to_string())
}

/// The name under which a run file keeps a key of `[train]` that has two.
fn canonical(path: &str) -> String {
    let alias = |(alias, _): &&(&str, &str)| path.strip_prefix("train.") == Some(*alias);
    let name = ALIASES.iter().find(alias).map(|(_, name)| format!("train.{name}"));
    name.unwrap_or_else(|| path.to_owned())
}

/// What is wrong with a key of a run file.
#[derive(Debug, PartialEq)]
pub(crate) struct Wrong {
    /// The key with its tables.
    pub(crate) key: String,
    /// What it is and should be, for a key that there is.
    pub(crate) value: Option<(String, String)>,
}

/// Checks the names of all keys of a run file of this kind, and the types of their values.
pub(crate) fn check<T: Tables>(table: &Table) -> Result<(), Wrong> {
    below::<T>("", table)
}

fn below<T: Tables>(prefix: &str, table: &Table) -> Result<(), Wrong> {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let wrong = |found: String, expected: String| {
            Err(Wrong { key: path.clone(), value: Some((found, expected)) })
        };
        match (find::<T>(&path), value) {
            (Some(key), value) if key.value.accepts(value) => {}
            (Some(key), Value::Table(_)) => return wrong("a table".to_owned(), key.value.name()),
            (Some(key), value) => return wrong(value.to_string(), key.value.name()),
            (None, Value::Table(table)) if is_table::<T>(&path) => below::<T>(&path, table)?,
            (None, value) if is_table::<T>(&path) => {
                return wrong(value.to_string(), "a table".to_owned());
            }
            (None, _) => return Err(Wrong { key: path, value: None }),
        }
    }
    Ok(())
}

/// The key of this path that runs of a kind have, under either of its names.
fn find<T: Tables>(path: &str) -> Option<&'static Key> {
    let same = |key: &&Key| key.path == path || canonical(key.path) == canonical(path);
    // What of `[train]` is for one kind only is said by the check of the run.
    let has = |key: &&Key| key.is_of(T::KIND) || key.path.starts_with("train.");
    KEYS.iter().filter(has).find(same)
}

fn is_table<T: Tables>(path: &str) -> bool {
    let inside = |key: &Key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    KEYS.iter().filter(|key| key.is_of(T::KIND)).any(inside)
}

/// What was probably meant by a key that runs of this kind do not have: the nearest key of its table, or
/// the table that has a key of this name.
pub(crate) fn meant<T: Tables>(key: &str) -> Option<String> {
    let tables = RunKind::ALL.map(|kind| format!("model.{}", kind.called().name));
    if tables.iter().any(|table| table == key) {
        let tables = tables.map(|table| format!("`{table}`")).join(" or ");
        return Some(format!("a run is of one kind of model: it has {tables}"));
    }
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let known = names_in::<T>(table);
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        // A third of the letters: `stepz`, `learning_rat`, `batchrows`, not `foo`.
        .filter(|(distance, known)| distance * 3 <= known.len().max(3));
    if let Some((_, known)) = nearest {
        return Some(format!("did you mean `{known}`?"));
    }
    let same = |key: &&Key| key.parts().1 == name && key.parts().0 != table;
    let other = KEYS.iter().find(same)?;
    Some(format!("`{name}` is a key of the table `{}`", other.parts().0))
}

/// The names of keys and tables in a table.
fn names_in<T: Tables>(table: &str) -> Vec<&'static str> {
    let inside = |key: &'static Key| {
        let rest = match table {
            "" => key.path,
            table => key.path.strip_prefix(table)?.strip_prefix('.')?,
        };
        rest.split('.').next()
    };
    let mut names: Vec<&str> =
        KEYS.iter().filter(|key| key.is_of(T::KIND)).filter_map(inside).collect();
    names.dedup();
    names
}

/// The keys of a kind as a table of Markdown.
pub fn markdown(kind: RunKind) -> String {
    let mut text = "| key | value | default | what it does |\n|---|---|---|---|\n".to_owned();
    for key in KEYS.iter().filter(|key| key.is_of(kind)) {
        let default = match (key.default(), key.example) {
            (Some(default), _) => format!("`{default}`"),
            (None, Some(example)) => format!("absent; such as `{example}`"),
            (None, None) => "absent".to_owned(),
        };
        let value = key.value.name().replace('|', "\\|");
        text += &format!("| `{}` | {value} | {default} | {} |\n", key.path, key.about);
    }
    text
}

#[cfg(test)]
mod tests;
