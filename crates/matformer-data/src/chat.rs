//! Chat templates: from the messages of a conversation to the text, and the tokens, that a model was trained on.

mod answers;
mod python;

use std::path::{Path, PathBuf};

use matformer_core::fs;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use answers::{Conversation, LaidOut};

use crate::special::{TOKENIZER_CONFIG_FILE, object, token};
use crate::{Error, Result, Tokenizer};

/// The name of the file that holds nothing but a template.
pub const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";

/// The template's name inside the environment.
const NAME: &str = "chat";
/// That of the same template, whose tags around answers put [`ANSWER`] there.
const TAGGED: &str = "tagged";

/// Keys of `tokenizer_config.json` that a template sees.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Stand around the spelling of a control token in a message until it is encoded: private characters, which are removed
/// from messages first.
const MARKS: [char; 2] = ['\u{f0000}', '\u{f0001}'];

/// Stand around an answer of the assistant, and at the end of its content: removed from messages like [`MARKS`].
const ANSWER: [char; 2] = ['\u{f0002}', '\u{f0003}'];

/// A Jinja template that lays out a conversation, rendered as Hugging Face transformers renders it.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
    source: String,
    /// Whether the template says itself what answers are.
    tagged: bool,
    /// Special tokens by name, as `tokenizer_config.json` spells them.
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Reads the template of a model folder: [`CHAT_TEMPLATE_FILE`], or `chat_template` in `tokenizer_config.json`. Of
    /// several named ones, `default`. `None` if the folder has none.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read, [`Error::Tokenizer`] if `tokenizer_config.json` is not an object,
    /// [`Error::ChatTemplate`] if the template is not valid.
    pub fn from_folder(dir: &Path) -> Result<Option<Self>> {
        let config_path = dir.join(TOKENIZER_CONFIG_FILE);
        let (_, config) = object(&config_path)?;
        let own = dir.join(CHAT_TEMPLATE_FILE);
        let (path, source) = if own.is_file() {
            let source = fs::read_to_string(&own)?;
            (own, source)
        } else {
            let source = in_config(&config, &config_path)?.unwrap_or_default();
            (config_path, source)
        };
        // An empty one is none, as for transformers.
        if source.trim().is_empty() {
            return Ok(None);
        }
        let spelt = |key: &&str| Some(((*key).to_owned(), json!(token(&config, key)?)));
        let tokens = SPECIAL_TOKENS.iter().filter_map(spelt).collect();
        Self::new(path, &source, tokens).map(Some)
    }

    /// A template whose file is at `path`, with the spelling of special tokens by name (`bos_token`).
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if it is not valid.
    pub fn new(path: PathBuf, source: &str, tokens: Map<String, Value>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| wrong(&path, &error))?);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(python::format);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", python::strftime_now);
        environment
            .add_filter("answer", |text: String| format!("{}{text}{}", ANSWER[0], ANSWER[1]));
        let plain = with_generation(source, "if true", "endif");
        let tagged = with_generation(source, "filter answer", "endfilter");
        let is_tagged = plain != source;
        for (name, source) in
            [(NAME, plain), (TAGGED, tagged)].into_iter().take(1 + usize::from(is_tagged))
        {
            let added = environment.add_template_owned(name, source);
            added.map_err(|error| wrong(&path, &error))?;
        }
        Ok(Self { environment, path, source: source.to_owned(), tagged: is_tagged, tokens })
    }

    /// The text of a conversation: objects with `role`, `content` and whatever else the template reads. With
    /// `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the template refuses the conversation: roles that do not alternate, for instance.
    pub fn render(
        &self,
        messages: &[impl Serialize],
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.render_values(self.values(messages)?, add_generation_prompt)
    }

    /// The tokens of a conversation. The template's control tokens are those tokens; the spelling of one inside of a
    /// message is ordinary text.
    ///
    /// # Errors
    /// As [`render`](Self::render); [`Error::Tokenizer`] if the tokenizer cannot encode the text.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[impl Serialize],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let mut values = self.values(messages)?;
        let control = tokenizer.control_spellings();
        values.iter_mut().for_each(|value| mark(value, &control));
        let text = self.render_values(values, add_generation_prompt)?;
        let mut tokens = Vec::new();
        for piece in pieces(&text, &control) {
            tokens.extend(match piece.is_literal {
                true => tokenizer.encode(piece.text)?,
                false => tokenizer.encode_with_control(piece.text)?,
            });
        }
        Ok(tokens)
    }

    /// The template itself.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Messages as the template sees them: no keys without a value, and reasoning under all its names.
    fn values(&self, messages: &[impl Serialize]) -> Result<Vec<Value>> {
        let value = |message| -> Result<Value> {
            let value = serde_json::to_value(message).map_err(|error| wrong(&self.path, &error))?;
            let Value::Object(mut object) = value else {
                return Err(wrong(
                    &self.path,
                    &format!("found the message {value}, expected an object"),
                ));
            };
            object.retain(|_, value| !value.is_null());
            let names = ["reasoning_content", "thinking", "reasoning"];
            if let Some(reasoning) = names.iter().find_map(|name| object.get(*name)).cloned() {
                object.entry("thinking").or_insert_with(|| reasoning.clone());
                object.insert("reasoning_content".to_owned(), reasoning);
            }
            Ok(Value::Object(object))
        };
        messages.iter().map(value).collect()
    }

    fn render_values(&self, messages: Vec<Value>, add_generation_prompt: bool) -> Result<String> {
        self.render_as(NAME, (messages, None), add_generation_prompt)
    }

    fn render_as(
        &self,
        name: &str,
        (messages, tools): (Vec<Value>, Option<&Value>),
        add_generation_prompt: bool,
    ) -> Result<String> {
        let mut context = self.tokens.clone();
        context.insert("messages".to_owned(), Value::Array(messages));
        context.insert("tools".to_owned(), tools.cloned().unwrap_or_default());
        context.insert("documents".to_owned(), Value::Null);
        context.insert("add_generation_prompt".to_owned(), json!(add_generation_prompt));
        let template =
            self.environment.get_template(name).map_err(|error| wrong(&self.path, &error))?;
        template.render(Serde(context)).map_err(|error| wrong(&self.path, &error))
    }
}

/// The template in `tokenizer_config.json`: a string, or a list of named ones.
fn in_config(config: &Map<String, Value>, path: &Path) -> Result<Option<String>> {
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|template| template["name"] == "default");
            match default.and_then(|template| template["template"].as_str()) {
                Some(source) => Ok(Some(source.to_owned())),
                None => Err(wrong(path, &"`chat_template`: no template named `default`")),
            }
        }
        Some(other) => {
            Err(wrong(path, &format!("`chat_template`: found {other}, expected a string")))
        }
    }
}

/// The template with other tags in place of those that mark the assistant's answers for training.
fn with_generation(source: &str, begin: &str, end: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(len) = rest[at..].find("%}") else { break };
        let tag = &rest[at + 2..at + len];
        let inner = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        out += &rest[..at + 2];
        out += &match inner.trim() {
            "generation" => tag.replace("generation", begin),
            "endgeneration" => tag.replace("endgeneration", end),
            _ => tag.to_owned(),
        };
        rest = &rest[at + len..];
    }
    out + rest
}

/// A part of a text that was laid out.
struct Piece<'a> {
    /// Where it begins in the text with its marks.
    start: usize,
    text: &'a str,
    /// Whether it spells a control token inside of a message.
    is_literal: bool,
}

/// The parts of a text between [`MARKS`]. A template may cut a marked spelling apart: a mark alone only separates.
fn pieces<'a>(text: &'a str, control: &[String]) -> Vec<Piece<'a>> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    let mut add = |start: usize, text: &'a str, is_literal| {
        if !text.is_empty() {
            pieces.push(Piece { start, text, is_literal });
        }
    };
    while let Some(len) = text[start..].find(MARKS) {
        add(start, &text[start..start + len], false);
        start += len;
        let opens = text[start..].starts_with(MARKS[0]);
        let same = |c| MARKS[usize::from(!opens)] == c;
        start = text.len() - text[start..].trim_start_matches(same).len();
        let rest = &text[start..];
        let spelt = if opens { rest.find(MARKS[1]) } else { None };
        let spelt = spelt.map_or("", |end| &rest[..end]);
        if control.iter().any(|token| token == spelt) {
            add(start, spelt, true);
            start += spelt.len();
        }
    }
    add(start, &text[start..], false);
    pieces
}

fn raise_exception(message: String) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::ChatTemplate { path: path.to_owned(), reason: reason.to_string() }
}

/// Puts marks around the spelling of control tokens in all strings of a message.
fn mark(value: &mut Value, control: &[String]) {
    match value {
        Value::String(text) => {
            let marks = [MARKS, ANSWER].concat();
            if text.contains(&marks[..]) {
                *text = text.replace(&marks[..], "");
            }
            *text = marked(text, control);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mark(value, control)),
        Value::Object(object) => object.values_mut().for_each(|value| mark(value, control)),
        _ => {}
    }
}

/// The first spelling in the text, and of those that begin there the longest, then what follows it.
fn marked(text: &str, control: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let found = control.iter().filter_map(|token| Some((rest.find(token)?, token)));
        let first = found.min_by_key(|(at, token)| (*at, std::cmp::Reverse(token.len())));
        let Some((at, token)) = first else { return out + rest };
        out += &rest[..at];
        out.push(MARKS[0]);
        out += token;
        out.push(MARKS[1]);
        rest = &rest[at + token.len()..];
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
