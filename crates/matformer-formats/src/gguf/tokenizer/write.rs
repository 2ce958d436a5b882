//! The tokenizer in Hugging Face's files as metadata of a GGUF file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use matformer_core::fs;
use matformer_nn::{Error, Result};
use serde_json::{Map, Value as Json};

use super::{
    SPACE, merges,
    pre::Pre,
    special::{chat_template, special_tokens},
    token_type,
};
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

/// Reads the tokenizer of a model with `vocab_size` embeddings.
///
/// # Errors
/// When a file is missing or malformed, or llama.cpp has no tokenizer that gives the same tokens.
pub(in super::super) fn metadata(from: &Sources<'_>, vocab_size: usize) -> Result<Written> {
    let dir = from.dir;
    let file = JsonFile::read(dir.join("tokenizer.json"))?;
    let config_path = dir.join("tokenizer_config.json");
    let config = match from.config {
        Some(text) => JsonFile::of(config_path, text)?,
        None if config_path.exists() => JsonFile::read(config_path)?,
        None => JsonFile { path: config_path, json: Json::Object(Map::new()) },
    };
    let tokens = Tokens::read(&file, vocab_size)?;
    let mut written = Written::default();
    match file.json["model"]["byte_fallback"].as_bool() {
        Some(true) => sentence_piece(&file, tokens.clone(), &mut written)?,
        _ => byte_level(&file, &tokens, &mut written)?,
    }
    let kept = |token: &&Json| !token["content"].as_str().is_some_and(|t| tokens.is_left_out(t));
    for token in file.list("added_tokens").iter().filter(kept) {
        let strips = ["lstrip", "rstrip", "single_word"];
        if strips.iter().any(|key| token[*key] == true) {
            let name = token["content"].as_str().unwrap_or_default();
            written.notes.push(format!(
                "the tokenizer takes spaces around `{name}` with it or finds it only as a whole \
                 word; llama.cpp does not"
            ));
        }
    }
    if !tokens.left_out.is_empty() {
        written.notes.push(format!(
            "the special tokens `{}` have no row in the embedding: the file is without them",
            tokens.left_out.join("`, `")
        ));
    }
    for text in tokens.found_anyway() {
        written.notes.push(format!(
            "llama.cpp finds `{text}` in a text as a special token, which it is not in the tokenizer"
        ));
    }
    special_tokens(&file, &config, &tokens, from, &mut written)?;
    chat_template(dir, &config, &mut written)?;
    Ok(written)
}

/// A JSON file, and where it lies.
pub(super) struct JsonFile {
    path: PathBuf,
    pub(super) json: Json,
}

impl JsonFile {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path)?;
        Self::of(path, &text)
    }

    fn of(path: PathBuf, text: &str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(json @ Json::Object(_)) => Ok(Self { path, json }),
            Ok(_) => Err(wrong(&path, "no JSON object", "a JSON object")),
            Err(error) => Err(wrong(&path, &error.to_string(), "a JSON object")),
        }
    }

    pub(super) fn wrong(&self, found: &str, expected: &str) -> Error {
        wrong(&self.path, found, expected)
    }

    fn list(&self, key: &str) -> &[Json] {
        self.json[key].as_array().map_or(&[], Vec::as_slice)
    }
}

fn wrong(path: &Path, found: &str, expected: &str) -> Error {
    Error::File { path: path.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
}

/// The tokens of a vocabulary by id, and what they are.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    texts: Vec<String>,
    types: Vec<i32>,
    ids: HashMap<String, usize>,
    /// Special tokens with ids beyond the embedding: the model can neither read nor write them.
    left_out: Vec<String>,
}

impl Tokens {
    fn read(file: &JsonFile, vocab_size: usize) -> Result<Self> {
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
    fn found_anyway(&self) -> impl Iterator<Item = &'static str> {
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

/// The merges of a tokenizer, pairs of tokens.
fn merges(file: &JsonFile) -> Result<Vec<(&str, &str)>> {
    let list = file.json["model"]["merges"].as_array();
    let list = list.ok_or_else(|| file.wrong("no `merges` in `model`", "a list of merges"))?;
    fn pair(merge: &Json) -> Option<(&str, &str)> {
        match merge {
            Json::String(text) => text.split_once(' '),
            Json::Array(both) => match &both[..] {
                [Json::String(a), Json::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        }
    }
    let pairs = list.iter().map(|merge| {
        pair(merge).ok_or_else(|| file.wrong(&format!("merge {merge}"), "two tokens"))
    });
    pairs.collect()
}

/// Refuses what neither kind of tokenizer has in llama.cpp.
fn check_model(file: &JsonFile) -> Result<()> {
    let model = &file.json["model"];
    let is_bpe = model["type"] == "BPE" || model["type"].is_null();
    if !is_bpe {
        let found = format!("`model` of type {}", model["type"]);
        return Err(file.wrong(&found, "type `BPE`, byte-level or with byte fallback"));
    }
    for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        let value = &model[key];
        if !(value.is_null() || value == "" || value.as_f64() == Some(0.0)) {
            return Err(
                file.wrong(&format!("`model.{key}` is {value}"), "none: llama.cpp has no such")
            );
        }
    }
    Ok(())
}

/// A byte-level tokenizer: `gpt2`.
fn byte_level(file: &JsonFile, tokens: &Tokens, written: &mut Written) -> Result<()> {
    check_model(file)?;
    let ignore_merges = file.json["model"]["ignore_merges"] == true;
    let pre = Pre::of_json(&file.json["pre_tokenizer"], ignore_merges).map_err(|expected| {
        let found = format!("`pre_tokenizer` {}", shortened(&file.json["pre_tokenizer"]));
        file.wrong(&found, &expected)
    })?;
    match &file.json["normalizer"] {
        Json::Null => {}
        nfc if nfc["type"] == "NFC" => written.notes.push(
            "the tokenizer normalises a text to NFC (Unicode's form C) first; llama.cpp does not"
                .to_owned(),
        ),
        other => {
            let found = format!("`normalizer` {}", shortened(other));
            return Err(file.wrong(&found, "none or NFC: llama.cpp changes no letters"));
        }
    }
    let mut list = Vec::new();
    for (a, b) in merges(file)? {
        if a.contains(' ') || b.contains(' ') {
            let found = format!("merge of `{a}` and `{b}`");
            return Err(file.wrong(&found, "tokens without spaces, as bytes are written"));
        }
        list.push(format!("{a} {b}"));
    }
    written.put("ggml.model", Value::Text("gpt2".to_owned()));
    written.put("ggml.pre", Value::Text(pre.names[0].to_owned()));
    written.put("ggml.tokens", Value::Texts(tokens.texts.clone()));
    written.put("ggml.token_type", Value::Integers(tokens.types.clone()));
    written.put("ggml.merges", Value::Texts(list));
    Ok(())
}

/// A part of a JSON file for messages.
pub(super) fn shortened(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A tokenizer of the kind of SentencePiece: `llama`.
fn sentence_piece(file: &JsonFile, mut tokens: Tokens, written: &mut Written) -> Result<()> {
    check_model(file)?;
    let prefix = space_prefix(file, written)?;
    let unknown = file.json["model"]["unk_token"].as_str().and_then(|text| tokens.id(text));
    if let Some(id) = unknown {
        tokens.types[id] = token_type::UNKNOWN as i32;
        written.put("ggml.unknown_token_id", Value::Unsigned(id as u32));
    }
    for byte in 0..=255_u8 {
        let text = format!("<0x{byte:02X}>");
        let Some(id) = tokens.id(&text) else {
            let found = format!("no token `{text}`");
            return Err(file.wrong(&found, "a token for each of the 256 bytes"));
        };
        tokens.types[id] = token_type::BYTE as i32;
    }
    let scores = scores(file, &tokens)?;
    written.put("ggml.model", Value::Text("llama".to_owned()));
    written.put("ggml.pre", Value::Text("default".to_owned()));
    written.put("ggml.tokens", Value::Texts(tokens.texts));
    written.put("ggml.scores", Value::Floats(scores));
    written.put("ggml.token_type", Value::Integers(tokens.types));
    written.put("ggml.add_space_prefix", Value::Bool(prefix));
    Ok(())
}

/// Whether a space is put before a text. Other ways to write spaces are refused.
fn space_prefix(file: &JsonFile, written: &mut Written) -> Result<bool> {
    let replace = |json: &Json| {
        json["type"] == "Replace" && json["pattern"]["String"] == " " && json["content"] == SPACE
    };
    let prepend = |json: &Json| json["type"] == "Prepend" && json["prepend"] == SPACE;
    let (normalizer, pre) = (&file.json["normalizer"], &file.json["pre_tokenizer"]);
    if pre.is_null() {
        match normalizer["normalizers"].as_array().map(Vec::as_slice) {
            Some([first, second]) if prepend(first) && replace(second) => return Ok(true),
            Some([only]) if replace(only) => return Ok(false),
            None if replace(normalizer) => return Ok(false),
            _ => {}
        }
    }
    let metaspace = pre["type"] == "Metaspace" && pre["replacement"] == SPACE;
    if metaspace && normalizer.is_null() && pre["split"] == false {
        let scheme = pre["prepend_scheme"].as_str().unwrap_or("always");
        if scheme == "never" {
            return Ok(false);
        }
        let mut differs =
            "the tokenizer puts no space before a text that starts with one".to_owned();
        if scheme == "first" {
            differs += " or follows a special token";
        }
        written.notes.push(format!("{differs}; llama.cpp does"));
        return Ok(true);
    }
    let found =
        format!("`normalizer` {} and `pre_tokenizer` {}", shortened(normalizer), shortened(pre));
    Err(file.wrong(&found, "spaces that are written `▁`, with or without one before the text"))
}

/// Scores under which llama.cpp merges as the tokenizer does. It merges any two neighbours whose
/// concatenation is a token, by the token's score: the merges must be all that there are, those of
/// a token together.
fn scores(file: &JsonFile, tokens: &Tokens) -> Result<Vec<f32>> {
    let mut scores: Vec<Option<f32>> = vec![None; tokens.texts.len()];
    let merges = merges(file)?;
    let mut made = 0_u32;
    let mut last = None;
    for (a, b) in &merges {
        let Some(id) = tokens.id(&format!("{a}{b}")) else {
            let found = format!("merge of `{a}` and `{b}`");
            return Err(file.wrong(&found, "two tokens whose concatenation is a token"));
        };
        if last == Some(id) {
            continue;
        }
        if scores[id].is_some() {
            let found = format!("merges that make `{a}{b}`, with others in between");
            return Err(
                file.wrong(&found, "merges in the order of scores, as SentencePiece has them")
            );
        }
        // Exact: there are fewer tokens than an f32 can count.
        scores[id] = Some(-(made as f32));
        made += 1;
        last = Some(id);
    }
    let texts: Vec<&str> = tokens.texts.iter().map(String::as_str).collect();
    let found: HashSet<(&str, &str)> = merges.into_iter().collect();
    let normal = |id: usize| i64::from(tokens.types[id]) == token_type::NORMAL;
    let all: Vec<Option<f32>> =
        (0..texts.len()).map(|id| scores[id].or_else(|| normal(id).then_some(f32::MIN))).collect();
    if let Some(long) = texts.iter().find(|text| text.len() > merges::LONGEST) {
        let expected = format!("tokens of at most {} bytes", merges::LONGEST);
        return Err(file.wrong(&format!("a token of {} bytes", long.len()), &expected));
    }
    match merges::of_scores(&texts, &all).into_iter().find(|pair| !found.contains(pair)) {
        None => Ok(scores.into_iter().map(|score| score.unwrap_or(-(made as f32))).collect()),
        Some((a, b)) => {
            let found = format!("no merge of `{a}` and `{b}`, whose concatenation is a token");
            Err(file
                .wrong(&found, "every such merge, as SentencePiece has them: llama.cpp makes it"))
        }
    }
}
