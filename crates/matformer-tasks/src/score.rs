//! From what a model says to scores.

use rayon::prelude::*;

use crate::{Error, Example, Metric, PythonRandom, Question, Result, Task};

/// What a model says to an example.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Of each prompt of the question, or of its text.
    Logliks(Vec<Loglik>),
    /// What was generated.
    Text(String),
}

/// How likely a continuation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loglik {
    /// The sum of the log-probabilities of its tokens.
    pub sum: f64,
    /// Whether each token is the most likely one; where no score depends on that, it may be unknown.
    pub greedy: Option<bool>,
}

/// What an example adds to a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// To the numerator.
    pub sum: f64,
    /// To the denominator.
    pub of: f64,
}

impl Task {
    /// What an example adds to a score.
    ///
    /// # Errors
    /// [`Error::Reply`] if the reply is not one to the example, or the score is not one of the task's type.
    pub fn part(&self, metric: Metric, example: &Example, reply: &Reply) -> Result<Part> {
        let wrong = || Error::Reply { at: example.at.clone(), metric: metric.name() };
        let one = |sum: f64| Ok(Part { sum, of: 1.0 });
        let share = |is: bool| one(f64::from(u8::from(is)));
        match (&example.question, reply) {
            (Question::Choice { choices, gold, .. }, Reply::Logliks(logliks))
                if choices.len() == logliks.len() =>
            {
                match metric {
                    Metric::Acc => share(is_correct(choices, gold, logliks, |_| 1)),
                    Metric::AccNorm => {
                        share(is_correct(choices, gold, logliks, |choice| choice.chars().count()))
                    }
                    Metric::AccBytes => share(is_correct(choices, gold, logliks, str::len)),
                    Metric::ExactMatch => {
                        let greedy = |at: &usize| logliks[*at].greedy.ok_or_else(wrong);
                        let greedy = gold.iter().map(greedy).collect::<Result<Vec<bool>>>()?;
                        share(greedy.contains(&true))
                    }
                    _ => Err(wrong()),
                }
            }
            (Question::Continuation(_), Reply::Logliks(logliks)) => match (metric, &logliks[..]) {
                (Metric::Perplexity, [loglik]) => one(loglik.sum),
                (Metric::Acc, [loglik]) => share(loglik.greedy.ok_or_else(wrong)?),
                _ => Err(wrong()),
            },
            (Question::Text { text, words }, Reply::Logliks(logliks)) => {
                let [Loglik { sum, .. }] = logliks[..] else { return Err(wrong()) };
                match metric {
                    Metric::WordPerplexity => Ok(Part { sum, of: *words as f64 }),
                    Metric::BytePerplexity | Metric::BitsPerByte => {
                        Ok(Part { sum, of: text.len() as f64 })
                    }
                    _ => Err(wrong()),
                }
            }
            (Question::Generation { answers, .. }, Reply::Text(text))
                if metric == Metric::ExactMatch =>
            {
                share(self.matching.is_match(text, answers))
            }
            _ => Err(wrong()),
        }
    }
}

/// Whether the choice with the highest log-likelihood by length is correct; of equal ones the first counts.
fn is_correct(
    choices: &[String],
    gold: &[usize],
    logliks: &[Loglik],
    length: impl Fn(&str) -> usize,
) -> bool {
    let scores = choices.iter().zip(logliks).map(|(c, loglik)| loglik.sum / length(c) as f64);
    let best = scores.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.is_some_and(|(at, _)| gold.contains(&at))
}

/// The standard error of a perplexity: the spread of those of samples that are drawn with replacement, the same that
/// lm-evaluation-harness draws. None of fewer than two log-likelihoods.
pub fn bootstrap_perplexity(logliks: &[f64]) -> Option<f64> {
    /// Generators, with the seeds 0, 1, 2 and so on.
    const SEEDS: u32 = 100;
    /// Samples of each.
    const SAMPLES: usize = 1000;
    if logliks.len() < 2 {
        return None;
    }
    let n = logliks.len() as f64;
    let of_seed = |seed: u32| -> Vec<f64> {
        let mut random = PythonRandom::new(seed);
        let mut sum = || -> f64 { logliks.iter().map(|_| *random.choice(logliks)).sum() };
        (0..SAMPLES).map(|_| (-sum() / n).exp()).collect()
    };
    let found: Vec<f64> = (0..SEEDS).into_par_iter().flat_map_iter(of_seed).collect();
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let squares = found.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    Some((squares / (found.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loglik(sum: f64) -> Loglik {
        Loglik { sum, greedy: None }
    }

    #[test]
    fn lengths_decide_between_choices() {
        let choices = ["ab", "äöü"].map(str::to_owned);
        let logliks = [-2.0, -2.7].map(loglik);
        assert!(!is_correct(&choices, &[1], &logliks, |_| 1));
        assert!(is_correct(&choices, &[1], &logliks, |c| c.chars().count()), "-1.0 and -0.9");
        assert!(is_correct(&choices, &[1], &logliks, str::len), "-1.0 and -0.45");
        let equal = [-1.0, -1.0].map(loglik);
        assert!(!is_correct(&choices, &[1], &equal, |_| 1), "the first of equal ones");
    }

    /// `bootstrap_stderr(perplexity, …, 100000)` of lm-evaluation-harness.
    #[test]
    fn bootstrapped_errors_are_those_of_the_harness() {
        let found = bootstrap_perplexity(&[-1.5, -0.25, -3.0, -2.0, -0.75]).unwrap();
        assert!((found - EXPECTED).abs() < 1e-12, "{found}");
        assert_eq!(bootstrap_perplexity(&[-1.5]), None);
    }
    const EXPECTED: f64 = 2.255_595_949_663_278_7;
}
