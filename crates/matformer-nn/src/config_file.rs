//! Hugging Face's `config.json`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use matformer_core::fs;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Name of the file.
pub const CONFIG: &str = "config.json";

/// A folder's `config.json`, to be read key by key.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// What keys are below, for messages: `text_config.`.
    prefix: String,
    value: Value,
    /// The files beside it, where they are not in a folder.
    files: Option<BTreeMap<String, Vec<u8>>>,
}

impl ConfigFile {
    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// When it is missing or not JSON.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = fs::read_to_string(&path)?;
        match serde_json::from_str(&text) {
            Ok(value @ Value::Object(_)) => {
                Ok(Self { path, prefix: String::new(), value, files: None })
            }
            Ok(other) => Err(file(&path, other.to_string(), "a JSON object")),
            Err(error) => Err(file(&path, error.to_string(), "a JSON object")),
        }
    }

    /// The keys that a `config.json` would have, and the contents of files that would lie beside it,
    /// of a model that `path` holds in another form. Errors name `path`.
    pub fn of(
        path: &Path,
        keys: Map<String, Value>,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Self {
        let files = Some(files.into_iter().collect());
        let (path, value) = (path.to_owned(), Value::Object(keys));
        Self { path, prefix: String::new(), value, files }
    }

    /// The object at a key as a file of its own; errors name the key.
    ///
    /// # Errors
    /// When there is no object at the key; `expected` says what should be there.
    pub fn section(&self, key: &str, expected: &str) -> Result<Self> {
        let value = self.get(key).filter(|value| value.is_object()).cloned();
        Ok(Self {
            value: value.ok_or_else(|| self.wrong(key, expected))?,
            path: self.path.clone(),
            prefix: format!("{}{key}.", self.prefix),
            files: self.files.clone(),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a key holds; `None` also for `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// What a key holds, also where that is `null`.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.value.get(key)
    }

    /// The whole file as a configuration that is written as it is in memory.
    ///
    /// # Errors
    /// When a key is missing or holds something else.
    pub fn parse<C: DeserializeOwned>(&self) -> Result<C> {
        C::deserialize(&self.value)
            .map_err(|error| file(&self.path, error.to_string(), "the keys of a configuration"))
    }

    /// The JSON object in another file of the same folder; `None` where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a JSON object.
    pub fn beside(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let path = self.path.with_file_name(name);
        let bytes = match &self.files {
            Some(files) => files.get(name).cloned(),
            None if path.exists() => Some(fs::read(&path)?),
            None => None,
        };
        let object = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes)
                .map_err(|error| file(&path, error.to_string(), "a JSON object"))
        };
        bytes.map(object).transpose()
    }

    /// The error of a key that does not hold what was expected.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        self.wrong_value(key, self.value.get(key).unwrap_or(&Value::Null), expected)
    }

    /// The same error of a value that was found at `key`.
    pub fn wrong_value(&self, key: &str, found: &Value, expected: &str) -> Error {
        file(&self.path, format!("`{}{key}`: {found}", self.prefix), expected)
    }

    /// A size.
    ///
    /// # Errors
    /// When it is missing or not a whole number.
    pub fn number(&self, key: &str) -> Result<usize> {
        let number = self.get(key).and_then(Value::as_u64);
        number.map(|n| n as usize).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// A size that may be missing.
    ///
    /// # Errors
    /// When it is not a whole number.
    pub fn optional(&self, key: &str) -> Result<Option<usize>> {
        self.get(key).map(|_| self.number(key)).transpose()
    }

    /// A list of sizes that may be missing.
    ///
    /// # Errors
    /// When it is not a list of whole numbers.
    pub fn optional_list(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.typed(key, "a list of whole numbers")
    }

    /// A number that may be missing.
    ///
    /// # Errors
    /// When it is not a number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number")
    }

    /// A switch, off where it is missing.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn flag(&self, key: &str) -> Result<bool> {
        Ok(self.typed(key, "`true` or `false`")?.unwrap_or(false))
    }

    fn typed<T: DeserializeOwned>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        let parse = |value| T::deserialize(value).map_err(|_| self.wrong(key, expected));
        self.get(key).map(parse).transpose()
    }

    /// A text, if it is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// Checks a key that must hold `expected` where it is given.
    ///
    /// # Errors
    /// When it holds something else; `because` is added to what was expected.
    pub fn check(&self, key: &str, expected: impl Into<Value>, because: &str) -> Result<()> {
        let expected = expected.into();
        match self.get(key) {
            Some(found) if *found != expected => {
                Err(self.wrong(key, &format!("{}{because}", readable(&expected))))
            }
            _ => Ok(()),
        }
    }

    /// Turns the error of a configuration that does not make a model into one of this file. `key`
    /// gives the file's name for a field.
    pub fn blame(&self, error: Error, key: impl Fn(&str) -> &str) -> Error {
        match error {
            Error::Config { field, found, expected } => {
                file(&self.path, format!("`{}{}` is {found}", self.prefix, key(&field)), &expected)
            }
            Error::Core(error) if !matches!(error, matformer_core::Error::Io { .. }) => {
                file(&self.path, error.to_string(), "a configuration that makes a model")
            }
            other => other,
        }
    }
}

fn file(path: &Path, found: String, expected: &str) -> Error {
    Error::File { path: path.to_owned(), found, expected: expected.to_owned() }
}

/// As a person writes it: texts in backticks.
fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}
