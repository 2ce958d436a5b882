//! What a task came to.

use std::f64::consts::LN_2;

use matformer_core::{Space, Submodel};
use matformer_eval::{Error as EvalError, stats};
use matformer_run::{Error, Result};
use matformer_tasks::{
    Aggregation, Example, Filters, Metric, Part, Problem, Question, Reply, Task,
    bootstrap_perplexity, macro_f1,
};
use serde::Serialize;

use super::encode::Encoded;

/// Scores of submodels on a task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskResult {
    /// The task.
    pub task: String,
    /// The split that was scored.
    pub split: String,
    /// Few-shot examples of each example.
    pub num_fewshot: usize,
    /// Examples that were scored.
    pub examples: usize,
    /// Examples whose context was cut to fit the model.
    pub truncated: usize,
    /// Examples that are among their own few-shot examples.
    pub own_shots: usize,
    /// What is wrong with rows.
    pub problems: Vec<Problem>,
    /// Of each submodel.
    pub results: Vec<SubmodelScores>,
    /// Of each example.
    pub samples: Vec<Sample>,
}

/// A submodel's scores.
#[derive(Debug, Clone, Serialize)]
pub struct SubmodelScores {
    /// The submodel.
    pub submodel: String,
    /// Its widths.
    pub widths: Vec<usize>,
    /// In the order of the task.
    pub scores: Vec<Score>,
}

/// A score over examples.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// Which one.
    pub metric: Metric,
    /// The entry of `filter_list` that generated texts passed through, where a task has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Its value.
    pub value: f64,
    /// Its standard error, where lm-evaluation-harness has one.
    pub stderr: Option<f64>,
}

/// What submodels said to an example.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Its file and row.
    pub row: String,
    /// Indices of the correct choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<Vec<usize>>,
    /// The answers that are right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Of each submodel, the log-likelihood of each continuation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loglikelihoods: Vec<Vec<f64>>,
    /// Of each submodel, whether greedy decoding gives each continuation, where a score needs that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub greedy: Vec<Vec<bool>>,
    /// Of each submodel, what it generated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<String>,
}

impl TaskResult {
    /// Scores of what each submodel said to each example.
    pub(super) fn new(
        task: &Task,
        space: &Space,
        submodels: &[Submodel],
        encoded: Encoded,
        replies: &[Vec<Reply>],
    ) -> Result<Self> {
        let (found, truncated) = (encoded.found, encoded.truncated);
        let scores = |(submodel, replies): (&Submodel, &Vec<Reply>)| {
            let score = |by| score(task, by, &found.examples, replies);
            Ok(SubmodelScores {
                submodel: space.label(submodel),
                widths: submodel.widths().to_vec(),
                scores: scored_by(task).map(score).collect::<Result<_>>()?,
            })
        };
        let sample = |(at, example): (usize, &Example)| {
            Sample::new(example, replies.iter().map(|replies| &replies[at]))
        };
        Ok(Self {
            task: task.name.clone(),
            num_fewshot: found.shots,
            examples: found.examples.len(),
            truncated,
            own_shots: found.own_shots,
            split: task.scored().to_owned(),
            results: submodels.iter().zip(replies).map(scores).collect::<Result<_>>()?,
            samples: found.examples.iter().enumerate().map(sample).collect(),
            problems: found.problems,
        })
    }
}

impl Sample {
    fn new<'a>(example: &Example, replies: impl Iterator<Item = &'a Reply>) -> Self {
        let (mut gold, mut answers) = (None, Vec::new());
        match &example.question {
            Question::Choice { gold: indices, .. } => gold = Some(indices.clone()),
            Question::Generation { answers: texts, .. } => answers.clone_from(texts),
            Question::Continuation(_) | Question::Text { .. } => {}
        }
        let (loglikelihoods, greedy, generated) = (Vec::new(), Vec::new(), Vec::new());
        let row = example.at.clone();
        let mut sample = Self { row, gold, answers, loglikelihoods, greedy, generated };
        for reply in replies {
            match reply {
                Reply::Logliks(logliks) => {
                    sample.loglikelihoods.push(logliks.iter().map(|l| l.sum).collect());
                    let greedy = logliks.iter().map(|l| l.greedy).collect::<Option<Vec<_>>>();
                    sample.greedy.extend(greedy);
                }
                Reply::Text(text) => sample.generated.push(text.clone()),
            }
        }
        sample
    }
}

/// Metrics of a task, once for each entry of its `filter_list`.
fn scored_by(task: &Task) -> impl Iterator<Item = (Metric, &Filters)> {
    let metrics = |filters| task.metrics.iter().map(move |metric| (*metric, filters));
    task.filters.iter().flat_map(metrics)
}

/// A submodel's score, as lm-evaluation-harness aggregates it.
fn score(
    task: &Task,
    by: (Metric, &Filters),
    examples: &[Example],
    replies: &[Reply],
) -> Result<Score> {
    let (metric, filters) = by;
    let part = |(example, reply)| task.part(by, example, reply).map_err(Error::failed);
    let parts = examples.iter().zip(replies).map(part).collect::<Result<Vec<Part>>>()?;
    let mean = || stats::mean(parts.iter().map(|part| (part.sum, None)), "examples");
    let ratio = || {
        let of: f64 = parts.iter().map(|part| part.of).sum();
        let sum: f64 = parts.iter().map(|part| part.sum).sum();
        if of > 0.0 { Ok(sum / of) } else { Err(EvalError::Nothing { unit: "bytes" }) }
    };
    let (value, stderr) = match metric.aggregation() {
        Aggregation::Mean => {
            let mean = mean()?;
            (mean.value, mean.stderr)
        }
        Aggregation::MacroF1 => (macro_f1(&parts), None),
        Aggregation::Perplexity => {
            let logliks: Vec<f64> = parts.iter().map(|part| part.sum).collect();
            ((-mean()?.value).exp(), bootstrap_perplexity(&logliks))
        }
        Aggregation::WeightedPerplexity => ((-ratio()?).exp(), None),
        Aggregation::BitsPerByte => (-ratio()? / LN_2, None),
    };
    let filter = (task.filters.len() > 1).then(|| filters.name.clone());
    Ok(Score { metric, filter, value, stderr })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use matformer_tasks::Loglik;
    use serde_json::Value;

    use super::*;

    /// Of what lm-evaluation-harness makes of the same replies, with its standard errors.
    #[test]
    fn scores_are_those_of_the_harness() {
        let tasks = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../matformer-tasks");
        let folder = tasks.join("tests/fixtures");
        let text = std::fs::read_to_string(folder.join("scores.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        for name in ["endings", "pages", "colours"] {
            let task = Task::find(&folder, name).unwrap();
            let examples = task.examples(None, None).unwrap().examples;
            let replies = expected[name]["replies"].as_array().unwrap();
            let replies: Vec<Reply> = replies.iter().map(reply).collect();
            for (metric, filters) in scored_by(&task) {
                let found = score(&task, (metric, filters), &examples, &replies).unwrap();
                let expected = &expected[name]["scores"][&filters.name][metric.name()];
                let difference = found.value - expected[0].as_f64().unwrap();
                assert!(difference.abs() < 1e-12, "{name} {found:?} {expected}");
                assert_eq!(found.stderr.is_none(), expected[1].is_null(), "{name} {found:?}");
                if let Some((found, expected)) = found.stderr.zip(expected[1].as_f64()) {
                    assert!(
                        (found - expected).abs() < 1e-12,
                        "{name} {metric:?} {found} {expected}"
                    );
                }
            }
        }
    }

    fn reply(of_row: &Value) -> Reply {
        let loglik = |told: &Value| Loglik {
            sum: told.get(0).unwrap_or(told).as_f64().unwrap(),
            greedy: told.get(1).and_then(Value::as_bool),
        };
        Reply::Logliks(of_row.as_array().unwrap().iter().map(loglik).collect())
    }
}
