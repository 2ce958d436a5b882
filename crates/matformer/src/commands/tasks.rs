//! `matformer eval --tasks`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Submodel, SubmodelSpec, units::counted},
    data::Tokenizer,
    eval::{Continuation, WINDOWS, continuation_nats},
    run::{ModelFolder, kind},
    run_file::{Lm, RunKind},
    tasks::{self, Example, Mean, Problem, Task},
    train::say,
};
use serde::Serialize;

use super::{Context, print_json, table};
use crate::{args::EvalArgs, failure::OrBadInput, output::out};

/// Problems of a task that are shown one by one.
const SHOWN: usize = 5;

/// `eval --tasks --json`: stable.
#[derive(Serialize)]
struct Printed {
    model: String,
    tasks: Vec<TaskResult>,
}

#[derive(Serialize)]
struct TaskResult {
    task: String,
    num_fewshot: usize,
    /// Examples that were scored.
    examples: usize,
    /// Examples whose context was cut to fit the model.
    truncated: usize,
    /// What is wrong with rows.
    problems: Vec<Problem>,
    results: Vec<SubmodelScores>,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct SubmodelScores {
    submodel: String,
    widths: Vec<usize>,
    scores: Vec<Mean>,
}

/// An example's log-likelihoods.
#[derive(Serialize)]
struct Sample {
    row: String,
    /// Indices of the correct choices.
    gold: Vec<usize>,
    /// Of each submodel, the log-likelihood of each choice.
    loglikelihoods: Vec<Vec<f64>>,
}

pub fn run(args: &EvalArgs, task_path: &Path, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "eval --tasks")?;
    // All that can be wrong with the tasks, before the model is read.
    let tasks = args.tasks.iter().map(|name| Task::find(task_path, name));
    let tasks = tasks.collect::<Result<Vec<_>, _>>().bad_input()?;
    let folder = ModelFolder::<Lm>::load(&args.model, &context.session)?;
    let submodels = match &args.submodels {
        None => folder.trained(),
        Some(list) => {
            let specs = SubmodelSpec::parse_list(list).bad_input()?;
            specs.iter().map(|spec| folder.submodel(Some(spec))).collect::<Result<_, _>>()?
        }
    };
    let tokenizer = folder.tokenizer()?;
    let scorer = Scorer { folder: &folder, tokenizer: &tokenizer, submodels: &submodels };
    let results = tasks.iter().map(|task| scorer.score(task, args)).collect::<Result<Vec<_>>>()?;
    if context.json {
        let model = args.model.display().to_string();
        return print_json(&Printed { model, tasks: results });
    }
    print(&results)?;
    Ok(ExitCode::SUCCESS)
}

/// A model, and what is measured of it.
struct Scorer<'a> {
    folder: &'a ModelFolder<Lm>,
    tokenizer: &'a Tokenizer,
    submodels: &'a [Submodel],
}

/// Examples as rows of tokens, one row per choice.
struct Rows {
    examples: Vec<Example>,
    continuations: Vec<Continuation>,
    problems: Vec<Problem>,
    truncated: usize,
}

impl Scorer<'_> {
    fn score(&self, task: &Task, args: &EvalArgs) -> Result<TaskResult> {
        let found = task.examples(args.num_fewshot, args.limit).bad_input()?;
        let shots = found.shots;
        let rows = self.rows(task, found).bad_input()?;
        say_problems(task, &rows);
        let name = |at: usize| format!("{}, continuation {at}", task.name);
        let nats = continuation_nats(
            &self.folder.model,
            &rows.continuations,
            &name,
            self.submodels,
            WINDOWS,
            &mut |_, _| {},
        )?;
        let per_submodel: Vec<Vec<Vec<f64>>> =
            nats.iter().map(|nats| by_example(&rows.examples, nats)).collect();
        let scores = |(submodel, logliks): (&Submodel, &Vec<Vec<f64>>)| SubmodelScores {
            submodel: self.folder.space().label(submodel),
            widths: submodel.widths().to_vec(),
            scores: task.metrics.iter().map(|m| tasks::mean(*m, &rows.examples, logliks)).collect(),
        };
        let sample = |(at, example): (usize, &Example)| Sample {
            row: example.at.clone(),
            gold: example.gold.clone(),
            loglikelihoods: per_submodel.iter().map(|logliks| logliks[at].clone()).collect(),
        };
        Ok(TaskResult {
            task: task.name.clone(),
            num_fewshot: shots,
            examples: rows.examples.len(),
            truncated: rows.truncated,
            results: self.submodels.iter().zip(&per_submodel).map(scores).collect(),
            samples: rows.examples.iter().enumerate().map(sample).collect(),
            problems: rows.problems,
        })
    }

    fn rows(&self, task: &Task, found: tasks::Examples) -> tasks::Result<Rows> {
        let most = self.folder.model.config().context;
        let total = found.examples.len();
        let mut rows = Rows {
            examples: Vec::new(),
            continuations: Vec::new(),
            problems: found.problems,
            truncated: 0,
        };
        for example in found.examples {
            let encode =
                |text: &String| tasks::tokens(self.tokenizer, &example.context, text, most);
            match example.continuations.iter().map(encode).collect::<Result<Vec<_>, _>>() {
                Err(reason) => {
                    let row = example.at.clone();
                    rows.problems.push(Problem { row, reason, counts: false });
                }
                Ok(scored) => {
                    rows.truncated += usize::from(scored.iter().any(|row| row.cut > 0));
                    let row = |row: tasks::Scored| Continuation {
                        tokens: row.tokens,
                        scored: row.scored,
                    };
                    rows.continuations.extend(scored.into_iter().map(row));
                    rows.examples.push(example);
                }
            }
        }
        if rows.examples.is_empty() {
            let first = rows.problems.first().map(|p| format!("{}: {}", p.row, p.reason));
            return Err(tasks::Error::NoExamples { task: task.name.clone(), rows: total, first });
        }
        Ok(rows)
    }
}

/// Log-likelihoods of the choices of each example.
fn by_example(examples: &[Example], nats: &[f64]) -> Vec<Vec<f64>> {
    let mut nats = nats.iter();
    let choices =
        |example: &Example| nats.by_ref().take(example.choices.len()).map(|n| -n).collect();
    examples.iter().map(choices).collect()
}

fn say_problems(task: &Task, rows: &Rows) {
    for problem in rows.problems.iter().take(SHOWN) {
        let what = if problem.counts { "counted as wrong" } else { "not scored" };
        say!("warning: {}: {}: {}: {what}", task.name, problem.row, problem.reason);
    }
    let more = rows.problems.len().saturating_sub(SHOWN);
    if more > 0 {
        say!("warning: {}: problems in {} more", task.name, counted(more, "row"));
    }
    if rows.truncated > 0 {
        let examples = counted(rows.truncated, "example");
        say!("warning: {}: {examples} cut at the beginning to fit the context", task.name);
    }
}

fn print(results: &[TaskResult]) -> Result<()> {
    let mut printed = table::plain();
    let submodels = results.iter().take(1).flat_map(|task| &task.results);
    let head = ["task", "shots", "examples", "metric"].map(str::to_owned).into_iter();
    printed.set_header(head.chain(submodels.map(|result| result.submodel.clone())));
    for task in results {
        let metrics = task.results.first().map_or(0, |result| result.scores.len());
        for at in 0..metrics {
            let name = task.results[0].scores[at].metric.name();
            let numbers = [task.num_fewshot.to_string(), task.examples.to_string()];
            let head = [task.task.clone()].into_iter().chain(numbers).chain([name.to_owned()]);
            printed.add_row(head.chain(task.results.iter().map(|result| cell(result.scores[at]))));
        }
    }
    out!("{printed}")?;
    Ok(())
}

/// A share in percent, with its standard error.
fn cell(mean: Mean) -> String {
    match mean.stderr {
        Some(stderr) => format!("{:.2} ± {:.2}", 100.0 * mean.value, 100.0 * stderr),
        None => format!("{:.2}", 100.0 * mean.value),
    }
}
