//! Answers as OpenAI's interface has them: whole, or as a stream of server-sent events.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use futures_util::stream::unfold;
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Part},
    ask::{Ask, Form},
    choice::Piece,
    error::{ApiError, json_response},
    score::{self, Scored},
    state::{State, now},
};

/// What all parts of a response say.
pub(crate) struct Reply {
    form: Form,
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    prompt_tokens: usize,
    texts: usize,
    logprobs: bool,
    drafts: bool,
    usage: bool,
}

impl Reply {
    pub(crate) fn new(state: &Arc<State>, ask: &Ask) -> Self {
        let kind = if ask.form == Form::Chat { "chatcmpl" } else { "cmpl" };
        Self {
            form: ask.form,
            id: format!("{kind}-{:x}-{:x}", state.started, state.number()),
            created: now(),
            model: format!("{}@{}", state.model.name, ask.size),
            fingerprint: state.model.fingerprint.clone(),
            prompt_tokens: ask.prompts.iter().map(|prompt| prompt.tokens.len()).sum(),
            texts: ask.prompts.len() * ask.n,
            logprobs: ask.shown.logprobs.is_some(),
            drafts: ask.shown.drafts,
            usage: ask.usage,
        }
    }

    /// The response once all texts have ended.
    pub(crate) async fn whole(self, mut answer: Answer) -> Result<Response<Body>, ApiError> {
        let mut pieces: Vec<Piece> = (0..self.texts).map(|_| Piece::default()).collect();
        while let Some(Part { text, piece }) = answer.next().await? {
            let whole = &mut pieces[text];
            whole.text += &piece.text;
            whole.scored.extend(piece.scored);
            whole.finish = piece.finish.or(whole.finish);
        }
        let choice = |(index, piece): (usize, &Piece)| {
            let mut choice = json!({ "index": index });
            match self.form {
                Form::Text => choice["text"] = json!(piece.text),
                Form::Chat => {
                    choice["message"] =
                        json!({ "role": "assistant", "content": piece.text, "refusal": null });
                }
            }
            choice["logprobs"] = self.scores(&piece.scored);
            choice["finish_reason"] = json!(piece.finish);
            choice
        };
        let choices: Vec<Value> = pieces.iter().enumerate().map(choice).collect();
        let kind = match self.form {
            Form::Text => "text_completion",
            Form::Chat => "chat.completion",
        };
        let mut body = self.head(kind, &json!(choices));
        body["usage"] = self.used(&answer);
        Ok(json_response(&body))
    }

    /// The response as a stream.
    pub(crate) fn stream(self, answer: Answer) -> Response<Body> {
        let mut ready = VecDeque::new();
        if self.form == Form::Chat {
            for index in 0..self.texts {
                let delta = json!({ "role": "assistant", "content": "" });
                ready.push_back(self.event(&self.delta(index, &delta, &Piece::default())));
            }
        }
        let events = Events { reply: self, answer, ready, is_over: false };
        let stream = unfold(events, |mut events| async move {
            let event = events.next().await?;
            Some((Ok::<_, std::convert::Infallible>(event), events))
        });
        let mut response = Response::new(Body::from_stream(stream));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    fn head(&self, kind: &str, choices: &Value) -> Value {
        let Self { id, created, model, fingerprint, .. } = self;
        json!({
            "id": id,
            "object": kind,
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
            "choices": choices,
        })
    }

    fn scores(&self, scored: &[Scored]) -> Value {
        match self.form {
            _ if !self.logprobs => Value::Null,
            Form::Text => score::legacy(scored),
            Form::Chat => score::chat(scored),
        }
    }

    fn used(&self, answer: &Answer) -> Value {
        let (prompt, new) = (self.prompt_tokens, answer.tokens());
        let mut used = json!({
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
        });
        if self.drafts {
            let drafted = answer.drafted();
            used["completion_tokens_details"] = json!({
                "accepted_prediction_tokens": drafted.kept,
                "rejected_prediction_tokens": drafted.proposed - drafted.kept,
            });
        }
        used
    }

    /// What a piece adds to a text.
    fn part(&self, index: usize, piece: &Piece) -> Value {
        match self.form {
            Form::Chat if piece.text.is_empty() => self.delta(index, &json!({}), piece),
            Form::Chat => self.delta(index, &json!({ "content": piece.text }), piece),
            Form::Text => {
                let mut choice = self.choice(index, piece);
                choice["text"] = json!(piece.text);
                choice
            }
        }
    }

    fn delta(&self, index: usize, delta: &Value, piece: &Piece) -> Value {
        let mut choice = self.choice(index, piece);
        choice["delta"] = delta.clone();
        choice
    }

    fn choice(&self, index: usize, piece: &Piece) -> Value {
        let scores = if piece.scored.is_empty() { Value::Null } else { self.scores(&piece.scored) };
        let mut choice =
            json!({ "index": index, "logprobs": scores, "finish_reason": piece.finish });
        if self.drafts {
            choice["drafted"] = json!(piece.drafted);
        }
        choice
    }

    /// An event with one choice.
    fn event(&self, choice: &Value) -> String {
        self.event_of(&json!([choice]), &Value::Null)
    }

    fn event_of(&self, choices: &Value, usage: &Value) -> String {
        let kind = match self.form {
            Form::Text => "text_completion",
            Form::Chat => "chat.completion.chunk",
        };
        let mut body = self.head(kind, choices);
        if self.usage {
            body["usage"] = usage.clone();
        }
        data(&body)
    }
}

/// The events of a stream.
struct Events {
    reply: Reply,
    answer: Answer,
    ready: VecDeque<String>,
    is_over: bool,
}

impl Events {
    async fn next(&mut self) -> Option<String> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.is_over {
            return None;
        }
        match self.answer.next().await {
            Ok(Some(Part { text, piece })) => {
                Some(self.reply.event(&self.reply.part(text, &piece)))
            }
            Ok(None) => {
                self.is_over = true;
                let done = "data: [DONE]\n\n".to_owned();
                if !self.reply.usage {
                    return Some(done);
                }
                self.ready.push_back(done);
                Some(self.reply.event_of(&json!([]), &self.reply.used(&self.answer)))
            }
            Err(error) => {
                self.is_over = true;
                Some(data(&error.json()))
            }
        }
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}
