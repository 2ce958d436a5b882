//! Which part of a conversation a model learns: the assistant's answers.

use std::ops::Range;

use serde_json::{Value, json};

use super::{ANSWER, ChatTemplate, MARKS, NAME, TAGGED, mark, pieces, wrong};
use crate::{Result, Tokenizer};

/// A conversation in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaidOut {
    /// The text as the template lays it out.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Of each token, whether it belongs to an answer.
    pub answers: Vec<bool>,
}

/// A text that was laid out, and where its answers are.
struct Answered {
    /// With [`MARKS`].
    text: String,
    answers: Vec<Range<usize>>,
}

/// What a model is trained on: messages (objects with `role`, `content` and whatever else the template reads), and the
/// functions that they may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Value>,
    /// A list of functions, as transformers passes it to the template.
    pub tools: Option<Value>,
}

impl Conversation {
    /// Messages without functions are a list, others an object.
    pub(crate) fn to_json(&self) -> String {
        let messages = Value::Array(self.messages.clone());
        match &self.tools {
            None => messages.to_string(),
            Some(tools) => json!({ "messages": messages, "tools": tools }).to_string(),
        }
    }

    /// What [`to_json`](Self::to_json) gave.
    pub(crate) fn from_json(text: &str) -> Self {
        let mut value: Value = serde_json::from_str(text).unwrap_or_default();
        let tools = value.get_mut("tools").map(Value::take);
        let messages = match value.get_mut("messages") {
            Some(messages) => messages.take(),
            None => value,
        };
        let Value::Array(messages) = messages else {
            return Self { messages: Vec::new(), tools };
        };
        Self { messages, tools }
    }
}

impl ChatTemplate {
    /// The tokens of a whole conversation, those of [`encode`](Self::encode), and which of them belong to answers of
    /// the assistant.
    ///
    /// A template with `{% generation %}` says itself what answers are. Of another, an answer is what it writes
    /// between the place where a generation begins and the end of the turn: with the token that ends it, without
    /// the header of the turn.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`Error::ChatTemplate`](crate::Error::ChatTemplate) if the template lays a
    /// conversation out so that its answers cannot be found.
    pub fn encode_answers(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation,
    ) -> Result<LaidOut> {
        let mut values = self.values(&conversation.messages)?;
        let control = tokenizer.control_spellings();
        values.iter_mut().for_each(|value| mark(value, &control));
        let Answered { text, answers } = self.answered(values, conversation.tools.as_ref())?;
        let plain = text.replace(MARKS, "");
        let mut found = LaidOut { text: plain, tokens: Vec::new(), answers: Vec::new() };
        for piece in pieces(&text, &control) {
            let spans = match piece.is_literal {
                true => tokenizer.encode_with_offsets(piece.text)?,
                false => tokenizer.encode_with_control_and_offsets(piece.text)?,
            };
            let inside = |range: &Range<usize>| {
                let range = piece.start + range.start..piece.start + range.end;
                answers.iter().any(|answer| range.start < answer.end && answer.start < range.end)
            };
            found.answers.extend(spans.iter().map(|span| inside(&span.bytes)));
            found.tokens.extend(spans.iter().map(|span| span.id));
        }
        Ok(found)
    }

    /// Whether answers can be found in a conversation.
    ///
    /// # Errors
    /// As [`encode_answers`](Self::encode_answers).
    pub(crate) fn check_answers(&self, conversation: &Conversation) -> Result<()> {
        let values = self.values(&conversation.messages)?;
        let Answered { answers, .. } = self.answered(values, conversation.tools.as_ref())?;
        match answers.is_empty() {
            true => Err(wrong(&self.path, &"no `{% generation %}` around any answer")),
            false => Ok(()),
        }
    }

    fn answered(&self, values: Vec<Value>, tools: Option<&Value>) -> Result<Answered> {
        match self.tagged {
            true => Ok(tagged(&self.render_as(TAGGED, (values, tools), false)?)),
            false => Layout { template: self, tools }.answered(values),
        }
    }
}

/// Lays out parts of a conversation, to find its answers.
struct Layout<'a> {
    template: &'a ChatTemplate,
    tools: Option<&'a Value>,
}

impl Layout<'_> {
    fn text(&self, messages: &[Value], add_generation_prompt: bool) -> Result<String> {
        self.template.render_as(NAME, (messages.to_vec(), self.tools), add_generation_prompt)
    }

    /// Finds the answers by laying out what comes before each, and what goes up to its end.
    fn answered(&self, values: Vec<Value>) -> Result<Answered> {
        let text = self.text(&values, false)?;
        let mut answers: Vec<Range<usize>> = Vec::new();
        // The end of the turn before, if that was an answer too.
        let mut previous = None;
        for (turn, message) in values.iter().enumerate() {
            if message["role"] != "assistant" {
                previous = None;
                continue;
            }
            let start = match turn {
                0 => self.first_start(&text)?,
                _ => self.start_of(&text, &values[..turn], previous)?,
            };
            let up_to = self.text(&values[..=turn], false)?;
            let end = match text.starts_with(&up_to) {
                true => Some(up_to.len()),
                // A template may lay out the last turn otherwise, with its reasoning: the end of the turn is the same.
                false => self.end_of(&text, &values, turn)?,
            };
            previous = end;
            match start.zip(end).filter(|(start, end)| start <= end) {
                Some((start, end)) => answers.push(start..end),
                None => {
                    let reason = format!(
                        "message {} cannot be found in the conversation: the template changes what comes before it; \
                         `{{% generation %}}` around the answers tells where they are",
                        turn + 1
                    );
                    return Err(wrong(&self.template.path, &reason));
                }
            }
        }
        Ok(Answered { text, answers })
    }

    /// Where the first answer begins if nothing precedes it, which many templates cannot lay out: behind the header
    /// that an answer has in another conversation.
    fn first_start(&self, text: &str) -> Result<Option<usize>> {
        if let Ok(begun) = self.text(&[], true)
            && text.starts_with(&begun)
        {
            return Ok(Some(begun.len()));
        }
        let question = [json!({ "role": "user", "content": "?" })];
        let (begun, ended) = (self.text(&question, true)?, self.text(&question, false)?);
        let header = begun.strip_prefix(&ended).filter(|header| !header.is_empty());
        Ok(header.and_then(|header| Some(text.find(header)? + header.len())))
    }

    /// Where an answer begins in the whole conversation, behind these messages and the header of its turn.
    fn start_of(
        &self,
        text: &str,
        before: &[Value],
        previous: Option<usize>,
    ) -> Result<Option<usize>> {
        let begun = self.text(before, true)?;
        if text.starts_with(&begun) {
            return Ok(Some(begun.len()));
        }
        let Some(previous) = previous else { return Ok(None) };
        let ended = self.text(before, false)?;
        let header = begun.strip_prefix(&ended);
        let follows = |header: &&str| text[previous..].starts_with(*header);
        Ok(header.filter(follows).map(|header| previous + header.len()))
    }

    /// Where a turn ends in the whole conversation: behind its content comes what comes behind it when it is the
    /// last.
    fn end_of(&self, text: &str, values: &[Value], turn: usize) -> Result<Option<usize>> {
        let mut values = values.to_vec();
        let Some(Value::String(content)) = values[turn].get_mut("content") else { return Ok(None) };
        // White space at the end of a message is trimmed by many templates.
        content.insert(content.trim_end().len(), ANSWER[1]);
        let (whole, alone) = (self.text(&values, false)?, self.text(&values[..=turn], false)?);
        let (Some((content, rest)), Some((_, closing))) =
            (whole.split_once(ANSWER[1]), alone.split_once(ANSWER[1]))
        else {
            return Ok(None);
        };
        let same = rest.starts_with(closing) && text.strip_prefix(content) == Some(rest);
        Ok(same.then_some(content.len() + closing.len()))
    }
}

/// The text without the marks around its answers.
fn tagged(marked: &str) -> Answered {
    let (mut text, mut answers) = (String::with_capacity(marked.len()), Vec::new());
    let mut start = None;
    for part in marked.split_inclusive(ANSWER) {
        let plain = part.trim_end_matches(ANSWER);
        text.push_str(plain);
        if part.ends_with(ANSWER[0]) {
            start = Some(text.len());
        } else if part.ends_with(ANSWER[1]) {
            answers.extend(start.take().map(|start| start..text.len()));
        }
    }
    Answered { text, answers }
}
