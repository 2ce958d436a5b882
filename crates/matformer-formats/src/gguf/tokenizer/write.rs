//! The tokenizer in Hugging Face's files as metadata of a GGUF file.

use std::collections::HashSet;

use matformer_nn::Result;
use serde_json::{Map, Value as Json};

use super::{
    SPACE, merges,
    pre::Pre,
    special::{chat_template, special_tokens},
    token_type,
    tokens::{JsonFile, Sources, Tokens, Written, shortened},
};
use crate::gguf::output::Value;

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
