//! Log-probabilities of a text, token by token.

use matformer_core::{Plan, Submodel};
use matformer_nn::{State, walk};

use crate::{Error, MatLm, Result};

/// Natural log-probability of each token given the ones before it; the first has none.
///
/// A text longer than the context is scored in rolling windows that overlap by half, so that
/// every token but those of the first window has at least half a context before it.
///
/// # Errors
/// When a token is not in the vocabulary or the submodel does not fit the model.
pub fn score(model: &MatLm, submodel: &Submodel, tokens: &[u32]) -> Result<Vec<Option<f32>>> {
    if tokens.is_empty() {
        return Err(Error::Empty);
    }
    let context = model.config().context;
    let plan = Plan::one(submodel);
    let mut logprobs = vec![None];
    let mut start = 0;
    while logprobs.len() < tokens.len() {
        // Inputs start..end−1 predict tokens start+1..end.
        let end = (start + context + 1).min(tokens.len());
        let window = &tokens[start..end];
        let input = model.tokens(1, &window[..window.len() - 1])?;
        let target = model.targets(1, &window[1..], None)?;
        let walked = walk(model, &input, &plan, &mut State::new())?;
        let nats = model.token_nats(&walked.of(0), &target);
        let nats: Vec<f32> = nats
            .try_into_vec_as()
            .map_err(|e| matformer_nn::Error::read("log-probabilities", e))?;
        let known = logprobs.len() - (start + 1);
        logprobs.extend(nats[known..].iter().map(|n| Some(-n)));
        start = end.saturating_sub(context / 2 + 1).max(start + 1);
    }
    Ok(logprobs)
}
