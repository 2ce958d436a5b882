//! From log-likelihoods to accuracies.

use serde::Serialize;

use crate::{Example, Metric};

/// A mean over examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// Which score.
    pub metric: Metric,
    /// The mean.
    pub value: f64,
    /// Its standard error; none of fewer than two examples.
    pub stderr: Option<f64>,
}

/// Whether the choice with the highest log-likelihood is correct. `logliks` has one sum of log-probabilities per
/// choice; of equal ones the first counts.
pub fn is_correct(metric: Metric, example: &Example, logliks: &[f64]) -> bool {
    let length = |choice: &str| match metric {
        Metric::Acc => 1,
        Metric::AccNorm => choice.chars().count(),
        Metric::AccBytes => choice.len(),
    };
    let scores = example.choices.iter().zip(logliks).map(|(c, loglik)| loglik / length(c) as f64);
    let best = scores.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.is_some_and(|(at, _)| example.gold.contains(&at))
}

/// The mean score of some examples, with the log-likelihoods of each one's choices.
pub fn mean(metric: Metric, examples: &[Example], logliks: &[Vec<f64>]) -> Mean {
    let n = examples.len() as f64;
    let correct = examples.iter().zip(logliks).filter(|(e, l)| is_correct(metric, e, l)).count();
    let value = correct as f64 / n;
    // Variance of zeros and ones, with n - 1.
    let stderr = (examples.len() > 1).then(|| (value * (1.0 - value) / (n - 1.0)).sqrt());
    Mean { metric, value, stderr }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(choices: &[&str], gold: &[usize]) -> Example {
        Example {
            at: "a:1".to_owned(),
            context: String::new(),
            choices: choices.iter().map(|c| (*c).to_owned()).collect(),
            continuations: Vec::new(),
            gold: gold.to_vec(),
        }
    }

    #[test]
    fn lengths_decide_between_choices() {
        let example = example(&["ab", "äöü"], &[1]);
        let logliks = [-2.0, -2.7];
        assert!(!is_correct(Metric::Acc, &example, &logliks));
        assert!(is_correct(Metric::AccNorm, &example, &logliks), "-1.0 and -0.9");
        assert!(is_correct(Metric::AccBytes, &example, &logliks), "-1.0 and -0.45");
        assert!(!is_correct(Metric::Acc, &example, &[-1.0, -1.0]), "the first of equal ones");
    }

    #[test]
    fn standard_errors_are_of_samples() {
        let examples =
            [example(&["a", "b"], &[0]), example(&["a", "b"], &[1]), example(&["a", "b"], &[])];
        let logliks = vec![vec![-1.0, -2.0]; 3];
        let mean = mean(Metric::Acc, &examples, &logliks);
        assert!((mean.value - 1.0 / 3.0).abs() < 1e-12);
        assert!((mean.stderr.unwrap() - 1.0 / 3.0).abs() < 1e-12, "{mean:?}");
        assert_eq!(super::mean(Metric::Acc, &examples[..1], &logliks[..1]).stderr, None);
    }
}
