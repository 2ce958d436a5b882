//! The keys of a tokenizer in the metadata, and the tokens of its vocabulary.

use std::{collections::HashSet, path::Path};

use matformer_nn::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::token_type;
use crate::gguf::container::{Array, Container, Value};

/// The keys of the metadata below `tokenizer`.
pub(super) struct Keys<'a> {
    pub(super) container: &'a Container,
    pub(super) file: &'a [u8],
    pub(super) path: &'a Path,
}

impl<'a> Keys<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(&format!("tokenizer.{key}"))
    }

    pub(super) fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.get(key) {
            Some(value) => format!("`tokenizer.{key}` is {value}"),
            None => format!("no `tokenizer.{key}`"),
        };
        self.error(found, expected)
    }

    pub(super) fn error(&self, found: String, expected: &str) -> Error {
        Error::File { path: self.path.to_owned(), found, expected: expected.to_owned() }
    }

    pub(super) fn file_error(&self, found: String) -> Error {
        self.error(found, "a tokenizer that JSON can hold")
    }

    pub(super) fn array(&self, key: &str) -> Option<&'a Array> {
        match self.get(key) {
            Some(Value::Array(array)) => Some(array),
            _ => None,
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        let texts = self.array(key).and_then(|array| array.texts(self.file));
        texts.ok_or_else(|| self.wrong(key, "an array of texts"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "a bool")),
        }
    }
}

/// The tokens of a file.
pub(super) struct Vocabulary<'a> {
    pub(super) tokens: Vec<&'a str>,
    /// What each is: one of [`token_type`].
    pub(super) types: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn read(keys: &Keys<'a>, vocab_size: usize) -> Result<Self> {
        let key = "ggml.tokens";
        let tokens = keys.texts(key)?;
        if tokens.len() != vocab_size {
            let found = format!("`tokenizer.{key}` has {} tokens", tokens.len());
            return Err(keys.error(found, &format!("{vocab_size}, the rows of the embedding")));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = tokens.iter().find(|token| !seen.insert(**token)) {
            let found = format!("`tokenizer.{key}` has `{}` twice", short(twice));
            return Err(keys.error(found, "each token once"));
        }
        let key = "ggml.token_type";
        let types = match keys.get(key) {
            None => vec![token_type::NORMAL; tokens.len()],
            Some(_) => {
                let types = keys.array(key).and_then(|array| array.integers(keys.file));
                let types = types.filter(|types| types.len() == tokens.len());
                let expected = format!("{} integers, one per token", tokens.len());
                types.ok_or_else(|| keys.wrong(key, &expected))?
            }
        };
        Ok(Self { tokens, types })
    }

    /// The tokens that are found in a text as they are, before it is split.
    pub(super) fn added(&self) -> Vec<Json> {
        let entry = |(id, (token, kind)): (usize, (&&str, &i64))| {
            let special = [token_type::CONTROL, token_type::UNKNOWN].contains(kind);
            let added = special || *kind == token_type::USER_DEFINED;
            // An empty token would be found everywhere.
            (added && !token.is_empty()).then(|| {
                json!({
                    "id": id,
                    "content": token,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": special,
                })
            })
        };
        self.tokens.iter().zip(&self.types).enumerate().filter_map(entry).collect()
    }

    /// Token to id, as `tokenizer.json` has it.
    pub(super) fn json(&self) -> Map<String, Json> {
        let entry = |(id, token): (usize, &&str)| ((*token).to_owned(), json!(id));
        self.tokens.iter().enumerate().map(entry).collect()
    }
}

/// A token for messages.
pub(super) fn short(token: &str) -> String {
    token.chars().take(40).collect()
}
