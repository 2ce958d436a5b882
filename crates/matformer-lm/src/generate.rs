//! Generation with a KV cache: greedy or sampled, many prompts and submodels in one batch.
//!
//! Sees token ids only; the tokenizer is the caller's.

use burn::tensor::{Int, Tensor, TensorData};
use matformer_core::{Plan, Submodel, rng};
use matformer_nn::{Elastic, State, walk};

use crate::{Error, MatLm, Result};

/// How tokens are chosen.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most new tokens of each prompt; the context bounds them too.
    pub max_new_tokens: usize,
    /// 0: the most likely token. Otherwise logits are divided by it before sampling.
    pub temperature: f64,
    /// Sample among the `top_k` most likely tokens only (0: all).
    pub top_k: usize,
    /// Sample among the most likely tokens that together have this probability (1: all).
    pub top_p: f64,
    /// Seed of the sampling; each row and position has a draw of its own.
    pub seed: u64,
    /// Token that ends a row; it is not part of the result.
    pub stop: Option<u32>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 64, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0, stop: None }
    }
}

impl GenerateOptions {
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

/// What one prompt gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// New tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Whether the stop token ended it, not a length.
    pub stopped: bool,
}

/// Goes on from each prompt with the submodel of its own.
///
/// `on_token(row, token)` hears every new token as it is chosen.
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
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if prompts.iter().any(Vec::is_empty) || prompts.is_empty() {
        return Err(Error::Empty);
    }
    if longest >= context {
        return Err(Error::PromptTooLong { found: longest, context });
    }
    let rows = prompts.len();
    let steps = options.max_new_tokens.min(context - longest);
    let plan = Plan::rows(submodels)?;
    let mut state = State::with_cache(rows, longest + steps);
    let mut results = vec![Generated::default(); rows];

    let mut last = prefill(model, prompts, &plan, &mut state)?; // [rows, vocab]
    for step in 0..steps {
        let logits = read_rows(last, rows)?;
        let mut next = vec![0; rows];
        for (row, result) in results.iter_mut().enumerate().filter(|(_, r)| !r.stopped) {
            let position = (prompts[row].len() + step) as u64;
            let token = choose(&logits[row], options, row, position);
            if Some(token) == options.stop {
                result.stopped = true;
                continue;
            }
            on_token(row, token);
            result.tokens.push(token);
            next[row] = token;
        }
        if step + 1 == steps || results.iter().all(|r| r.stopped) {
            break;
        }
        let walked = walk(model, &model.tokens(rows, &next)?, &plan, &mut state)?;
        last = model.head(walked.hidden());
    }
    Ok(results)
}

/// Runs the prompts, padded behind to the longest, and returns each row's logits after its last
/// token. The cache forgets the padding.
fn prefill(
    model: &MatLm,
    prompts: &[Vec<u32>],
    plan: &Plan,
    state: &mut State,
) -> Result<Tensor<2>> {
    let (rows, longest) = (prompts.len(), prompts.iter().map(Vec::len).max().unwrap_or(0));
    let padded: Vec<u32> = prompts
        .iter()
        .flat_map(|p| p.iter().copied().chain(std::iter::repeat_n(0, longest - p.len())))
        .collect();
    let walked = walk(model, &model.tokens(rows, &padded)?, plan, state)?;
    if let Some(cache) = state.cache_mut() {
        prompts.iter().enumerate().for_each(|(row, p)| cache.truncate(row, p.len()));
    }
    let ends: Vec<i32> =
        prompts.iter().enumerate().map(|(row, p)| (row * longest + p.len() - 1) as i32).collect();
    let ends = Tensor::<1, Int>::from_data(TensorData::new(ends, [rows]), &model.device());
    Ok(model.head(walked.hidden().select(0, ends)))
}

fn read_rows(logits: Tensor<2>, rows: usize) -> Result<Vec<Vec<f32>>> {
    let all: Vec<f32> = logits.try_into_vec_as().map_err(|e| matformer_nn::Error::Read {
        tensor: "logits".to_owned(),
        message: e.to_string(),
    })?;
    Ok(all.chunks(all.len() / rows).map(<[f32]>::to_vec).collect())
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
