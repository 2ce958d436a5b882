//! Hugging Face's `config.json`.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, fs};
use serde_json::Value;

use crate::{Error, Result};

/// Name of the file.
pub const CONFIG: &str = "config.json";

/// A folder's `config.json`, to be read key by key.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    value: Value,
}

impl ConfigFile {
    /// Reads the file in `dir`.
    ///
    /// # Errors
    /// When it is missing or no JSON.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = fs::read_to_string(&path)?;
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Self { path, value }),
            Err(error) => Err(file(&path, error.to_string(), "a JSON object")),
        }
    }

    /// What a key holds; `None` also for `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// A key that holds another thing than `expected`, as an error.
    pub fn wrong(&self, key: &str, expected: &str) -> Error {
        self.wrong_value(key, self.value.get(key).unwrap_or(&Value::Null), expected)
    }

    /// The same of what some key holds.
    pub fn wrong_value(&self, key: &str, found: &Value, expected: &str) -> Error {
        file(&self.path, format!("`{key}`: {found}"), expected)
    }

    /// A size.
    ///
    /// # Errors
    /// When it is missing or no whole number.
    pub fn number(&self, key: &str) -> Result<usize> {
        let number = self.get(key).and_then(Value::as_u64);
        number.map(|n| n as usize).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// A size that may be missing.
    ///
    /// # Errors
    /// When it is no whole number.
    pub fn optional(&self, key: &str) -> Result<Option<usize>> {
        self.get(key).map(|_| self.number(key)).transpose()
    }

    /// A number, if it is one.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_f64)
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

    /// Checks layers and widest width against the manifest's.
    ///
    /// # Errors
    /// When they differ.
    pub(crate) fn check_manifest(&self, manifest: &Manifest) -> Result<()> {
        let pairs =
            [("intermediate_size", manifest.d_ff), ("num_hidden_layers", manifest.n_layers)];
        for (key, theirs) in pairs {
            if self.number(key)? != theirs {
                return Err(self.wrong(key, &format!("{theirs}, as in `{}`", Manifest::FILE)));
            }
        }
        Ok(())
    }

    /// A configuration that makes no model, as an error of this file; `key` names a field as the
    /// file does.
    pub fn blame(&self, error: Error, key: impl Fn(&str) -> &str) -> Error {
        match error {
            Error::Config { field, found, expected } => {
                file(&self.path, format!("`{}` is {found}", key(&field)), &expected)
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
