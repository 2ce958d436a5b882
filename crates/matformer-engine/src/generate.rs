//! All answers of a list of requests.

use std::collections::HashMap;

use matformer_lm::MatLm;

use crate::{Drafted, Engine, EngineOptions, Error, Event, Finish, Request, RequestId, Result};

/// Requests that share the passes of an engine, at most.
const TOGETHER: usize = 16;

/// An answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its tokens, without the one that stopped it.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub reason: Finish,
    /// What drafting came to.
    pub drafted: Drafted,
}

/// Answers all requests, in their order, through an engine with as much room as they need: `slots` and `capacity` of the
/// options are not read. Calls `on_token(request, token)` for every new token.
///
/// # Errors
/// As [`Engine::submit`] and [`Engine::step`]; [`Error::NotFinite`] where logits are NaN.
pub fn generate(
    model: &MatLm,
    requests: &[Request],
    options: &EngineOptions,
    mut on_token: impl FnMut(usize, u32),
) -> Result<Vec<Answer>> {
    let tokens =
        |request: &Request| request.prompt.len().saturating_add(request.max_new_tokens.max(1));
    let options = EngineOptions {
        slots: requests.len().clamp(1, TOGETHER),
        capacity: requests.iter().map(tokens).max(),
        ..options.clone()
    };
    let mut engine = Engine::new(model, &options)?;
    let mut places: HashMap<RequestId, usize> = HashMap::new();
    for (place, request) in requests.iter().enumerate() {
        places.insert(engine.submit(request.clone())?, place);
    }
    let empty = Answer { tokens: Vec::new(), reason: Finish::Length, drafted: Drafted::default() };
    let mut answers = vec![empty; requests.len()];
    while engine.is_busy() {
        for event in engine.step()? {
            match event {
                Event::Token { id, token, .. } => {
                    answers[places[&id]].tokens.push(token);
                    on_token(places[&id], token);
                }
                Event::Finished { id, reason: Finish::NotFinite, .. } => {
                    return Err(Error::NotFinite { request: places[&id] });
                }
                Event::Finished { id, reason, drafted } => {
                    let answer = &mut answers[places[&id]];
                    (answer.reason, answer.drafted) = (reason, drafted);
                }
            }
        }
    }
    Ok(answers)
}
