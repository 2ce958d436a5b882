//! The tokenizer in a GGUF file as Hugging Face's files.

use std::{collections::HashSet, path::Path};

use matformer_nn::Result;
use serde_json::{Map, Value as Json, json};

use super::{
    SPACE,
    merges::{self, LONGEST},
    pre::{self, Pre},
    token_type,
    vocabulary::{Keys, Vocabulary, short},
};
use crate::gguf::{
    config::Described,
    container::{Container, Value},
};

/// `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, or nothing where the
/// file has no tokenizer; and what llama.cpp does otherwise with a text.
#[derive(Debug, Default)]
pub(in super::super) struct TokenizerFiles {
    pub(in super::super) files: Vec<(String, Vec<u8>)>,
    pub(in super::super) notes: Vec<String>,
}

/// Makes them.
pub(in super::super) fn files(
    container: &Container,
    file: &[u8],
    path: &Path,
    described: &Described,
) -> Result<TokenizerFiles> {
    let keys = Keys { container, file, path };
    let none = ["none", "no_vocab"].map(|name| Value::Text(name.to_owned()));
    if keys.get("ggml.model").is_none_or(|model| none.contains(model)) {
        return Ok(TokenizerFiles::default());
    }
    let vocabulary = Vocabulary::read(&keys, described.vocab_size)?;
    let specials = Specials::of(described);
    let mut notes = Vec::new();
    let (tokenizer, adds) = match keys.get("ggml.model") {
        Some(Value::Text(model)) if model == "gpt2" => byte_level(&keys, &vocabulary, &specials)?,
        Some(Value::Text(model)) if model == "llama" => {
            sentence_piece(&keys, &vocabulary, &specials, &mut notes)?
        }
        _ => return Err(keys.wrong("ggml.model", "`gpt2` or `llama`")),
    };
    let config = tokenizer_config(&keys, &vocabulary, &specials, &adds, described.context)?;
    let generation = generation_config(described);
    let files = [
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
    .collect::<Result<_>>()?;
    Ok(TokenizerFiles { files, notes })
}

/// The ids of special tokens, all within the vocabulary.
struct Specials {
    bos: Option<usize>,
    eos: Option<usize>,
    pad: Option<usize>,
    unknown: Option<usize>,
}

impl Specials {
    /// Those that were checked when the configuration was read.
    fn of(described: &Described) -> Self {
        let id = |key: &str| described.config.get(key).and_then(Json::as_u64).map(|id| id as usize);
        Self {
            bos: id("bos_token_id"),
            eos: id("eos_token_id"),
            pad: id("pad_token_id"),
            unknown: described.unknown.map(|id| id as usize),
        }
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
        let expected = format!("a supported pre-tokenizer: {}", Pre::known());
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
    notes: &mut Vec<String>,
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
    if let Some((a, b)) = merges::tied(tokens, &scores, &merges) {
        notes.push(format!(
            "tokens of the same score, such as `{}` and `{}`: of two such merges llama.cpp makes the \
             one further left first, `tokenizer.json` that of the smaller id",
            short(a),
            short(b)
        ));
    }
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
fn generation_config(described: &Described) -> Json {
    let mut generation = Map::new();
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = described.config.get(key).filter(|id| !id.is_null()) {
            generation.insert(key.to_owned(), id.clone());
        }
    }
    let mut ends: Vec<u64> =
        generation.get("eos_token_id").and_then(Json::as_u64).into_iter().collect();
    for id in &described.ends {
        if !ends.contains(id) {
            ends.push(*id);
        }
    }
    if ends.len() > 1 {
        generation.insert("eos_token_id".to_owned(), json!(ends));
    }
    Json::Object(generation)
}
