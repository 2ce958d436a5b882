//! The tokenizer in a GGUF file as Hugging Face's files.

use std::{collections::HashSet, path::Path};

use matformer_nn::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::{
    SPACE,
    merges::{self, LONGEST},
    pre::{self, Pre},
    token_type,
};
use crate::gguf::{
    config::Described,
    container::{Array, Container, Value},
};

/// `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, or nothing where the
/// file has no tokenizer.
pub(in super::super) fn files(
    container: &Container,
    file: &[u8],
    path: &Path,
    described: &Described,
) -> Result<Vec<(String, Vec<u8>)>> {
    let keys = Keys { container, file, path };
    if keys.get("ggml.model").is_none() || keys.get("ggml.model") == Some(&no_vocabulary()) {
        return Ok(Vec::new());
    }
    let vocabulary = Vocabulary::read(&keys, described.vocab_size)?;
    let specials = Specials::read(&keys, &described.config)?;
    let (tokenizer, adds) = match keys.get("ggml.model") {
        Some(Value::Text(model)) if model == "gpt2" => byte_level(&keys, &vocabulary, &specials)?,
        Some(Value::Text(model)) if model == "llama" => {
            sentence_piece(&keys, &vocabulary, &specials)?
        }
        _ => return Err(keys.wrong("ggml.model", "`gpt2` or `llama`")),
    };
    let config = tokenizer_config(&keys, &vocabulary, &specials, &adds, described.context)?;
    let generation = generation_config(&keys, described)?;
    [
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ]
    .into_iter()
    .map(|(name, json)| {
        let text =
            serde_json::to_string_pretty(&json).map_err(|e| keys.file_error(e.to_string()))?;
        Ok((name.to_owned(), text.into_bytes()))
    })
    .collect()
}

/// The model that says that a file has no tokenizer.
fn no_vocabulary() -> Value {
    Value::Text("no_vocab".to_owned())
}

/// The keys of the metadata below `tokenizer`.
struct Keys<'a> {
    container: &'a Container,
    file: &'a [u8],
    path: &'a Path,
}

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.container.metadata.get(&format!("tokenizer.{key}"))
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = match self.get(key) {
            Some(value) => format!("`tokenizer.{key}` is {value}"),
            None => format!("no `tokenizer.{key}`"),
        };
        self.error(found, expected)
    }

    fn error(&self, found: String, expected: &str) -> Error {
        Error::File { path: self.path.to_owned(), found, expected: expected.to_owned() }
    }

    fn file_error(&self, found: String) -> Error {
        self.error(found, "a tokenizer that JSON can hold")
    }

    fn array(&self, key: &str) -> Option<&'a Array> {
        match self.get(key) {
            Some(Value::Array(array)) => Some(array),
            _ => None,
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        let texts = self.array(key).and_then(|array| array.texts(self.file));
        texts.ok_or_else(|| self.wrong(key, "an array of texts"))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a text")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "a bool")),
        }
    }
}

/// The tokens of a file.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    /// What each is: one of [`token_type`].
    types: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    fn read(keys: &Keys<'a>, vocab_size: usize) -> Result<Self> {
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
    fn added(&self) -> Vec<Json> {
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
    fn json(&self) -> Map<String, Json> {
        let entry = |(id, token): (usize, &&str)| ((*token).to_owned(), json!(id));
        self.tokens.iter().enumerate().map(entry).collect()
    }
}

/// A token for messages.
fn short(token: &str) -> String {
    token.chars().take(40).collect()
}

/// The ids of special tokens, all within the vocabulary.
struct Specials {
    bos: Option<usize>,
    eos: Option<usize>,
    pad: Option<usize>,
    unknown: Option<usize>,
}

impl Specials {
    fn read(keys: &Keys<'_>, config: &Map<String, Json>) -> Result<Self> {
        // Checked when the configuration was read.
        let id = |key: &str| config.get(key).and_then(Json::as_u64).map(|id| id as usize);
        let size = config.get("vocab_size").and_then(Json::as_u64).unwrap_or(0);
        let unknown = match keys.get("ggml.unknown_token_id") {
            Some(Value::Unsigned(id)) if *id < size => Some(*id as usize),
            Some(Value::Unsigned(id)) if *id == u64::from(u32::MAX) => None,
            None => None,
            Some(_) => {
                return Err(keys.wrong("ggml.unknown_token_id", &format!("a token below {size}")));
            }
        };
        Ok(Self {
            bos: id("bos_token_id"),
            eos: id("eos_token_id"),
            pad: id("pad_token_id"),
            unknown,
        })
    }
}

/// What is put around a text.
struct Adds {
    bos: bool,
    eos: bool,
}

impl Adds {
    /// `bos` is what holds where the file does not say it. What has no id is not added.
    fn read(keys: &Keys<'_>, specials: &Specials, bos: bool) -> Result<Self> {
        let bos = keys.flag("ggml.add_bos_token")?.unwrap_or(bos);
        let eos = keys.flag("ggml.add_eos_token")?.unwrap_or(false);
        Ok(Self { bos: bos && specials.bos.is_some(), eos: eos && specials.eos.is_some() })
    }

    /// The `post_processor` that adds them, if any are.
    fn json(&self, vocabulary: &Vocabulary<'_>, specials: &Specials) -> Option<Json> {
        let bos = specials.bos.filter(|_| self.bos);
        let eos = specials.eos.filter(|_| self.eos);
        let token = |id: &usize| vocabulary.tokens[*id];
        let one = |which: &str, type_id: u8| {
            let special =
                |id: usize| json!({ "SpecialToken": { "id": token(&id), "type_id": type_id } });
            let text = json!({ "Sequence": { "id": which, "type_id": type_id } });
            let parts = [bos.map(special), Some(text), eos.map(special)];
            parts.into_iter().flatten().collect::<Vec<_>>()
        };
        let used = || bos.iter().chain(&eos);
        let table = used().map(|id| {
            let entry = json!({ "id": token(id), "ids": [id], "tokens": [token(id)] });
            (token(id).to_owned(), entry)
        });
        used().next()?;
        let pair = [one("A", 0), one("B", 1)].concat();
        Some(json!({
            "type": "TemplateProcessing",
            "single": one("A", 0),
            "pair": pair,
            "special_tokens": table.collect::<Map<_, _>>(),
        }))
    }
}

/// A tokenizer of the kind of GPT-2, and what it adds.
fn byte_level(
    keys: &Keys<'_>,
    vocabulary: &Vocabulary<'_>,
    specials: &Specials,
) -> Result<(Json, Adds)> {
    let name = keys.text("ggml.pre")?;
    let Some(pre) = name.and_then(Pre::named) else {
        let expected = format!("a way to split a text that is covered: {}", Pre::known());
        return Err(keys.wrong("ggml.pre", &expected));
    };
    let known: HashSet<&str> = vocabulary.tokens.iter().copied().collect();
    let mut merges = Vec::new();
    for merge in keys.texts("ggml.merges")? {
        // A token may start with a space, none has one inside.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let pair = at.map(|at| (&merge[..at], &merge[at + 1..]));
        let fits = |(a, b): &(&str, &str)| {
            known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())
        };
        let Some((a, b)) = pair.filter(fits) else {
            let found = format!("`tokenizer.ggml.merges` has `{}`", short(merge));
            return Err(keys.error(found, "two tokens whose concatenation is a token"));
        };
        merges.push(json!([a, b]));
    }
    let adds = Adds::read(keys, specials, pre.add_bos)?;
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": pre.ignore_merges,
        "vocab": vocabulary.json(),
        "merges": merges,
    });
    let after = pre::byte_level(false);
    let post_processor = match adds.json(vocabulary, specials) {
        Some(template) => json!({ "type": "Sequence", "processors": [after, template] }),
        None => after,
    };
    let normalizer = pre.nfc.then(|| json!({ "type": "NFC" }));
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": pre.json(),
        "post_processor": post_processor,
        "decoder": pre::byte_level(true),
        "model": model,
    });
    Ok((json, adds))
}

/// A tokenizer of the kind of SentencePiece, and what it adds.
fn sentence_piece(
    keys: &Keys<'_>,
    vocabulary: &Vocabulary<'_>,
    specials: &Specials,
) -> Result<(Json, Adds)> {
    let tokens = &vocabulary.tokens;
    let key = "ggml.scores";
    let scores = keys.array(key).and_then(|array| array.floats(keys.file));
    let scores = scores.filter(|scores| scores.len() == tokens.len());
    let expected = format!("{} floats, one per token", tokens.len());
    let scores = scores.ok_or_else(|| keys.wrong(key, &expected))?;
    if let Some(long) = tokens.iter().find(|token| token.len() > LONGEST) {
        let found = format!("a token of {} bytes", long.len());
        return Err(keys.error(found, &format!("tokens of at most {LONGEST} bytes")));
    }
    let made = |(score, kind): (f32, &i64)| (*kind == token_type::NORMAL).then_some(score);
    let scores: Vec<_> = scores.into_iter().zip(&vocabulary.types).map(made).collect();
    let merges = merges::of_scores(tokens, &scores);
    let adds = Adds::read(keys, specials, true)?;
    let prefix = keys.flag("ggml.add_space_prefix")?.unwrap_or(true);
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let before = prefix.then(|| json!({ "type": "Prepend", "prepend": SPACE }));
    let strip = prefix.then(|| json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    let back = json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " });
    let decoders = [
        Some(back),
        Some(json!({ "type": "ByteFallback" })),
        Some(json!({ "type": "Fuse" })),
        strip,
    ];
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": {
            "type": "Sequence",
            "normalizers": before.into_iter().chain([spaces]).collect::<Vec<_>>(),
        },
        "pre_tokenizer": null,
        "post_processor": adds.json(vocabulary, specials),
        "decoder": {
            "type": "Sequence",
            "decoders": decoders.into_iter().flatten().collect::<Vec<_>>(),
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": specials.unknown.map(|id| tokens[id]),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocabulary.json(),
            "merges": merges,
        },
    });
    Ok((json, adds))
}

/// `tokenizer_config.json`.
fn tokenizer_config(
    keys: &Keys<'_>,
    vocabulary: &Vocabulary<'_>,
    specials: &Specials,
    adds: &Adds,
    context: u64,
) -> Result<Json> {
    let mut config = Map::new();
    let mut put = |key: &str, value: Json| config.insert(key.to_owned(), value);
    put("tokenizer_class", json!("PreTrainedTokenizerFast"));
    put("add_bos_token", json!(adds.bos));
    put("add_eos_token", json!(adds.eos));
    put("clean_up_tokenization_spaces", json!(false));
    put("model_max_length", json!(context));
    let Specials { bos, eos, pad, unknown } = *specials;
    for (key, id) in [("bos", bos), ("eos", eos), ("pad", pad), ("unk", unknown)] {
        if let Some(id) = id {
            put(&format!("{key}_token"), json!(vocabulary.tokens[id]));
        }
    }
    let default = keys.text("chat_template")?;
    let names = match keys.get("chat_templates") {
        None => Vec::new(),
        Some(_) => keys.texts("chat_templates")?,
    };
    if names.is_empty() {
        if let Some(template) = default {
            put("chat_template", json!(template));
        }
        return Ok(Json::Object(config));
    }
    let mut templates = Vec::new();
    templates.extend(default.map(|template| json!({ "name": "default", "template": template })));
    for name in names {
        let key = format!("chat_template.{name}");
        let template = keys.text(&key)?.ok_or_else(|| keys.wrong(&key, "a chat template"))?;
        templates.push(json!({ "name": name, "template": template }));
    }
    put("chat_template", json!(templates));
    Ok(Json::Object(config))
}

/// `generation_config.json`: a text also ends with the tokens that end a turn or a message.
fn generation_config(keys: &Keys<'_>, described: &Described) -> Result<Json> {
    let mut generation = Map::new();
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = described.config.get(key).filter(|id| !id.is_null()) {
            generation.insert(key.to_owned(), id.clone());
        }
    }
    let mut ends: Vec<u64> =
        generation.get("eos_token_id").and_then(Json::as_u64).into_iter().collect();
    for key in ["ggml.eot_token_id", "ggml.eom_token_id"] {
        match keys.get(key) {
            None => {}
            Some(Value::Unsigned(id)) if *id == u64::from(u32::MAX) => {}
            Some(Value::Unsigned(id)) if (*id as usize) < described.vocab_size => {
                if !ends.contains(id) {
                    ends.push(*id);
                }
            }
            Some(_) => {
                let expected = format!("a token below {}", described.vocab_size);
                return Err(keys.wrong(key, &expected));
            }
        }
    }
    if ends.len() > 1 {
        generation.insert("eos_token_id".to_owned(), json!(ends));
    }
    Ok(Json::Object(generation))
}
