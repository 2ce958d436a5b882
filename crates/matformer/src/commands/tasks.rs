//! `matformer eval --tasks`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Submodel, SubmodelSpec},
    run::{ModelFolder, Session, kind},
    run_file::{Lm, RunKind},
    study::tasks::{Asked, Score, Scorer, TaskResult, fetch},
    tasks::{self, Aggregation, PAPER, Task},
};
use serde::Serialize;

use super::{Context, fetch::sets_path, print_json, table};
use crate::{
    args::EvalArgs,
    failure::{Hinted, OrBadInput, said},
    output::out,
};

/// `eval --tasks --json`: stable.
#[derive(Serialize)]
struct Printed {
    model: String,
    tasks: Vec<TaskResult>,
}

/// Stands for all built-in tasks.
const ALL: &str = "paper";

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
    if context.json {
        let model = args.model.display().to_string();
        return print_json(&Printed { model, tasks: results });
    }
    print(&results)?;
    Ok(ExitCode::SUCCESS)
}

/// The tasks that were asked for, with their data.
fn asked_tasks(args: &EvalArgs, session: &Session) -> Result<Vec<Task>> {
    kind::check_is(&args.model, RunKind::Lm, "eval --tasks")?;
    let names = args.tasks.iter().flat_map(|name| match name.as_str() {
        ALL => PAPER.to_vec(),
        name => vec![name],
    });
    let tasks = names.map(|name| find(name, args.task_path.as_deref()));
    let mut tasks = tasks.collect::<Result<Vec<_>>>()?;
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
    let submodels = match &args.submodels {
        None => folder.trained(),
        Some(list) => {
            let specs = SubmodelSpec::parse_list(list).bad_input()?;
            specs.iter().map(|spec| folder.submodel(Some(spec))).collect::<Result<_, _>>()?
        }
    };
    Ok((folder, submodels))
}

/// A task of the folder, or a built-in one.
fn find(name: &str, folder: Option<&Path>) -> Result<Task> {
    let missing = match folder.map(|folder| Task::find(folder, name)) {
        Some(Ok(task)) => return Ok(task),
        Some(Err(error @ tasks::Error::UnknownTask { .. })) => Some(error),
        Some(Err(error)) => return Err(error).bad_input(),
        None => None,
    };
    if let Some(task) = Task::built_in(name).bad_input()? {
        return Ok(task);
    }
    match missing {
        Some(error) => Err(error).bad_input(),
        None => Err(Hinted {
            message: format!("task `{name}`: no such built-in task"),
            hint: format!(
                "built in: {ALL}, which stands for all others, {}; --task-path names a folder of task files",
                PAPER.join(", ")
            ),
        })
        .bad_input(),
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
