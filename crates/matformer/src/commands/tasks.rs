//! `matformer eval --tasks`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Submodel, SubmodelSpec},
    run::{ModelFolder, Session, cache::sets_path, kind},
    run_file::{Lm, RunKind},
    study::tasks::{Asked, Score, Scorer, TaskResult, fetch, find},
    tasks::{Aggregation, Task},
};
use serde::Serialize;

use super::{Context, show, table};
use crate::{
    args::EvalArgs,
    failure::{OrBadInput, said},
    output::out,
};

/// `eval --tasks --json`: stable.
#[derive(Serialize)]
struct Printed {
    model: String,
    tasks: Vec<TaskResult>,
}

pub fn run(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    let session = context.session.helped();
    let ranks = session.exchange.clone();
    // All that can be wrong with the tasks, before the model is read.
    let tasks = ranks.first_then(said, || asked_tasks(args, &session))?;
    let (folder, submodels) = ranks.agree(model(args, &session), said)?;
    let scorer = Scorer::new(&folder, &submodels)?;
    let asked = Asked { shots: args.num_fewshot, limit: args.limit };
    let mut results = Vec::new();
    for task in &tasks {
        results.extend(scorer.score(task, asked)?);
    }
    if !ranks.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let printed = Printed { model: args.model.display().to_string(), tasks: results };
    show(context.json, &printed, |printed| print(&printed.tasks))
}

/// The tasks that were asked for, with their data.
fn asked_tasks(args: &EvalArgs, session: &Session) -> Result<Vec<Task>> {
    kind::check_is(&args.model, RunKind::Lm, "eval --tasks")?;
    let mut tasks = find(&args.tasks, args.task_path.as_deref())?;
    let data = args.task_data.as_deref();
    let data = data.map(|typed| sets_path(typed, session)).transpose()?;
    for task in &mut tasks {
        fetch(task, args.num_fewshot, data.as_deref(), session)?;
    }
    Ok(tasks)
}

/// The model, and the submodels that were asked for.
fn model(args: &EvalArgs, session: &Session) -> Result<(ModelFolder<Lm>, Vec<Submodel>)> {
    let folder = ModelFolder::<Lm>::load(&args.model, session)?;
    let specs = args.submodels.as_deref().map(SubmodelSpec::parse_list);
    let submodels = folder.submodels(specs.transpose().bad_input()?.as_deref())?;
    Ok((folder, submodels))
}

fn print(results: &[TaskResult]) -> Result<()> {
    let mut printed = table::plain();
    let submodels = results.iter().take(1).flat_map(|task| &task.results);
    let head = ["task", "shots", "examples", "metric"].map(str::to_owned).into_iter();
    printed.set_header(head.chain(submodels.map(|result| result.submodel.clone())));
    for task in results {
        let metrics = task.results.first().map_or(0, |result| result.scores.len());
        for at in 0..metrics {
            let Score { metric, filter, .. } = &task.results[0].scores[at];
            let name = match filter {
                Some(filter) => format!("{} ({filter})", metric.name()),
                None => metric.name().to_owned(),
            };
            let numbers = [task.num_fewshot.to_string(), task.examples.to_string()];
            let head = [task.task.clone()].into_iter().chain(numbers).chain([name]);
            printed.add_row(head.chain(task.results.iter().map(|result| cell(&result.scores[at]))));
        }
    }
    out!("{printed}")?;
    Ok(())
}

/// A share in percent, or another score, with its standard error.
fn cell(score: &Score) -> String {
    let (factor, digits) = match score.metric.aggregation() {
        Aggregation::Mean | Aggregation::MacroF1 => (100.0, 2),
        _ => (1.0, 4),
    };
    // A perplexity may have hundreds of digits.
    let said = |value: f64| match value.abs() {
        1e6.. => format!("{value:.3e}"),
        _ => format!("{value:.digits$}"),
    };
    let value = said(factor * score.value);
    match score.stderr {
        Some(stderr) => format!("{value} ± {}", said(factor * stderr)),
        None => value,
    }
}
