//! `matformer search`: which submodel to run within a budget.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::Table;
use matformer::{
    core::{
        Resource,
        units::{count, operations},
    },
    eval::{Estimate, Found, report::Metric, stats::FEW_DOCUMENTS},
    run::{Kind, ModelFolder, Session, kind},
    run_file::visit,
    search::Problem,
    study::search::{Judged, Question, Searched, search},
};

use super::{Context, helped, show, table};
use crate::{
    args::SearchArgs,
    failure::{Hinted, OrBadInput, said},
    output::out,
};

pub fn run(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
    let checked = || -> Result<_> {
        if args.per_document && !context.json {
            return Err(Hinted {
                message: "--per-document: a table has no room for them".to_owned(),
                hint: "add --json".to_owned(),
            })
            .bad_input();
        }
        Ok(kind::of_folder(&args.model)?)
    };
    visit!(context.session.exchange.agree(checked(), said)?, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &SearchArgs, context: &Context) -> Result<ExitCode> {
    let load = |session: &Session| ModelFolder::<K>::load(&args.model, session);
    helped(context, load, args.data.as_deref(), |folder, data| {
        searched(args, folder, data, context)
    })
}

/// Searches, and prints what was found.
fn searched<K: Kind>(
    args: &SearchArgs,
    folder: &ModelFolder<K>,
    data: impl Fn() -> matformer::run::Result<K::Prepared>,
    context: &Context,
) -> Result<ExitCode> {
    let question = Question {
        budgets: args.budgets.clone(),
        methods: args.method.clone(),
        evaluations: args.evaluations,
        seed: args.seed,
        tokens: args.tokens,
        judge_tokens: args.judge_tokens,
        per_document: args.per_document,
        paired_to: args.paired_to.clone(),
        memory: args.memory.saturating_mul(1 << 20),
    };
    let Searched { judged, problem, kept } = search(folder, &question, data)?;
    let shown = show(context.json, &judged, |judged| print(judged, &problem, folder))?;
    kept?;
    Ok(shown)
}

fn print<K: Kind>(found: &Judged, problem: &Problem, folder: &ModelFolder<K>) -> Result<()> {
    let data = &found.judged.data;
    let budgets = problem.limits().iter().map(|l| l.table.resource.describe(l.most));
    out!(
        "within {}: selected on one half of the held-out {}s, tested on the other ({} {})",
        budgets.collect::<Vec<_>>().join(" and "),
        K::DOCUMENT,
        count(data.tokens as f64),
        K::TARGETS
    )?;
    out!("{}", rows(found, problem))?;
    let largest = folder.space().label(&folder.space().largest());
    if let Some(r) = found.judged.results.iter().find(|r| r.submodel == largest) {
        let loss = table::loss(Estimate { value: r.loss, stderr: r.stderr });
        out!("{largest}, without a budget: {loss}")?;
    }
    let (best, all) = (&found.best, count(found.submodels));
    let known = found.known;
    let of = format!("the best of {known} that were measured within it ({all} submodels in all)");
    match &found.name {
        Some(name) => out!("`{name}` is {best} now, {of}")?,
        None => out!("{best} is {of}")?,
    }
    let mix = found.found.iter().find(|found| found.outcome.method == "mix");
    let judged = data.independent() >= FEW_DOCUMENTS;
    let better = |mix: &&Found| judged && mix.stderr.is_some_and(|e| mix.regret < -2.0 * e);
    if let Some(mix) = mix.filter(better) {
        let above = table::loss(Estimate { value: mix.regret, stderr: mix.stderr });
        out!("{}, which needs no search, is better on the half that judges: {above}", mix.winner)?;
    }
    for (method, above) in found.above.iter().flatten() {
        out!("{method}: {} above `mix` of the other search", table::loss(*above))?;
    }
    let over = Metric::of(&found.judged).counted(data);
    if !judged {
        out!("{over}: too few to say which is better, at least {FEW_DOCUMENTS} are needed")?;
    }
    table::footnote(&over, found.judged.results.iter().map(|r| r.stderr))
}

/// A line per method, and one for the best where it is no method's.
fn rows(found: &Judged, problem: &Problem) -> Table {
    let mut lines = table::plain();
    let limited: Vec<Resource> = problem.limits().iter().map(|l| l.table.resource).collect();
    let results = &found.judged.results;
    let images = results.iter().any(|result| result.top1.is_some());
    let mut head = vec!["method".to_owned(), "submodel".to_owned()];
    head.extend(limited.iter().map(ToString::to_string));
    head.extend(images.then(|| "top-1 %".to_owned()));
    head.extend(["loss", "above the best", "tried", "s"].map(str::to_owned));
    lines.set_header(head);
    let mut row = |method: &str, submodel: &str, costs: &[f64], tail: [String; 3]| {
        let Some(result) = results.iter().find(|result| result.submodel == submodel) else {
            return;
        };
        let cost = |(resource, cost): (&Resource, &f64)| match resource {
            Resource::Millis => resource.describe(*cost).replace(" ms", ""),
            Resource::Flops | Resource::KvBytes => operations(*cost),
            _ => count(*cost),
        };
        let mut cells = vec![method.to_owned(), submodel.to_owned()];
        cells.extend(limited.iter().zip(costs).map(cost));
        cells.extend(result.top1.map(table::percent));
        cells.push(table::loss(Estimate { value: result.loss, stderr: result.stderr }));
        cells.extend(tail);
        lines.add_row(cells);
    };
    for Found { outcome, winner, costs, regret, stderr, .. } in &found.found {
        let above = table::loss(Estimate { value: *regret, stderr: *stderr });
        let (tried, seconds) = (outcome.tried.len(), format!("{:.1}", outcome.seconds));
        row(&outcome.method, winner, costs, [above, tried.to_string(), seconds]);
    }
    // What an earlier call found, or a method tried and did not name.
    if found.found.iter().all(|method| method.winner != found.best) {
        row("the best", &found.best, &found.best_costs, Default::default());
    }
    lines
}
