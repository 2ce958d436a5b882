//! From what a model says to scores.

use rayon::prelude::*;

use crate::{
    Error, Example, Filters, Metric, Named, PythonRandom, Question, Result, Task, hooks::normalized,
};

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
    /// To the denominator; of [`Metric::MacroF1`] the correct class, where the chosen one is in the numerator.
    pub of: f64,
}

impl Task {
    /// What an example adds to a score, where a reply that is a text passes through `filters`.
    ///
    /// # Errors
    /// [`Error::Reply`] if the reply is not one to the example, or the score is not one of the task's type.
    pub fn part(
        &self,
        (metric, filters): (Metric, &Filters),
        example: &Example,
        reply: &Reply,
    ) -> Result<Part> {
        let wrong = || Error::Reply { at: example.at.clone(), metric: metric.name() };
        let one = |sum: f64| Ok(Part { sum, of: 1.0 });
        let share = |is: bool| one(f64::from(u8::from(is)));
        match (&example.question, reply) {
            (Question::Choice { choices, gold, named, .. }, Reply::Logliks(logliks))
                if choices.len() == logliks.len() && !choices.is_empty() =>
            {
                let best = |length: fn(&str) -> usize| best(choices, logliks, length);
                match (metric, named) {
                    (Metric::Acc, _) => share(gold.contains(&best(|_| 1))),
                    (Metric::AccNorm, _) => {
                        share(gold.contains(&best(|choice| choice.chars().count())))
                    }
                    (Metric::AccBytes, _) => share(gold.contains(&best(str::len))),
                    (Metric::ExactMatch, _) => {
                        let greedy = |at: &usize| logliks[*at].greedy.ok_or_else(wrong);
                        let greedy = gold.iter().map(greedy).collect::<Result<Vec<bool>>>()?;
                        share(greedy.contains(&true))
                    }
                    (Metric::MacroF1, _) => {
                        let gold = gold.first().map_or(-1.0, |at| *at as f64);
                        Ok(Part { sum: best(|_| 1) as f64, of: gold })
                    }
                    (Metric::F1 | Metric::Em, Some(Named { choices, answers })) => {
                        let chosen = normalized(&choices[best(|_| 1)]);
                        let answers = answers.iter().map(|answer| normalized(answer));
                        let score = |answer: Vec<String>| match metric {
                            Metric::F1 => words_in_common(&chosen, &answer),
                            _ => f64::from(u8::from(chosen == answer)),
                        };
                        one(answers.map(score).fold(0.0, f64::max))
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
                share(self.matching.is_match(&filters.apply(text), answers))
            }
            _ => Err(wrong()),
        }
    }
}

/// The choice with the highest log-likelihood by length; of equal ones the first.
fn best(choices: &[String], logliks: &[Loglik], length: fn(&str) -> usize) -> usize {
    let scores = choices.iter().zip(logliks).map(|(c, loglik)| loglik.sum / length(c) as f64);
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    scores.enumerate().reduce(better).map_or(0, |(at, _)| at)
}

/// F1 of words; of two answers without words, whether both have none.
fn words_in_common(a: &[String], b: &[String]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return f64::from(u8::from(a == b));
    }
    let mut rest = b.to_vec();
    let same = a.iter().filter(|word| {
        let at = rest.iter().position(|other| other == *word);
        at.map(|at| rest.swap_remove(at)).is_some()
    });
    2.0 * same.count() as f64 / (a.len() + b.len()) as f64
}

/// Mean over the classes 0, 1 and 2 of the F1 of choosing each; 0 of a class that is neither chosen nor correct.
pub fn macro_f1(parts: &[Part]) -> f64 {
    let of_class = |class: f64| {
        let of = |is: fn(&Part, f64) -> bool| parts.iter().filter(|part| is(part, class)).count();
        let both = of(|part, class| part.sum == class && part.of == class);
        let all = of(|part, class| part.sum == class) + of(|part, class| part.of == class);
        if all == 0 { 0.0 } else { 2.0 * both as f64 / all as f64 }
    };
    [0.0, 1.0, 2.0].map(of_class).iter().sum::<f64>() / 3.0
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
        assert_eq!(best(&choices, &logliks, |_| 1), 0);
        assert_eq!(best(&choices, &logliks, |c| c.chars().count()), 1, "-1.0 and -0.9");
        assert_eq!(best(&choices, &logliks, str::len), 1, "-1.0 and -0.45");
        assert_eq!(best(&choices, &[-1.0, -1.0].map(loglik), |_| 1), 0, "the first of equal ones");
    }

    #[test]
    fn words_are_compared_as_in_squad() {
        let f1 = |a: &str, b: &str| words_in_common(&normalized(a), &normalized(b));
        assert_eq!((f1("The Red, red stone!", "a red stone"), f1("the", "an")), (0.8, 1.0));
        assert_eq!((f1("red", "stone"), f1("the", "stone")), (0.0, 0.0));
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
