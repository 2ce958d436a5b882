//! All answers of a list of requests.

use std::{collections::HashMap, ops::ControlFlow};

use crate::{Drafted, Engine, Error, Event, Finish, Logprobs, Request, RequestId, Result};

/// An answer, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its tokens, without the one that stopped it.
    pub tokens: Vec<u32>,
    /// Of each token, where they were asked for.
    pub logprobs: Vec<Logprobs>,
    /// Of the prompt's tokens from the second on, where they were asked for.
    pub prompt_logprobs: Vec<Logprobs>,
    /// Why it ended.
    pub reason: Finish,
    /// What drafting came to.
    pub drafted: Drafted,
}

/// What is new of a request.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// A token of its answer.
    Token(u32),
    /// Its whole answer.
    Answer(&'a Answer),
}

/// Answers all requests, in their order. Calls `on(request, news)` for every new token and every finished answer;
/// where it returns [`ControlFlow::Break`] for a token, the answer ends there with [`Finish::Stop`].
///
/// # Errors
/// As [`Engine::submit`] and [`Engine::step`]; [`Error::NotFinite`] where logits are NaN.
pub fn generate(
    engine: &mut Engine,
    requests: &[Request],
    mut on: impl FnMut(usize, Heard<'_>) -> ControlFlow<()>,
) -> Result<Vec<Answer>> {
    let mut places: HashMap<RequestId, usize> = HashMap::new();
    for (place, request) in requests.iter().enumerate() {
        places.insert(engine.submit(request.clone())?, place);
    }
    let empty = Answer {
        tokens: Vec::new(),
        logprobs: Vec::new(),
        prompt_logprobs: Vec::new(),
        reason: Finish::Length,
        drafted: Drafted::default(),
    };
    let mut answers = vec![empty; requests.len()];
    while engine.is_busy() {
        // A pass may give more than one token: those behind a stop are not heard.
        let mut stopped = Vec::new();
        let mut finished = Vec::new();
        for event in engine.step()? {
            match event {
                Event::Token { id, token, logprobs, .. } if !stopped.contains(&id) => {
                    let answer = &mut answers[places[&id]];
                    answer.tokens.push(token);
                    answer.logprobs.extend(logprobs);
                    if on(places[&id], Heard::Token(token)).is_break() {
                        stopped.push(id);
                    }
                }
                Event::Token { .. } => {}
                Event::Prompt { id, logprobs } => {
                    answers[places[&id]].prompt_logprobs.extend(logprobs);
                }
                finish @ Event::Finished { .. } => finished.push(finish),
            }
        }
        finished.extend(stopped.iter().filter_map(|id| engine.cancel(*id)));
        for event in finished {
            let Event::Finished { id, reason, drafted } = event else { continue };
            let (request, answer) = (places[&id], &mut answers[places[&id]]);
            answer.drafted = drafted;
            answer.reason = match reason {
                Finish::NotFinite => return Err(Error::NotFinite { request }),
                _ if stopped.contains(&id) => Finish::Stop,
                reason => reason,
            };
            let _ = on(request, Heard::Answer(answer));
        }
    }
    Ok(answers)
}
