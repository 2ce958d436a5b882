//! `matformer search`: which submodel to run within a budget.

mod halves;
mod judged;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use matformer::{
    core::{Resource, Submodel},
    eval::{Estimate, Scored, Searched},
    run_file::{Lm, RunKind, Vit},
    search::{
        Limit, Method, Problem, Search, Searcher, run as run_search, shapes::count_non_decreasing,
    },
};

use self::{halves::Halves, judged::Printed};
use super::{Context, DATA_HINT, count, print_json, table};
use crate::{
    args::SearchArgs,
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, Kind},
    logging::say,
    output::out,
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
    let problem = problem(&folder, args)?;
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
    // In one order, each once: they name files and the winner.
    let mut budgets: Vec<String> = args.budgets.iter().map(ToString::to_string).collect();
    budgets.sort();
    budgets.dedup();
    let known = judged::known(&folder, &budgets, &halves)?;
    let mut all = Vec::new();
    for (method, search) in methods.into_iter().zip(searches) {
        say!("{method}");
        match searched(&folder, &problem, &mut halves, (method, args), search)? {
            Some(new) => all.push(new),
            None => say!("note: {method} found nothing within the budget"),
        }
    }
    let best = judged::best(&folder, &problem, &budgets, &mut halves, all.iter().chain(&known))?;
    halves.say_not_kept();
    let all = (judged::with_known(all, known, &problem), best.submodel());
    let (mut printed, losses) = judged::judged(&folder, &problem, &halves, &budgets, all)?;
    printed.name = judged::keep(&folder, &printed.found, best.named(&folder, &budgets, &halves));
    printed.per_document = args.per_document.then(|| judged::per_document(&losses, folder.space()));
    if context.json {
        return print_json(&printed);
    }
    print(&printed, &problem, &folder)?;
    Ok(ExitCode::SUCCESS)
}

/// What a search comes to; nothing where no submodel that it tried is within the budgets.
fn searched<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &mut Halves<'_, K>,
    (method, args): (Method, &SearchArgs),
    mut search: Search,
) -> Result<Option<Searched>> {
    let (started, before) = (Instant::now(), halves.measured());
    run_search(&mut search, problem, |asked| halves.losses(asked))?;
    let scored = |(submodel, a): &(Submodel, f64)| Scored {
        submodel: folder.space().label(submodel),
        a: *a,
    };
    let tried: Vec<Scored> = search.tried().iter().map(scored).collect();
    if method == Method::Evolution && tried.len() < args.evaluations {
        say!("note: evolution ended after {}: nothing new is near what lives", tried.len());
    }
    Ok(search.best(problem).map(|(widths, a)| Searched {
        method: method.to_string(),
        seed: args.seed,
        tried,
        widths,
        a,
        measured: halves.measured() - before,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

fn problem<K: Kind>(folder: &ModelFolder<K>, args: &SearchArgs) -> Result<Problem> {
    let limit = |budget: &matformer::core::Budget| -> matformer::core::Result<Limit> {
        let (table, most) = budget.limit(folder.space(), &folder.costs)?;
        Ok(Limit { table: table.clone(), most })
    };
    let limits = args.budgets.iter().map(limit).collect::<matformer::core::Result<_>>();
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

fn print<K: Kind>(printed: &Printed, problem: &Problem, folder: &ModelFolder<K>) -> Result<()> {
    let data = &printed.judged.data;
    let budgets = problem.limits().iter().map(|l| l.table.resource.describe(l.most));
    out!(
        "within {}: chosen by one half of the held-out {}s, judged by the other ({} {})",
        budgets.collect::<Vec<_>>().join(" and "),
        K::DOCUMENT,
        count(data.tokens as f64),
        K::TARGETS
    )?;
    let mut lines = comfy_table::Table::new();
    lines.load_style(comfy_table::presets::NOTHING);
    let limited: Vec<Resource> = problem.limits().iter().map(|l| l.table.resource).collect();
    let head = ["method", "submodel"].map(str::to_owned).into_iter();
    let costs = limited.iter().map(ToString::to_string);
    let tail = ["loss", "above the best", "tried", "s"].map(str::to_owned);
    lines.set_header(head.chain(costs).chain(tail));
    for found in &printed.found {
        let cost = |(resource, cost): (&Resource, &f64)| match resource {
            Resource::Millis => format!("{cost:.3}"),
            _ => count(*cost),
        };
        let head = [found.searched.method.clone(), found.winner.clone()].into_iter();
        let costs = limited.iter().zip(&found.costs).map(cost);
        let above = Estimate { value: found.regret, stderr: found.stderr };
        lines.add_row(head.chain(costs).chain([
            table::loss(found.b),
            table::loss(above),
            found.searched.tried.len().to_string(),
            format!("{:.1}", found.searched.seconds),
        ]));
    }
    out!("{lines}")?;
    let largest = folder.space().label(&folder.space().largest());
    if let Some(r) = printed.judged.results.iter().find(|r| r.submodel == largest) {
        let loss = table::loss(Estimate { value: r.loss, stderr: r.stderr });
        out!("{largest}, without a budget: {loss}")?;
    }
    let (best, all) = (&printed.best, count(printed.submodels));
    match &printed.name {
        Some(name) => out!("`{name}` is {best} now, the best that was tried of {all} submodels")?,
        None => out!("{best} is the best that was tried of {all} submodels")?,
    }
    out!("± one standard error over {}s, differences paired", K::DOCUMENT)
}
