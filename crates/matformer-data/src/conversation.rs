//! Rows that are conversations: which messages a row holds.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::json::NoText;
use crate::rows::Content;
use crate::{ChatTemplate, Error};

/// The field of a row's messages, where nothing else is said.
const MESSAGES: &str = "messages";
/// The fields of a question and its answer: texts, or lists of messages.
const PAIR: [&str; 2] = ["prompt", "completion"];
/// Fields that an error names.
const NAMED: usize = 5;

/// How rows that are conversations are read.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    /// Where their messages are.
    pub fields: Fields,
    /// What lays them out.
    pub template: Arc<ChatTemplate>,
}

impl Chat {
    /// Why messages in JSON cannot be laid out, if that is so.
    pub(crate) fn refusal(&self, messages: &str) -> Option<String> {
        let messages: Vec<Value> = serde_json::from_str(messages).unwrap_or_default();
        match self.template.check_answers(&messages) {
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
        name == self.main() || self.0.is_none() && PAIR.contains(&name)
    }

    /// The messages of a row, as JSON.
    ///
    /// # Errors
    /// What the row is instead.
    pub(crate) fn of_json(&self, row: &[u8]) -> Result<String, NoText> {
        match serde_json::from_slice(row) {
            Ok(Value::Object(row)) => self.of_row(&row),
            Ok(_) => Err(NoText::Other("no object, expected: one with messages".into())),
            Err(error) => Err(NoText::Other(format!("not JSON: {error}"))),
        }
    }

    /// The same of a row that was read.
    ///
    /// # Errors
    /// As [`of_json`](Self::of_json).
    pub(crate) fn of_row(&self, row: &Map<String, Value>) -> Result<String, NoText> {
        let field = self.main();
        let messages = match (row.get(field), PAIR.map(|name| row.get(name))) {
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
        Ok(Value::Array(messages).to_string())
    }

    /// A row that was read, as its messages or what it is instead.
    pub(crate) fn content(&self, row: Result<Map<String, Value>, String>) -> Content {
        match row.map_err(NoText::Other).and_then(|row| self.of_row(&row)) {
            Ok(messages) => Content::Text(messages.into_bytes()),
            Err(NoText::Field(reason) | NoText::Other(reason)) => Content::Bad(reason),
        }
    }

    fn missing(&self, field: &str, row: &Map<String, Value>) -> NoText {
        let known: Vec<&str> = row.keys().take(NAMED).map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let pair = match self.0 {
            Some(_) => String::new(),
            None => format!(", and no `{}` with a `{}`", PAIR[0], PAIR[1]),
        };
        NoText::Field(format!("no field `{field}`{pair}, there are: {known}"))
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
