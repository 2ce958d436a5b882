//! Texts that are continued: prompts as requests to an engine, and what it answers as text.

mod ask;
mod rows;

use matformer_engine::{Drafted, Engine, EngineModel, EngineOptions, Logprobs, Request};
use serde::Serialize;

pub use self::{
    ask::{Ask, Asker, Options},
    rows::{Line, answer, read},
};
use crate::error::{OrBadInput, Result};

/// An answer as `--json` and `--prompts` print it.
#[derive(Debug, Serialize)]
pub struct Output {
    /// The size.
    pub submodel: String,
    /// The prompt.
    pub prompt: String,
    /// What was generated, without the prompt, control tokens and the stop string.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// `stop` (end of text, or a stop string) or `length`.
    pub finish_reason: &'static str,
    /// Of each token, with --logprobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Logprobs>,
    /// What drafting came to, with --draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drafted: Option<Drafted>,
}

/// An engine with room for requests, so many at a time.
///
/// # Errors
/// When the model's weights do not fit the device.
pub fn engine(model: &EngineModel, requests: &[Request], slots: usize) -> Result<Engine> {
    let tokens =
        |request: &Request| request.prompt.len().saturating_add(request.max_new_tokens.max(1));
    let options = EngineOptions {
        slots: slots.min(requests.len()).max(1),
        capacity: requests.iter().map(tokens).max(),
        ..EngineOptions::default()
    };
    Engine::new(model, &options).bad_input()
}
