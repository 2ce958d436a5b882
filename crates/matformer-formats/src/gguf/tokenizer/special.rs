//! Special tokens and the chat template, from Hugging Face's files.

use std::{collections::BTreeMap, path::Path};

use matformer_core::fs;
use matformer_nn::Result;
use serde_json::Value as Json;

use super::tokens::{JsonFile, Sources, Tokens, Written, shortened};
use crate::{
    companions::{TEMPLATES, templates},
    gguf::output::Value,
};

/// The ids of special tokens, and which of them are added to a text.
pub(super) fn special_tokens(
    file: &JsonFile,
    config: &JsonFile,
    tokens: &Tokens,
    from: &Sources<'_>,
    written: &mut Written,
) -> Result<()> {
    let mut ids = BTreeMap::new();
    for (key, name) in [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("pad_token", "padding"),
        ("unk_token", "unknown"),
        ("sep_token", "seperator"), // as llama.cpp spells it
        ("mask_token", "mask"),
    ] {
        let value = &config.json[key];
        let Some(text) = value.as_str().or_else(|| value["content"].as_str()) else { continue };
        if tokens.is_left_out(text) {
            continue;
        }
        let Some(id) = tokens.id(text) else {
            let found = format!("`{key}` is `{text}`");
            return Err(config.wrong(&found, "a token of `tokenizer.json`"));
        };
        ids.insert(name, id as u32);
    }
    if let Some(end) = from.ends.first() {
        ids.entry("eos").or_insert(*end);
    }
    let others: Vec<u32> =
        from.ends.iter().copied().filter(|end| ids.get("eos") != Some(end)).collect();
    // Llama 3.1 names the token that ends a message before the one that ends a turn.
    let (messages, turns): (Vec<u32>, Vec<u32>) =
        others.into_iter().partition(|end| tokens.text(*end as usize) == Some("<|eom_id|>"));
    let others = [turns, messages].concat();
    for (name, id) in ["eot", "eom"].into_iter().zip(&others) {
        ids.insert(name, *id);
    }
    if let Some(more @ [_, ..]) = others.get(2..) {
        written.notes.push(format!(
            "a text also ends with the tokens {more:?}; a GGUF file names three such tokens at most"
        ));
    }
    if !ids.contains_key("eos") {
        written.notes.push(
            "the tokenizer names no token that ends a text; llama.cpp takes one of its own"
                .to_owned(),
        );
    }
    let (bos, eos) = (ids.get("bos").copied(), ids.get("eos").copied());
    let adds = Adds::read(file, config)?;
    for (what, added, known) in [("bos", &adds.first, bos), ("eos", &adds.last, eos)] {
        let id = added.as_deref().and_then(|text| tokens.id(text)).map(|id| id as u32);
        if added.is_some() && (id.is_none() || known.is_some_and(|known| Some(known) != id)) {
            let found = format!("`post_processor` adds `{}`", added.as_deref().unwrap_or_default());
            return Err(file.wrong(&found, &format!("the {what} token, which llama.cpp can add")));
        }
        if let Some(id) = id {
            ids.insert(what, id);
        }
    }
    if let Some(bos) = from.bos {
        ids.entry("bos").or_insert(bos);
    }
    for (name, id) in ids {
        let key = format!("ggml.{name}_token_id");
        written.metadata.retain(|(known, _)| *known != format!("tokenizer.{key}"));
        written.put(&key, Value::Unsigned(id));
    }
    written.put("ggml.add_bos_token", Value::Bool(adds.first.is_some()));
    written.put("ggml.add_eos_token", Value::Bool(adds.last.is_some()));
    Ok(())
}

/// The tokens that are put before and behind a text.
#[derive(Default)]
struct Adds {
    first: Option<String>,
    last: Option<String>,
}

impl Adds {
    fn read(file: &JsonFile, config: &JsonFile) -> Result<Self> {
        let processor = &file.json["post_processor"];
        let parts = match processor["type"].as_str() {
            Some("Sequence") => processor["processors"].as_array().map_or(&[][..], Vec::as_slice),
            Some(_) => std::slice::from_ref(processor),
            // Then llama.cpp's own converter, and transformers before 5, add what the configuration says.
            None => return Ok(Self::of_config(config)),
        };
        let mut adds = Self::default();
        for part in parts {
            match part["type"].as_str() {
                Some("ByteLevel") => {}
                Some("TemplateProcessing") => {
                    let single = part["single"].as_array().map_or(&[][..], Vec::as_slice);
                    let token =
                        |json: &Json| json["SpecialToken"]["id"].as_str().map(str::to_owned);
                    let text = single.iter().position(|part| part["Sequence"].is_object());
                    adds = match (text, single.iter().map(token).collect::<Vec<_>>().as_slice()) {
                        (Some(0), [_]) => Self::default(),
                        (Some(1), [first @ Some(_), _]) => {
                            Self { first: first.clone(), last: None }
                        }
                        (Some(0), [_, last @ Some(_)]) => Self { first: None, last: last.clone() },
                        (Some(1), [first @ Some(_), _, last @ Some(_)]) => {
                            Self { first: first.clone(), last: last.clone() }
                        }
                        _ => {
                            let found = format!("`post_processor` {}", shortened(part));
                            return Err(
                                file.wrong(&found, "a text, and at most a token on each side")
                            );
                        }
                    };
                }
                _ => {
                    let found = format!("`post_processor` {}", shortened(part));
                    return Err(file.wrong(&found, "ByteLevel or TemplateProcessing"));
                }
            }
        }
        Ok(adds)
    }

    /// What transformers adds where the tokenizer itself adds nothing.
    fn of_config(config: &JsonFile) -> Self {
        let added = |flag: &str, key: &str| {
            let value = &config.json[key];
            let text = value.as_str().or_else(|| value["content"].as_str());
            text.filter(|_| config.json[flag] == true).map(str::to_owned)
        };
        Self {
            first: added("add_bos_token", "bos_token"),
            last: added("add_eos_token", "eos_token"),
        }
    }
}

/// The chat templates: that of the folder's own files, else what its `tokenizer_config.json` has.
pub(super) fn chat_template(dir: &Path, config: &JsonFile, written: &mut Written) -> Result<()> {
    let beside = dir.join("chat_template.jinja");
    let older = dir.join("chat_template.json");
    let others = templates(dir)?;
    let mut found: Vec<(String, String)> = Vec::new();
    if beside.exists() {
        found.push((DEFAULT.to_owned(), fs::read_to_string(beside)?));
    } else if older.exists() && config.json["chat_template"].is_null() {
        let file = JsonFile::read(older)?;
        let Some(template) = file.json["chat_template"].as_str() else {
            return Err(file.wrong("no `chat_template`", "a chat template"));
        };
        found.push((DEFAULT.to_owned(), template.to_owned()));
    } else if others.is_empty() {
        found = of_config(config)?;
    }
    for name in others {
        let path = dir.join(TEMPLATES).join(format!("{name}.jinja"));
        // As in transformers, one of that folder takes the place of another of its name.
        found.retain(|(other, _)| *other != name);
        found.push((name, fs::read_to_string(path)?));
    }
    let mut names = Vec::new();
    for (name, template) in found {
        let template = Value::Text(template);
        if name == DEFAULT {
            written.put("chat_template", template);
        } else {
            written.put(&format!("chat_template.{name}"), template);
            names.push(name);
        }
    }
    if !names.is_empty() {
        written.put("chat_templates", Value::Texts(names));
    }
    Ok(())
}

/// Name of the chat template that is taken where none is named.
const DEFAULT: &str = "default";

/// Names and texts of the chat templates in `tokenizer_config.json`.
fn of_config(config: &JsonFile) -> Result<Vec<(String, String)>> {
    match &config.json["chat_template"] {
        Json::Null => Ok(Vec::new()),
        Json::String(template) => Ok(vec![(DEFAULT.to_owned(), template.clone())]),
        Json::Array(list) => {
            let named = |entry: &Json| {
                let (name, template) = (entry["name"].as_str(), entry["template"].as_str());
                name.zip(template).map(|(n, t)| (n.to_owned(), t.to_owned())).ok_or_else(|| {
                    let found = format!("`chat_template` {}", shortened(entry));
                    config.wrong(&found, "a name and a template")
                })
            };
            list.iter().map(named).collect()
        }
        other => {
            let found = format!("`chat_template` {}", shortened(other));
            Err(config.wrong(&found, "a string or a list of templates"))
        }
    }
}
