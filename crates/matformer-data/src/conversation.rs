//! Rows that are conversations: which messages a row holds.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::chat::Conversation;
use crate::json::{NoText, fields_of, names};
use crate::rows::Content;
use crate::{ChatTemplate, Error};

/// The field of a row's messages, where nothing else is said.
const MESSAGES: &str = "messages";
/// The fields of a question and its answer: texts, or lists of messages.
const PAIR: [&str; 2] = ["prompt", "completion"];
/// The field of the functions that a conversation may call: a list, or that list in JSON.
const TOOLS: &str = "tools";

/// How rows that are conversations are read.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    /// Where their messages are.
    pub fields: Fields,
    /// What lays them out.
    pub template: Arc<ChatTemplate>,
}

impl Chat {
    /// Why a conversation in JSON cannot be laid out, if that is so.
    pub(crate) fn refusal(&self, conversation: &str) -> Option<String> {
        match self.template.check_answers(&Conversation::from_json(conversation)) {
            Err(Error::ChatTemplate { reason, .. }) => Some(reason),
            other => other.err().map(|error| error.to_string()),
        }
    }
}

/// Which fields of a row hold a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields(Option<String>);

impl Fields {
    /// The messages are in `field`; where that is the field of a text by default, in `messages`, or in `prompt` and
    /// `completion`.
    pub(crate) fn of(field: &str) -> Self {
        Self((field != crate::DataConfig::default().field).then(|| field.to_owned()))
    }

    /// The field that is looked for first.
    pub(crate) fn main(&self) -> &str {
        self.0.as_deref().unwrap_or(MESSAGES)
    }

    /// Whether a field of this name belongs to a conversation.
    pub(crate) fn are_in(&self, name: &str) -> bool {
        name == self.main() || name == TOOLS || self.0.is_none() && PAIR.contains(&name)
    }

    /// The conversation of a row, as JSON ([`Conversation`]).
    ///
    /// # Errors
    /// What the row is instead.
    pub(crate) fn of_json(&self, row: &[u8]) -> Result<String, NoText> {
        self.of_row(&fields_of(row, |name| self.are_in(name))?)
    }

    /// The same of a row that was read.
    ///
    /// # Errors
    /// As [`of_json`](Self::of_json).
    pub(crate) fn of_row(&self, row: &Map<String, Value>) -> Result<String, NoText> {
        let field = self.main();
        // Tables have a null where a row has no value.
        let value = |name| row.get(name).filter(|value| !value.is_null());
        let messages = match (value(field), PAIR.map(value)) {
            (Some(messages), _) => list(field, messages)?,
            (None, [Some(prompt), Some(completion)]) if self.0.is_none() => {
                let mut messages = said(PAIR[0], "user", prompt)?;
                messages.extend(said(PAIR[1], "assistant", completion)?);
                messages
            }
            _ => return Err(self.missing(field, row)),
        };
        if !messages.iter().any(|message| message["role"] == "assistant") {
            let reason = "no message of the role `assistant`: nothing to learn";
            return Err(NoText::Other(reason.into()));
        }
        Ok(Conversation { messages, tools: tools(value(TOOLS))? }.to_json())
    }

    /// A row that was read, as its messages or what it is instead.
    pub(crate) fn content(&self, row: Result<Map<String, Value>, String>) -> Content {
        match row.map_err(NoText::Other).and_then(|row| self.of_row(&row)) {
            Ok(messages) => Content::Text(messages.into_bytes()),
            Err(NoText::Field(reason) | NoText::Other(reason)) => Content::Bad(reason),
        }
    }

    fn missing(&self, field: &str, row: &Map<String, Value>) -> NoText {
        let pair = match self.0 {
            Some(_) => String::new(),
            None => format!(", and no `{}` with a `{}`", PAIR[0], PAIR[1]),
        };
        NoText::Field(format!("no field `{field}`{pair}, there are: {}", names(row)))
    }
}

/// A list of messages.
fn list(field: &str, value: &Value) -> Result<Vec<Value>, NoText> {
    let wrong = |found: String| {
        let expected = "a list of objects with `role` and `content`";
        NoText::Other(format!("`{field}` {found}, expected: {expected}"))
    };
    let Value::Array(messages) = value else {
        return Err(wrong("is no list".into()));
    };
    match messages.iter().position(|message| !message["role"].is_string()) {
        Some(at) => Err(wrong(format!("has no `role` in message {}", at + 1))),
        None => Ok(messages.clone()),
    }
}

/// The functions that a conversation may call.
fn tools(value: Option<&Value>) -> Result<Option<Value>, NoText> {
    let list = match value {
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(serde_json::from_str(text).unwrap_or(Value::Null)),
        other => other.cloned(),
    };
    match list {
        Some(Value::Array(tools)) if tools.is_empty() => Ok(None),
        None | Some(Value::Array(_)) => Ok(list),
        Some(_) => {
            Err(NoText::Other(format!("`{TOOLS}` is no list, expected: a list, or one in JSON")))
        }
    }
}

/// A text that `role` says, or a list of messages.
fn said(field: &str, role: &str, value: &Value) -> Result<Vec<Value>, NoText> {
    match value {
        Value::String(text) => Ok(vec![json!({"role": role, "content": text})]),
        other => list(field, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str, row: &str) -> Result<String, NoText> {
        Fields::of(field).of_json(row.as_bytes())
    }

    #[test]
    fn messages_and_pairs_are_conversations() {
        let both = r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]"#;
        for (field, row) in [
            ("text", format!(r#"{{"id": 1, "messages": {both}}}"#)),
            ("talk", format!(r#"{{"talk": {both}, "messages": 3}}"#)),
            ("text", r#"{"prompt": "Hi", "completion": "Hello"}"#.into()),
            (
                "text",
                r#"{"prompt": [{"role":"user","content":"Hi"}], "completion": "Hello"}"#.into(),
            ),
        ] {
            assert_eq!(read(field, &row).as_deref(), Ok(both), "{row}");
        }
    }

    #[test]
    fn other_fields_may_hold_anything_and_null_is_no_value() {
        let both = r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]"#;
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        for row in [
            format!(r#"{{"score": NaN, "s": "\ud83d", "messages": {both}, "deep": {deep}}}"#),
            r#"{"messages": null, "prompt": "Hi", "completion": "Hello", "tools": null}"#.into(),
            format!(r#"{{"messages": {both}, "prompt": null, "tools": []}}"#),
            format!(r#"{{"messages": {both}, "tools": " "}}"#),
        ] {
            assert_eq!(read("text", &row).as_deref(), Ok(both), "{row}");
        }
        let tools = r#"[{"name":"clock"}]"#;
        let expected = format!(r#"{{"messages":{both},"tools":{tools}}}"#);
        for written in [tools.to_owned(), serde_json::to_string(tools).unwrap()] {
            let row = format!(r#"{{"messages": {both}, "tools": {written}}}"#);
            assert_eq!(read("text", &row).as_deref(), Ok(&*expected));
        }
        let wrong = read("text", &format!(r#"{{"messages": {both}, "tools": "clock"}}"#));
        assert!(matches!(wrong, Err(NoText::Other(reason)) if reason.starts_with("`tools` is no")));
    }

    #[test]
    fn other_rows_are_refused_in_words() {
        let said = |field: &str, row: &str| match read(field, row).unwrap_err() {
            NoText::Field(reason) => format!("field: {reason}"),
            NoText::Other(reason) => reason,
        };
        assert_eq!(
            said("text", r#"{"text": "x", "n": 1}"#),
            "field: no field `messages`, and no `prompt` with a `completion`, there are: text, n"
        );
        assert_eq!(
            said("talk", r#"{"prompt": "a", "completion": "b"}"#).split(',').next(),
            Some("field: no field `talk`")
        );
        assert!(
            said("text", r#"{"messages": "hi"}"#)
                .starts_with("`messages` is no list, expected: a list")
        );
        assert!(
            said("text", r#"{"messages": [{"from": "a"}]}"#).contains("has no `role` in message 1")
        );
        assert!(
            said("text", r#"{"messages": [{"role": "user"}]}"#)
                .starts_with("no message of the role")
        );
        assert!(said("text", "[1]").starts_with("no object"));
        assert!(said("text", "{").starts_with("not JSON"));
    }
}
