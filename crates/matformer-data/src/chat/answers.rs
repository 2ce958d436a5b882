//! Which part of a conversation a model learns: the assistant's answers.

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

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
        messages: &[impl Serialize],
    ) -> Result<LaidOut> {
        let mut values = self.values(messages)?;
        let control = tokenizer.control_spellings();
        values.iter_mut().for_each(|value| mark(value, &control));
        let Answered { text, answers } = match self.tagged {
            true => tagged(&self.render_as(TAGGED, values, false)?),
            false => self.answered(values)?,
        };
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
    pub(crate) fn check_answers(&self, messages: &[Value]) -> Result<()> {
        let values = self.values(messages)?;
        let Answered { answers, .. } = match self.tagged {
            true => tagged(&self.render_as(TAGGED, values, false)?),
            false => self.answered(values)?,
        };
        match answers.is_empty() {
            true => Err(wrong(&self.path, &"no `{% generation %}` around any answer")),
            false => Ok(()),
        }
    }

    /// Finds the answers by laying out what comes before each, and what goes up to its end.
    fn answered(&self, values: Vec<Value>) -> Result<Answered> {
        let text = self.render_as(NAME, values.clone(), false)?;
        let mut answers: Vec<Range<usize>> = Vec::new();
        // The end of the turn before, if that was an answer too.
        let mut previous = None;
        for (turn, message) in values.iter().enumerate() {
            if message["role"] != "assistant" {
                previous = None;
                continue;
            }
            let start = self.start_of(&text, &values[..turn], previous)?;
            let up_to = self.render_as(NAME, values[..=turn].to_vec(), false)?;
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
                    return Err(wrong(&self.path, &reason));
                }
            }
        }
        Ok(Answered { text, answers })
    }

    /// Where an answer begins in the whole conversation, behind these messages and the header of its turn.
    fn start_of(
        &self,
        text: &str,
        before: &[Value],
        previous: Option<usize>,
    ) -> Result<Option<usize>> {
        let begun = self.render_as(NAME, before.to_vec(), true)?;
        if text.starts_with(&begun) {
            return Ok(Some(begun.len()));
        }
        let Some(previous) = previous else { return Ok(None) };
        let ended = self.render_as(NAME, before.to_vec(), false)?;
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
        let (whole, alone) = (
            self.render_as(NAME, values.clone(), false)?,
            self.render_as(NAME, values[..=turn].to_vec(), false)?,
        );
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
