//! What a page shows of a run, beside what was measured for it.

use std::path::Path;

use matformer_core::{
    Budget, fs,
    units::{count, duration, utc},
};
use matformer_eval::{
    DataFacts, Found, Stages,
    report::{HeldOutPoint, ReportData, TrainPoint},
    retrieval::SearchResults,
};
use matformer_nn::{Folder, machine};
use matformer_run::{Kind, ModelFolder, OrBadInput, Result, chain, runs::seconds};
use matformer_train::{MetricsLine, MetricsLog, say};

use super::Report;
use crate::{alone::Alone, retrieve, search::all_found};

/// What a page shows of a run that was measured: beside the curve and the baselines its log, and what was
/// found in its folder. `made` is what else is said of it, by name.
pub(super) fn report_data<K: Kind>(
    folder: &ModelFolder<K>,
    report: &Report<K>,
    log: Vec<MetricsLine>,
    made: Vec<(String, String)>,
) -> Result<ReportData> {
    let measured = &report.measured;
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let facts = [facts(folder), made].concat();
    for line in log {
        match line {
            MetricsLine::Train(t) => {
                let point = |(label, loss)| TrainPoint { step: t.step, label, loss };
                train.extend(t.loss.into_iter().map(point));
            }
            MetricsLine::HeldOut(h) => {
                let point = |(name, loss)| HeldOutPoint { step: h.step, name, loss };
                held_out.extend(h.held_out.into_iter().map(point));
            }
            MetricsLine::Skipped(_) => {}
        }
    }
    Ok(ReportData {
        title: format!("{}: accuracy against cost", folder.dir.display()),
        facts,
        results: measured.results.clone(),
        granularities: granularities(folder),
        train,
        held_out,
        alone: report.alone.iter().map(Alone::on_page).collect(),
        floor: Some(K::compare(&measured.floor, &measured.results)),
        sample: measured.sample.clone(),
        retrieval: retrieval(folder, &measured.results.data.hash),
        found: found(folder, &measured.results.data)?,
        stages: Stages::load(&folder.dir),
        consistency: report.consistency.clone(),
    })
}

/// What `retrieve` found with the same weights on the same data, as often as it was called.
fn retrieval<K: Kind>(folder: &ModelFolder<K>, data: &str) -> Vec<SearchResults> {
    let kept = |file: &&str| -> Option<SearchResults> {
        serde_json::from_slice(&fs::read(folder.dir.join("report").join(file)).ok()?).ok()
    };
    let same = |found: &SearchResults| {
        found.weights == folder.manifest.weights_sha256 && found.data == data
    };
    retrieve::KEPT.iter().filter_map(kept).filter(same).collect()
}

/// What searches found with the same weights on the same data, at what it costs now.
fn found<K: Kind>(folder: &ModelFolder<K>, data: &DataFacts) -> Result<Vec<Found>> {
    let mut all = all_found(folder)?;
    all.retain(|found| found.data == data.hash && found.context == data.context);
    all.retain_mut(|found| {
        let why = match costs_now(folder, found) {
            Ok(true) => return true,
            Ok(false) => "it costs more now".to_owned(),
            Err(error) => chain(&error),
        };
        let (method, budgets) = (&found.outcome.method, found.budgets.join(" and "));
        say!("note: what {method} found within {budgets} is left out: {why}");
        false
    });
    Ok(all)
}

/// Brings costs up to date, milliseconds may have been measured again; whether they are within the budgets.
fn costs_now<K: Kind>(folder: &ModelFolder<K>, found: &mut Found) -> Result<bool> {
    let mut fits = true;
    for (budget, cost) in found.budgets.iter().zip(&mut found.costs) {
        let (table, most) = budget.parse::<Budget>()?.limit(folder.space(), &folder.costs)?;
        *cost = table.cost(&found.outcome.widths)?;
        fits &= *cost <= most;
    }
    Ok(fits)
}

/// How a page was made, by name: training time, date of the evaluation (modification time of `kept`), machine, and what
/// the program says of itself.
pub(super) fn made(
    log: &[MetricsLine],
    kept: &Path,
    program: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let measured = std::fs::metadata(kept).and_then(|kept| kept.modified()).ok().map(utc);
    let known = [
        ("training time", seconds(log).map(duration)),
        ("measured (UTC)", measured),
        ("machine", Some(machine::describe())),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.chain(program).collect()
}

/// What a run is, by name.
pub(super) fn facts<K: Kind>(folder: &ModelFolder<K>) -> Vec<(String, String)> {
    let manifest = &folder.manifest;
    let trained_on = format!("training {}", K::TARGETS);
    [
        ("shape", K::describe(folder.model.config())),
        ("steps", manifest.provenance.steps.to_string()),
        (&trained_on, count(manifest.provenance.tokens as f64)),
        ("draw", manifest.objective.to_string()),
        ("weights", manifest.weights_sha256.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The names of a model's sizes.
pub(super) fn granularities<K: Kind>(folder: &ModelFolder<K>) -> Vec<String> {
    folder.space().granularities.names().iter().map(|name| (*name).to_owned()).collect()
}

/// What the run logged; nothing for a folder without a log.
pub(super) fn metrics<K: Kind>(folder: &ModelFolder<K>) -> Result<Vec<MetricsLine>> {
    if folder.dir.join(MetricsLog::FILE).exists() {
        MetricsLog::read(&folder.dir).bad_input()
    } else {
        Ok(Vec::new())
    }
}
