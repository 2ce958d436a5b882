//! `matformer search`: which submodel to run within a budget.

mod halves;
mod judged;
mod printed;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use matformer::{
    core::{Budget, Submodel},
    eval::{Outcome, Scored},
    run_file::{Lm, RunKind, Vit},
    search::{
        Limit, Method, Problem, Search, Searcher, run as run_search, shapes::count_non_decreasing,
    },
};

use self::halves::Halves;
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
            message: format!("{}: trained at one size alone", args.model.display()),
            hint: "search needs a model of several granularities".to_owned(),
        })
        .bad_input();
    }
    // In one order, each once: they name files and the winner.
    let mut budgets = args.budgets.clone();
    budgets.sort_by_cached_key(ToString::to_string);
    budgets.dedup();
    let problem = problem(&folder, &budgets)?;
    let budgets: Vec<String> = budgets.iter().map(ToString::to_string).collect();
    let methods = methods(args, &problem);
    let searches = methods
        .iter()
        .map(|method| method.begin(&problem, args.evaluations, args.seed))
        .collect::<Result<Vec<Search>, _>>()
        .bad_input()?;
    let prepared = match &args.data {
        Some(from) => folder.data_of(from)?,
        None => folder.own_data(DATA_HINT)?,
    };
    let mut halves = Halves::new(&folder, &prepared, args)?;
    let known = judged::known(&folder, &budgets, &halves)?;
    let mut all = Vec::new();
    for (method, search) in methods.into_iter().zip(searches) {
        say!("{method}");
        match searched(&folder, &problem, &mut halves, (method, args), search)? {
            Some(new) => all.push(new),
            None => say!("note: {method} found nothing within the budget"),
        }
    }
    let outcomes = known.iter().map(|found| &found.outcome).chain(&all);
    let best = judged::best(&folder, &problem, &budgets, &mut halves, outcomes)?;
    halves.say_not_kept();
    let all = judged::with_known(all, known, &problem, halves.tokens()[1]);
    let all = (all, best.submodel());
    let (mut printed, losses) = judged::judged(&folder, &problem, &halves, &budgets, all)?;
    printed.name = judged::keep(&folder, &printed.found, best.named(&folder, &budgets, &halves));
    printed.per_document = args.per_document.then(|| judged::per_document(&losses, folder.space()));
    if context.json {
        return print_json(&printed);
    }
    printed::print(&printed, &problem, &folder)?;
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

fn problem<K: Kind>(folder: &ModelFolder<K>, budgets: &[Budget]) -> Result<Problem> {
    let limit = |budget: &Budget| -> matformer::core::Result<Limit> {
        let (table, most) = budget.limit(folder.space(), &folder.costs)?;
        Ok(Limit { table: table.clone(), most })
    };
    let limits = budgets.iter().map(limit).collect::<matformer::core::Result<_>>();
    Problem::new(folder.space(), limits.bad_input()?).bad_input()
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
