//! `matformer search`: which submodel to run within a budget.

mod budgets;
mod halves;
mod judged;
mod printed;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use matformer::{
    core::Submodel,
    eval::{Found, Outcome, Scored},
    run_file::{Lm, RunKind, Vit},
    search::{Method, Problem, Search, Searcher, run as run_search, shapes::count_non_decreasing},
};

pub use self::judged::all_found;
use self::{budgets::Budgets, halves::Halves};
use super::{Context, DATA_HINT, print_json};
use crate::{
    args::SearchArgs,
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, Kind},
    logging::say,
};

/// Most submodels that are listed without being asked for.
const LISTED: f64 = 1024.0;

pub fn run(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
    if args.per_document && !context.json {
        return Err(Hinted {
            message: "--per-document: a table has no room for them".to_owned(),
            hint: "add --json".to_owned(),
        })
        .bad_input();
    }
    let folder = ModelFolder::<K>::load(&args.model, &context.device)?;
    if folder.only_trained().is_some() || folder.trained().len() < 2 {
        return Err(Hinted {
            message: format!("{}: a model of one size", args.model.display()),
            hint: "search needs a model of several granularities".to_owned(),
        })
        .bad_input();
    }
    if folder.space().layer_d_ff.is_some() {
        return Err(Hinted {
            message: format!("{}: its layers differ in width", args.model.display()),
            hint: "search the model that it was cut out of".to_owned(),
        })
        .bad_input();
    }
    let budgets = Budgets::new(&folder, &args.budgets)?;
    let problem = &budgets.problem;
    let methods = methods(args, problem);
    let searches = methods
        .iter()
        .map(|method| method.begin(problem, args.evaluations, args.seed))
        .collect::<Result<Vec<Search>, _>>()
        .bad_input()?;
    let prepared = match &args.data {
        Some(from) => folder.data_of(from)?,
        None => folder.own_data(DATA_HINT)?,
    };
    let mut halves = Halves::new(&folder, &prepared, args)?;
    let mut all = Vec::new();
    for (method, search) in methods.into_iter().zip(searches) {
        say!("{method}");
        match searched(&folder, problem, &mut halves, (method, args), search)? {
            Some(new) => all.push(new),
            None => say!("note: {method} found nothing within the budget"),
        }
    }
    halves.say_not_kept();
    // One search at a time reads what the folder has and writes it anew; where it cannot be written to, that
    // is said below.
    let _lock = Found::lock(&folder.dir);
    halves.refresh()?;
    let known = judged::known(&folder, &budgets, &halves)?;
    halves.judge_as(&known);
    let known = known.into_iter().map(|found| found.outcome).collect();
    let all = judged::with_known(all, known, problem);
    let best = judged::best(&folder, &budgets, &halves, &all)?;
    let (mut printed, losses) =
        judged::judged(&folder, &budgets, &mut halves, (all, &best.widths.clone()))?;
    let kept = judged::keep(&folder, &budgets.best, &printed.found, best);
    printed.name = kept.as_ref().ok().cloned().flatten();
    if args.per_document {
        printed.add_documents(&losses, folder.space());
    }
    match context.json {
        true => drop(print_json(&printed)?),
        false => printed::print(&printed, problem, &folder)?,
    }
    kept.context("not kept")?;
    Ok(ExitCode::SUCCESS)
}

/// What a search comes to; nothing where no submodel that it tried is within the budgets.
fn searched<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &mut Halves<'_, K>,
    (method, args): (Method, &SearchArgs),
    mut search: Search,
) -> Result<Option<Outcome>> {
    let (started, before) = (Instant::now(), halves.measured());
    run_search(&mut search, problem, |asked| halves.losses(asked))?;
    let scored = |(submodel, a): &(Submodel, f64)| Scored {
        submodel: folder.space().label(submodel),
        a: *a,
    };
    let tried: Vec<Scored> = search.tried().iter().map(scored).collect();
    let all = || problem.all(LISTED as usize).is_ok_and(|all| all.len() <= tried.len());
    if method == Method::Evolution && tried.len() < args.evaluations && !all() {
        say!("note: evolution ended after {}: nothing new is near what lives", tried.len());
    }
    Ok(search.best(problem).map(|(widths, a)| Outcome {
        method: method.to_string(),
        seed: args.seed,
        tried,
        widths,
        a,
        measured: halves.measured() - before,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

fn methods(args: &SearchArgs, problem: &Problem) -> Vec<Method> {
    let feasible = |method: &Method| match method {
        Method::Exhaustive => problem.size() <= LISTED,
        Method::NonDecreasing => count_non_decreasing(problem) <= LISTED,
        _ => true,
    };
    match &args.method {
        Some(methods) => {
            let mut once = Vec::new();
            methods.iter().for_each(|method| {
                if !once.contains(method) {
                    once.push(*method);
                }
            });
            once
        }
        None => Method::SEARCHING.into_iter().filter(feasible).collect(),
    }
}
