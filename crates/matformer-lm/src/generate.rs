//! Generation with a KV cache: greedy or sampled, many prompts and submodels in one batch.
//!
//! Sees token ids only; the tokenizer is the caller's.

use matformer_core::{Plan, Spans, Submodel, rng};
use matformer_nn::{Elastic, State, walk};

use crate::{Error, MatLm, Result};

/// How tokens are chosen.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Maximum number of new tokens per prompt; generation also ends when the context is full.
    pub max_new_tokens: usize,
    /// 0: the most likely token. Otherwise logits are divided by it before sampling.
    pub temperature: f64,
    /// Sample among the `top_k` most likely tokens only (0: all).
    pub top_k: usize,
    /// Sample among the most likely tokens that together have this probability (1: all).
    pub top_p: f64,
    /// Seed of the sampling; each row and position has a draw of its own.
    pub seed: u64,
    /// Tokens that end a row; they are not part of the result.
    pub stop: Vec<u32>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_new_tokens: 64,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

impl GenerateOptions {
    /// Checks the sampling options.
    ///
    /// # Errors
    /// [`Error::Option`] names the first option that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::Option {
                option: "temperature",
                found: self.temperature.to_string(),
                expected: "0 or more",
            });
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::Option {
                option: "top_p",
                found: self.top_p.to_string(),
                expected: "above 0, at most 1",
            });
        }
        Ok(())
    }
}

/// Continuation of one prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// New tokens, without the one that stopped it.
    pub tokens: Vec<u32>,
    /// Whether generation ended at a stop token, not at `max_new_tokens` or the end of the
    /// context.
    pub stopped: bool,
}

/// Continues `prompts[i]` with `submodels[i]`, all prompts in one batch.
///
/// Calls `on_token(row, token)` for every new token.
///
/// # Errors
/// When a prompt is empty or leaves no room in the context, a token is not in the vocabulary, or
/// a submodel does not fit the model.
pub fn generate(
    model: &MatLm,
    prompts: &[Vec<u32>],
    submodels: &[Submodel],
    options: &GenerateOptions,
    mut on_token: impl FnMut(usize, u32),
) -> Result<Vec<Generated>> {
    options.validate()?;
    if submodels.len() != prompts.len() {
        return Err(Error::Submodels { found: submodels.len(), prompts: prompts.len() });
    }
    let context = model.config().context;
    if prompts.iter().any(Vec::is_empty) || prompts.is_empty() {
        return Err(Error::Empty);
    }
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if longest >= context {
        return Err(Error::PromptTooLong { found: longest, context });
    }
    let most = |prompt: &Vec<u32>| options.max_new_tokens.min(context - prompt.len());
    let capacity = prompts.iter().map(|prompt| prompt.len() + most(prompt)).max().unwrap_or(0);
    let mut state = State::with_cache(prompts.len(), capacity);
    let mut results = vec![Generated::default(); prompts.len()];

    // Unfinished rows, and the tokens to feed for each: the prompt, then the last new token.
    let mut live: Vec<usize> = (0..prompts.len()).filter(|row| most(&prompts[*row]) > 0).collect();
    let mut unseen: Vec<&[u32]> = live.iter().map(|row| &prompts[*row][..]).collect();
    let mut next;
    while !live.is_empty() {
        let logits = step(model, &live, &unseen, submodels, &mut state)?;
        next = Vec::new();
        let rows = logits.chunks(model.config().vocab_size);
        let going_on = std::mem::take(&mut live).into_iter().zip(rows);
        for (row, logits) in going_on {
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(Error::NotFinite { row });
            }
            let (result, prompt) = (&mut results[row], &prompts[row]);
            let position = prompt.len() + result.tokens.len();
            let token = choose(logits, options, row, position as u64);
            if options.stop.contains(&token) {
                result.stopped = true;
                continue;
            }
            on_token(row, token);
            result.tokens.push(token);
            if result.tokens.len() < most(prompt) {
                live.push(row);
                next.push(token);
            }
        }
        unseen = next.chunks(1).collect();
    }
    Ok(results)
}

/// Walks the unseen tokens of some rows, each in the slot of its own, and returns the logits after
/// the last token of each, `[rows, vocab]` flattened.
fn step(
    model: &MatLm,
    rows: &[usize],
    unseen: &[&[u32]],
    submodels: &[Submodel],
    state: &mut State,
) -> Result<Vec<f32>> {
    let submodels: Vec<Submodel> = rows.iter().map(|row| submodels[*row].clone()).collect();
    let Some(cache) = state.cache() else { unreachable!("generation makes its state a cache") };
    let spans = rows.iter().zip(unseen).map(|(row, tokens)| cache.span(*row, tokens.len()));
    let input = model.tokens_of(&Spans::new(spans.collect()), &unseen.concat())?;
    let walked = walk(model, &input, &Plan::rows(&submodels)?, state)?;
    let logits = model.head(&walked.all().last());
    Ok(logits.try_into_vec_as().map_err(|e| matformer_nn::Error::read("logits", e))?)
}

/// One token out of one row of logits.
fn choose(logits: &[f32], options: &GenerateOptions, row: usize, position: u64) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // Descending; equal logits by id, so that ties break the same way everywhere.
    let by_logit =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if options.temperature == 0.0 {
        return order.into_iter().min_by(by_logit).unwrap_or(0);
    }
    order.sort_by(by_logit);
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let max = f64::from(logits[order[0] as usize]);
    let weights: Vec<f64> = order
        .iter()
        .map(|id| ((f64::from(logits[*id as usize]) - max) / options.temperature).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let nucleus = weights.iter().position(|w| {
        kept += w;
        kept >= options.top_p * total
    });
    let weights = &weights[..nucleus.map_or(weights.len(), |i| i + 1)];
    let mut random = rng::keyed(options.seed, &format!("sample {row}"), position);
    let mut left = rng::unit(&mut random) * weights.iter().sum::<f64>();
    for (id, weight) in order.iter().zip(weights) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    order[weights.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f64, top_k: usize, top_p: f64) -> GenerateOptions {
        GenerateOptions { temperature, top_k, top_p, ..Default::default() }
    }

    #[test]
    fn greedy_takes_the_largest_and_breaks_ties_by_id() {
        assert_eq!(choose(&[0.0, 3.0, 3.0, -1.0], &options(0.0, 0, 1.0), 0, 0), 1);
    }

    #[test]
    fn sampling_follows_the_distribution_within_its_limits() {
        let logits = [2.0f32, 1.0, 0.0, -30.0];
        let count = |o: &GenerateOptions| {
            (0..4000).fold([0; 4], |mut n, i| {
                n[choose(&logits, o, 0, i) as usize] += 1;
                n
            })
        };
        let free = count(&options(1.0, 0, 1.0));
        let share = f64::from(free[0]) / 4000.0;
        assert!((share - 0.665).abs() < 0.03, "{free:?}");
        assert_eq!(count(&options(1.0, 1, 1.0))[0], 4000);
        assert_eq!(count(&options(1.0, 0, 0.5))[0], 4000);
        let two = count(&options(1.0, 2, 1.0));
        assert!(two[1] > 0 && two[2] == 0, "{two:?}");
        assert_eq!(count(&options(1.0, 0, 1.0)), free, "the same seed draws the same");
    }

    #[test]
    fn options_out_of_range_are_named() {
        let message = options(-1.0, 0, 1.0).validate().unwrap_err().to_string();
        assert!(message.contains("`temperature` is -1"), "{message}");
        assert!(options(1.0, 0, 0.0).validate().is_err());
    }
}
