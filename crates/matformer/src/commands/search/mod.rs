//! `matformer search`: which submodel to run within a budget.

mod halves;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use matformer::{
    core::{Named, Names, Resource, Submodel},
    eval::{Estimate, EvalResults, Found, Scored, budget},
    run_file::{Lm, RunKind, Vit},
    search::{
        Limit, Method, Problem, Search, Searcher, run as run_search, shapes::count_non_decreasing,
    },
};
use serde::Serialize;

use self::halves::Halves;
use super::{Context, count, print_json, table};
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

/// What to do with a folder that names no data.
const DATA_HINT: &str = "name the data with --data RUN: a run file, or the folder of the run that \
                         this model comes from";

pub fn run(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
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
    let budgets: Vec<String> = args.budgets.iter().map(ToString::to_string).collect();
    let known = known(&folder, &budgets, &halves)?;
    let mut won = Vec::new();
    for (method, mut search) in methods.into_iter().zip(searches) {
        say!("{method}");
        let (started, before) = (Instant::now(), halves.measured());
        run_search(&mut search, &problem, |asked| halves.losses(asked))?;
        let Some((winner, a)) = search.best(&problem) else {
            say!("note: {method} found nothing within the budget");
            continue;
        };
        let label = |(submodel, a): &(Submodel, f64)| Scored {
            submodel: folder.space().label(submodel),
            a: *a,
        };
        let mut new = Won {
            method: method.to_string(),
            winner,
            a,
            seed: args.seed,
            tried: search.tried().iter().map(label).collect(),
            measured: halves.measured() - before,
            seconds: started.elapsed().as_secs_f64(),
        };
        if let Some(old) = known.iter().find(|old| new.repeats(old)) {
            (new.measured, new.seconds) = (old.measured, old.seconds);
        }
        won.push(new);
    }
    halves.say_not_kept();
    let others = known.into_iter().filter(|old| won.iter().all(|new| new.method != old.method));
    let others: Vec<Won> = others.filter(|old| problem.fits(&old.winner)).collect();
    won.extend(others);
    let printed = judged(&folder, &problem, &halves, &budgets, won)?;
    keep(&folder, &printed);
    if context.json {
        return print_json(&printed);
    }
    print(&printed, &problem, &folder)?;
    Ok(ExitCode::SUCCESS)
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

/// What a method came to, on the half that it chose by.
struct Won {
    method: String,
    winner: Submodel,
    a: f64,
    seed: u64,
    tried: Vec<Scored>,
    measured: usize,
    seconds: f64,
}

impl Won {
    /// Whether another call came to the same in the same way: its times are those of a search that knew
    /// less.
    fn repeats(&self, old: &Self) -> bool {
        let labels =
            |won: &Self| won.tried.iter().map(|s| s.submodel.clone()).collect::<Vec<String>>();
        self.method == old.method && self.seed == old.seed && labels(self) == labels(old)
    }
}

/// What was found before, within the same budgets on the same data.
fn known<K: Kind>(
    folder: &ModelFolder<K>,
    budgets: &[String],
    halves: &Halves<'_, K>,
) -> Result<Vec<Won>> {
    let all = Found::load_all(&folder.dir, &folder.manifest.weights_sha256)?.into_iter();
    let same = all.filter(|found| {
        found.budgets == budgets && found.data == halves.hash && found.tokens == halves.tokens()
    });
    Ok(same
        .map(|found| Won {
            method: found.method,
            winner: found.widths,
            a: found.a,
            seed: found.seed,
            tried: found.tried,
            measured: found.measured,
            seconds: found.seconds,
        })
        .collect())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    model: String,
    /// Submodels that there are, limits aside.
    submodels: f64,
    /// Documents, or images, that judged.
    documents: usize,
    /// The best submodel that any method found, on the half that chooses.
    best: String,
    /// Its name from now on.
    name: String,
    /// One entry per method.
    found: Vec<Found>,
    /// The winners, and the largest submodel, on the half that judges.
    judged: EvalResults,
}

/// Measures the winners on the other half, and how far each is above the best.
fn judged<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &Halves<'_, K>,
    budgets: &[String],
    won: Vec<Won>,
) -> Result<Printed> {
    let space = folder.space();
    let Some(best) = won.iter().min_by(|a, b| a.a.total_cmp(&b.a)) else {
        return Err(Hinted {
            message: "no method found a submodel within the budget".to_owned(),
            hint: "search by another --method".to_owned(),
        })
        .bad_input();
    };
    let best = best.winner.clone();
    let mut submodels: Vec<Submodel> = won.iter().map(|won| won.winner.clone()).collect();
    submodels.push(space.largest());
    submodels.sort();
    submodels.dedup();
    let evaluation = halves.judge(&submodels)?;
    let non_embedding = folder.costs.get(Resource::NonEmbedding)?;
    let found = won
        .into_iter()
        .map(|won| {
            let losses = evaluation.losses(&won.winner)?;
            let above = matformer::eval::stats::difference(losses, evaluation.losses(&best)?)?;
            let costs = problem.limits().iter().map(|limit| limit.table.cost(&won.winner));
            Ok(Found {
                budgets: budgets.to_vec(),
                seed: won.seed,
                weights: folder.manifest.weights_sha256.clone(),
                data: halves.hash.clone(),
                tokens: halves.tokens(),
                winner: space.label(&won.winner),
                costs: costs.collect::<matformer::core::Result<_>>()?,
                non_embedding: non_embedding.cost(&won.winner)? as u64,
                b: matformer::eval::stats::loss(losses)?,
                regret: above.value,
                stderr: above.stderr,
                method: won.method,
                widths: won.winner,
                a: won.a,
                tried: won.tried,
                measured: won.measured,
                seconds: won.seconds,
            })
        })
        .collect::<Result<Vec<Found>>>()?;
    Ok(Printed {
        model: folder.dir.display().to_string(),
        submodels: problem.size(),
        documents: evaluation.n_documents(),
        best: space.label(&best),
        name: format!("best@{}", budget(budgets)),
        judged: EvalResults::new(
            &folder.dir.display().to_string(),
            &halves.hash,
            &evaluation,
            space,
            &folder.costs,
            Some(&space.largest()),
        )?,
        found,
    })
}

/// Writes what was found into the folder, and gives the best its name; a folder that cannot be written
/// to does not cost the result.
fn keep<K: Kind>(folder: &ModelFolder<K>, printed: &Printed) {
    let keep = || -> Result<()> {
        for found in &printed.found {
            found.save(&folder.dir)?;
        }
        if let Some(best) = printed.found.iter().find(|found| found.winner == printed.best) {
            let named = Named {
                weights: best.weights.clone(),
                widths: best.widths.clone(),
                found_by: best.method.clone(),
            };
            let names = Names::load(&folder.dir)?;
            let before = names.iter().find(|(name, _)| *name == printed.name);
            if let Some((name, old)) = before.filter(|(_, old)| old.widths != named.widths) {
                let old = folder.space().label(&old.widths);
                say!("note: `{name}` was {old}, and is {} now", printed.best);
            }
            Names::add(&folder.dir, &printed.name, named)?;
        }
        Ok(())
    };
    if let Err(error) = keep() {
        say!("note: not kept: {error:#}");
    }
}

fn print<K: Kind>(printed: &Printed, problem: &Problem, folder: &ModelFolder<K>) -> Result<()> {
    let data = &printed.judged.data;
    let budgets = problem.limits().iter().map(|l| l.table.resource.describe(l.most));
    out!(
        "within {}: chosen by one half of the held-out {}, judged by the other ({} {})",
        budgets.collect::<Vec<_>>().join(" and "),
        kind_of_data::<K>(),
        count(data.tokens as f64),
        K::TARGETS
    )?;
    let mut lines = comfy_table::Table::new();
    lines.load_style(comfy_table::presets::NOTHING);
    lines.set_header(["method", "submodel", "non-emb.", "loss", "above the best", "tried", "s"]);
    for found in &printed.found {
        lines.add_row([
            found.method.clone(),
            found.winner.clone(),
            count(found.non_embedding as f64),
            table::loss(found.b),
            table::loss(Estimate { value: found.regret, stderr: found.stderr }),
            found.tried.len().to_string(),
            format!("{:.1}", found.seconds),
        ]);
    }
    out!("{lines}")?;
    let largest = folder.space().label(&folder.space().largest());
    if let Some(r) = printed.judged.results.iter().find(|r| r.submodel == largest) {
        let loss = table::loss(Estimate { value: r.loss, stderr: r.stderr });
        out!("{largest}, without a budget: {loss}")?;
    }
    out!(
        "`{}` is {} now (of {} submodels); ± one standard error over documents, differences paired",
        printed.name,
        printed.best,
        count(printed.submodels)
    )
}

fn kind_of_data<K: Kind>() -> &'static str {
    match K::TARGETS {
        "tokens" => "documents",
        targets => targets,
    }
}
