//! What a report's page shows of a run, and of several.

use matformer_core::{Budget, fs, units::count};
use matformer_eval::{
    DataFacts, Found, Stages,
    report::{HeldOutPoint, OverlayRun, ReportData, TrainPoint},
    retrieval::SearchResults,
    stats,
};
use matformer_nn::Folder;
use matformer_run::{Kind, ModelFolder, OrBadInput, Result, chain};
use matformer_train::{MetricsLine, MetricsLog, say};

use crate::{Measured, alone::Alone, retrieve, search::all_found};

/// What a page shows of a run that was measured: beside the curve and the baselines its log, and what was
/// found in its folder. `made` is what else is said of it, by name.
///
/// # Errors
/// When a file of the folder cannot be read.
pub fn report_data<K: Kind>(
    folder: &ModelFolder<K>,
    (measured, alone): (&Measured<K>, &[Alone]),
    log: Vec<MetricsLine>,
    made: Vec<(String, String)>,
) -> Result<ReportData> {
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
        alone: alone.iter().map(Alone::on_page).collect(),
        floor: Some(K::compare(&measured.floor, &measured.results)),
        sample: measured.sample.clone(),
        retrieval: retrieval(folder, &measured.results.data.hash),
        found: found(folder, &measured.results.data)?,
        stages: Stages::load(&folder.dir),
        consistency: None,
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

/// What a run is, by name.
pub fn facts<K: Kind>(folder: &ModelFolder<K>) -> Vec<(String, String)> {
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
pub fn granularities<K: Kind>(folder: &ModelFolder<K>) -> Vec<String> {
    folder.space().granularities.names().iter().map(|name| (*name).to_owned()).collect()
}

/// What the run logged; nothing for a folder without a log.
///
/// # Errors
/// When the log cannot be read.
pub fn metrics<K: Kind>(folder: &ModelFolder<K>) -> Result<Vec<MetricsLine>> {
    if folder.dir.join(MetricsLog::FILE).exists() {
        MetricsLog::read(&folder.dir).bad_input()
    } else {
        Ok(Vec::new())
    }
}

/// A run among others on one page, compared with the first of them.
///
/// # Errors
/// When the log of the run cannot be read.
pub fn overlay_run<K: Kind>(
    name: &str,
    folder: &ModelFolder<K>,
    ours: &Measured<K>,
    first: Option<&Measured<K>>,
) -> Result<OverlayRun> {
    let mut differences = Vec::new();
    let comparable = first.filter(|first| first.results.data == ours.results.data);
    for result in &ours.results.results {
        // Names are each run's own; equal are equal widths.
        let theirs = comparable.and_then(|first| {
            let same = first.results.results.iter().find(|r| r.widths == result.widths)?;
            first.documents.get(&same.submodel)
        });
        if let (Some(own), Some(theirs)) = (ours.documents.get(&result.submodel), theirs) {
            let difference = stats::judged_difference(own, theirs)?;
            differences.push((result.submodel.clone(), difference));
        }
    }
    let mut tokens = 0;
    let mut held_out = Vec::new();
    for line in metrics(folder)? {
        match line {
            MetricsLine::Train(line) => tokens = line.tokens,
            MetricsLine::HeldOut(line) => {
                held_out.extend(line.held_out.into_iter().map(|(name, loss)| HeldOutPoint {
                    step: tokens,
                    name,
                    loss,
                }))
            }
            MetricsLine::Skipped(_) => {}
        }
    }
    Ok(OverlayRun {
        name: name.to_owned(),
        facts: facts(folder),
        results: ours.results.clone(),
        granularities: granularities(folder),
        held_out,
        differences,
    })
}
