//! Control tokens: which they are, and that no text is mistaken for one.

use std::borrow::Cow;
use std::path::Path;

use matformer_core::fs;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, ModelWrapper};

use crate::{Error, Result};

/// The token that begins a text, ends one, and separates documents; id 0 in the tokenizers that we
/// train.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The name of a tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// The name of the file that Hugging Face transformers reads beside it.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// An older file of transformers that names special tokens.
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// What the files beside a `tokenizer.json` say.
pub(crate) struct Special {
    /// `tokenizer_config.json`, as it is or with the tokens that it does not name.
    pub config: String,
    pub bos: Option<String>,
    /// None where no file names one.
    pub eos: Option<String>,
    pub pad: Option<String>,
}

impl Special {
    /// Reads the files beside `tokenizer`; either may be missing.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read, [`Error::Tokenizer`] if it is not an object.
    pub(crate) fn beside(tokenizer: &Path) -> Result<Self> {
        let (text, mut config) = object(&tokenizer.with_file_name(TOKENIZER_CONFIG_FILE))?;
        let (_, map) = object(&tokenizer.with_file_name(SPECIAL_TOKENS_MAP))?;
        let mut changed = text.is_none();
        let mut named = |key: &str| {
            if let Some(token) = token(&config, key) {
                return Some(token.to_owned());
            }
            let token = token(&map, key)?.to_owned();
            config.insert(key.to_owned(), json!(token));
            changed = true;
            Some(token)
        };
        let bos = named("bos_token");
        let eos = named("eos_token");
        let pad = named("pad_token");
        if eos.is_none() {
            config.insert("eos_token".to_owned(), json!(END_OF_TEXT));
            changed = true;
        }
        if !config.contains_key("tokenizer_class") {
            config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        }
        let config = match text {
            Some(text) if !changed => text,
            _ => format!("{:#}\n", Value::Object(config)),
        };
        Ok(Self { config, bos, eos, pad })
    }
}

/// The `tokenizer_config.json` of a tokenizer that is trained here.
pub(crate) fn of_trained() -> String {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false,
    });
    format!("{config:#}\n")
}

/// A file that holds an object, and its text; an empty object where there is no file.
pub(crate) fn object(path: &Path) -> Result<(Option<String>, Map<String, Value>)> {
    if !path.is_file() {
        return Ok((None, Map::new()));
    }
    let text = fs::read_to_string(path)?;
    let object = serde_json::from_str(&text)
        .map_err(|error| Error::Tokenizer { path: path.into(), reason: error.to_string() })?;
    Ok((Some(text), object))
}

/// A special token: a string, or an object with `content`.
pub(crate) fn token<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// A `tokenizer.json` without the dropout of BPE merges: it varies tokens at random while a model is
/// trained, and here each text has the same tokens whenever it is encoded.
pub(crate) fn without_dropout(bytes: &[u8]) -> Cow<'_, [u8]> {
    // Most files have it as null: nothing is parsed for that.
    let name = b"\"dropout\"";
    let value = bytes.windows(name.len()).position(|part| part == name).map(|at| at + name.len());
    let between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    let mut value = bytes[value.unwrap_or(bytes.len())..].iter().skip_while(|byte| between(byte));
    if value.next().is_none_or(|first| *first == b'n') {
        return Cow::Borrowed(bytes);
    }
    let Ok(mut json) = serde_json::from_slice::<Value>(bytes) else {
        return Cow::Borrowed(bytes);
    };
    let Some(dropout) = json.pointer_mut("/model/dropout").filter(|value| !value.is_null()) else {
        return Cow::Borrowed(bytes);
    };
    *dropout = Value::Null;
    Cow::Owned(json.to_string().into_bytes())
}

/// Makes the spelling of special tokens, and of those in `control`, ordinary text.
///
/// # Errors
/// What the tokenizers library says.
pub(crate) fn spell_as_text(
    tokenizer: &mut tokenizers::Tokenizer,
    control: &[u32],
) -> tokenizers::Result<()> {
    let named: Vec<String> = control.iter().filter_map(|id| tokenizer.id_to_token(*id)).collect();
    // The library encodes the spelling of special tokens as text, but only of those that are said
    // to be special.
    tokenizer.add_special_tokens(named.into_iter().map(|name| AddedToken::from(name, true)))?;
    tokenizer.set_encode_special_tokens(true);
    // A vocabulary may hold the spelling itself as a piece. The token of what is unknown is no such
    // piece: it has other spellings too.
    let encoded = |text: &str| tokenizer.encode_fast(text, false).map(|e| e.get_ids().to_vec());
    let unknown = encoded("\u{10ffff}").unwrap_or_default();
    let mut pieces = Vec::new();
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let found = encoded(&token.content).is_ok_and(|ids| ids.contains(&id));
        if token.special && found && !unknown.contains(&id) {
            pieces.push(token.content);
        }
    }
    if !pieces.is_empty() {
        let mut model = serde_json::to_value(tokenizer.get_model())?;
        rename(&mut model, &pieces);
        // A piece that merges are made of cannot be renamed: it is ordinary text.
        if let Ok(model) = serde_json::from_value::<ModelWrapper>(model) {
            tokenizer.with_model(model);
        }
    }
    Ok(())
}

/// Gives pieces of a vocabulary names that no text has. The one for unknown words keeps its own:
/// models look it up by name, and its spelling is an unknown word.
fn rename(model: &mut Value, pieces: &[String]) {
    let unknown = model.get("unk_token").and_then(Value::as_str).map(ToOwned::to_owned);
    let renamed = |piece: &str| {
        let ours = pieces.iter().any(|name| name == piece) && unknown.as_deref() != Some(piece);
        ours.then(|| format!("\u{10ffff}{piece}\u{10ffff}"))
    };
    match model.get_mut("vocab") {
        // Of Unigram: pairs of a piece and its score.
        Some(Value::Array(vocab)) => {
            for piece in vocab.iter_mut().filter_map(|pair| pair.get_mut(0)) {
                if let Some(name) = piece.as_str().and_then(&renamed) {
                    *piece = json!(name);
                }
            }
        }
        Some(Value::Object(vocab)) => {
            *vocab = std::mem::take(vocab)
                .into_iter()
                .map(|(piece, id)| (renamed(&piece).unwrap_or(piece), id))
                .collect();
        }
        _ => {}
    }
}
