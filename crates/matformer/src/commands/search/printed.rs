//! What a person sees of a search.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use matformer::{
    core::Resource,
    eval::{Estimate, Found, report::Metric},
    search::Problem,
};

use super::judged::Printed;
use crate::{
    commands::{FEW_DOCUMENTS, count, operations, table},
    folder::ModelFolder,
    kind::Kind,
    output::out,
};

pub fn print<K: Kind>(printed: &Printed, problem: &Problem, folder: &ModelFolder<K>) -> Result<()> {
    let data = &printed.judged.data;
    let budgets = problem.limits().iter().map(|l| l.table.resource.describe(l.most));
    out!(
        "within {}: chosen by one half of the held-out {}s, judged by the other ({} {})",
        budgets.collect::<Vec<_>>().join(" and "),
        K::DOCUMENT,
        count(data.tokens as f64),
        K::TARGETS
    )?;
    out!("{}", rows(printed, problem))?;
    let largest = folder.space().label(&folder.space().largest());
    if let Some(r) = printed.judged.results.iter().find(|r| r.submodel == largest) {
        let loss = table::loss(Estimate { value: r.loss, stderr: r.stderr });
        out!("{largest}, without a budget: {loss}")?;
    }
    let (best, all) = (&printed.best, count(printed.submodels));
    let known = printed.known;
    let of = format!("the best of {known} that were measured within it ({all} submodels in all)");
    match &printed.name {
        Some(name) => out!("`{name}` is {best} now, {of}")?,
        None => out!("{best} is {of}")?,
    }
    let mix = printed.found.iter().find(|found| found.outcome.method == "mix");
    let judged = data.independent() >= FEW_DOCUMENTS;
    let better = |mix: &&Found| judged && mix.stderr.is_some_and(|e| mix.regret < -2.0 * e);
    if let Some(mix) = mix.filter(better) {
        let above = table::loss(Estimate { value: mix.regret, stderr: mix.stderr });
        out!("{}, which needs no search, is better on the half that judges: {above}", mix.winner)?;
    }
    let over = Metric::of(&printed.judged).counted(data);
    if !judged {
        out!("{over}: too few to say which is better, at least {FEW_DOCUMENTS} are needed")?;
    }
    table::footnote(&over, printed.judged.results.iter().map(|r| r.stderr))
}

/// A line per method, and one for the best where it is no method's.
fn rows(printed: &Printed, problem: &Problem) -> Table {
    let mut lines = Table::new();
    lines.load_style(NOTHING);
    let limited: Vec<Resource> = problem.limits().iter().map(|l| l.table.resource).collect();
    let results = &printed.judged.results;
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
    for Found { outcome, winner, costs, regret, stderr, .. } in &printed.found {
        let above = table::loss(Estimate { value: *regret, stderr: *stderr });
        let (tried, seconds) = (outcome.tried.len(), format!("{:.1}", outcome.seconds));
        row(&outcome.method, winner, costs, [above, tried.to_string(), seconds]);
    }
    // What an earlier call found, or a method tried and did not name.
    if printed.found.iter().all(|found| found.winner != printed.best) {
        row("the best", &printed.best, &printed.best_costs, Default::default());
    }
    lines
}
