//! What is read of a tokenizer's files, before it is metadata.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use matformer_core::fs;
use matformer_nn::{Error, Result};
use serde_json::Value as Json;

use super::token_type;
use crate::gguf::output::Value;

/// Metadata of a tokenizer, and what llama.cpp does otherwise than the tokenizer.
#[derive(Debug, Default)]
pub(in super::super) struct Written {
    /// Keys below `tokenizer`.
    pub(in super::super) metadata: Vec<(String, Value)>,
    pub(in super::super) notes: Vec<String>,
}

impl Written {
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.metadata.push((format!("tokenizer.{key}"), value));
    }
}

/// Where a tokenizer is read from.
pub(in super::super) struct Sources<'a> {
    /// The folder of its files.
    pub(in super::super) dir: &'a Path,
    /// What stands in place of `tokenizer_config.json`.
    pub(in super::super) config: Option<&'a str>,
    /// The token that begins a text, as the model has it.
    pub(in super::super) bos: Option<u32>,
    /// Those that end one.
    pub(in super::super) ends: Vec<u32>,
}

/// A JSON file, and where it lies.
pub(super) struct JsonFile {
    pub(super) path: PathBuf,
    pub(super) json: Json,
}

impl JsonFile {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path)?;
        Self::of(path, &text)
    }

    pub(super) fn of(path: PathBuf, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(json @ Json::Object(_)) => Ok(Self { path, json }),
            Ok(_) => Err(wrong(&path, "no JSON object", "a JSON object")),
            Err(error) => Err(wrong(&path, &error.to_string(), "a JSON object")),
        }
    }

    pub(super) fn wrong(&self, found: &str, expected: &str) -> Error {
        wrong(&self.path, found, expected)
    }

    pub(super) fn list(&self, key: &str) -> &[Json] {
        self.json[key].as_array().map_or(&[], Vec::as_slice)
    }
}

fn wrong(path: &Path, found: &str, expected: &str) -> Error {
    Error::File { path: path.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

/// The tokens of a vocabulary by id, and what they are.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    pub(super) texts: Vec<String>,
    pub(super) types: Vec<i32>,
    ids: HashMap<String, usize>,
    /// Special tokens with ids beyond the embedding: the model can neither read nor write them.
    pub(super) left_out: Vec<String>,
}

impl Tokens {
    pub(super) fn read(file: &JsonFile, vocab_size: usize) -> Result<Self> {
        let Some(vocab) = file.json["model"]["vocab"].as_object() else {
            let found = format!("`model` of type {}", file.json["model"]["type"]);
            return Err(file.wrong(&found, "a BPE tokenizer, with a table `vocab`"));
        };
        let mut texts: BTreeMap<usize, (&str, i64)> = BTreeMap::new();
        let beyond = |id: &Json, token: &str| {
            let found = format!("token `{token}` with id {id}");
            file.wrong(&found, &format!("an id below {vocab_size}, the rows of the embedding"))
        };
        let is_beyond = |added: &&Json| {
            added["special"] == true && added["id"].as_u64() >= Some(vocab_size as u64)
        };
        let left_out: Vec<String> = file
            .list("added_tokens")
            .iter()
            .filter(is_beyond)
            .filter_map(|added| added["content"].as_str().map(str::to_owned))
            .collect();
        for (token, id) in vocab.iter().filter(|(token, _)| !left_out.contains(token)) {
            let index = id.as_u64().filter(|id| *id < vocab_size as u64);
            let index = index.ok_or_else(|| beyond(id, token))? as usize;
            if let Some((other, _)) = texts.insert(index, (token, token_type::NORMAL)) {
                let found = format!("tokens `{other}` and `{token}` with id {index}");
                return Err(file.wrong(&found, "one token per id"));
            }
        }
        for added in file.list("added_tokens").iter().filter(|added| !is_beyond(added)) {
            let token = added["content"].as_str().unwrap_or_default();
            let index = added["id"].as_u64().filter(|id| *id < vocab_size as u64);
            let index = index.ok_or_else(|| beyond(&added["id"], token))? as usize;
            let special = added["special"] == true;
            let kind = if special { token_type::CONTROL } else { token_type::USER_DEFINED };
            match texts.insert(index, (token, kind)) {
                Some((other, _)) if other != token => {
                    let found = format!("tokens `{other}` and `{token}` with id {index}");
                    return Err(file.wrong(&found, "one token per id"));
                }
                _ => {}
            }
        }
        Ok(Self { left_out, ..Self::of(file, &texts, vocab_size)? })
    }

    /// Fills up what has no token with unused ones, as llama.cpp's converter does.
    fn of(file: &JsonFile, known: &BTreeMap<usize, (&str, i64)>, n: usize) -> Result<Self> {
        let mut tokens = Self::default();
        for id in 0..n {
            let (text, kind) = match known.get(&id) {
                Some((text, kind)) => ((*text).to_owned(), *kind),
                None => (format!("[PAD{id}]"), token_type::UNUSED),
            };
            if tokens.ids.insert(text.clone(), id).is_some() {
                return Err(file.wrong(&format!("token `{text}` twice"), "each token once"));
            }
            tokens.texts.push(text);
            tokens.types.push(kind as i32);
        }
        Ok(tokens)
    }

    /// The tokens of a text that llama.cpp takes for special ones, though they are not.
    pub(super) fn found_anyway(&self) -> impl Iterator<Item = &'static str> {
        let control = |id: usize| i64::from(self.types[id]) == token_type::CONTROL;
        let other = move |text: &&str| self.id(text).is_some_and(|id| !control(id));
        SPECIAL_BY_TEXT.into_iter().filter(other)
    }

    /// The token with an id.
    pub(super) fn text(&self, id: usize) -> Option<&str> {
        self.texts.get(id).map(String::as_str)
    }

    /// Whether a special token has no row in the embedding.
    pub(super) fn is_left_out(&self, text: &str) -> bool {
        self.left_out.iter().any(|token| token == text)
    }

    /// The id of a token.
    pub(super) fn id(&self, text: &str) -> Option<usize> {
        self.ids.get(text).copied()
    }
}

/// Tokens that llama.cpp makes special by their text, of those that vocabularies have as text or as added
/// tokens that are not special.
const SPECIAL_BY_TEXT: [&str; 14] = [
    "</s>",
    "<eos>",
    "<EOT>",
    "[EOS]",
    "[EOT]",
    "[PAD]",
    "<PAD>",
    "<PRE>",
    "<SUF>",
    "<MID>",
    "<REPO>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// A part of a JSON file for messages.
pub(super) fn shortened(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
