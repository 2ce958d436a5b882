//! `matformer report`

mod overlay;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Budget, fs},
    date::utc,
    eval::{
        DataFacts, Found, Stages,
        report::{HeldOutPoint, Metric, ReportData, TrainPoint, curve as curve_svg, render},
        retrieval::SearchResults,
    },
    nn::Folder,
    run_file::{Lm, RunKind, Vit},
    runs::seconds,
    timing,
    train::{MetricsLine, MetricsLog, duration},
};

use super::{
    Context, FEW_DOCUMENTS,
    alone::{self, Alone, alone},
    count,
    measured::{Measured, file_of, measured},
    print_json, retrieve,
    search::all_found,
    table,
};
use crate::{
    args::{ReportArgs, commit},
    failure::{self, Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, Kind},
    logging::say,
    output::out,
};

pub fn run(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let kind = match args.runs.first() {
        Some(run) => kind::of_folder(run)?,
        None => RunKind::Lm,
    };
    for other in args.runs.iter().skip(1) {
        if kind::of_folder(other)? != kind {
            return Err(Hinted {
                message: format!("{}: another kind of model than the first run's", other.display()),
                hint: "losses of text and accuracies of images are not laid over each other"
                    .to_owned(),
            })
            .bad_input();
        }
    }
    match kind {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let [run] = &args.runs[..] else {
        return overlay::run::<K>(args, context);
    };
    let folder = ModelFolder::<K>::load(run, &context.device)?.with_context(args.context)?;
    let page = match &args.out {
        Some(page) => page.clone(),
        None => file_of(&folder, "index", args.tokens, "html"),
    };
    check_page(&page)?;
    let curve = measured(&folder, args.tokens)?;
    let alone = alone(&folder, &curve, args.tokens, context)?;
    let measured = curve.measured;
    let data = report_data(&folder, &measured, &alone, args.tokens, context)?;
    let (html, curve) = (render(&data)?, curve_svg(&data)?);
    fs::write_atomic(&page, html.as_bytes())?;
    fs::write_atomic(file_of(&folder, "curve", args.tokens, "svg"), curve.as_bytes())?;
    if context.json {
        let mut measured = serde_json::to_value(&measured)?;
        if let Some(fields) = measured.as_object_mut() {
            // Another report's business, and long.
            fields.remove("documents");
        }
        return print_json(&serde_json::json!({
            "report": page.display().to_string(), "measured": measured, "alone": alone,
        }));
    }
    print(&measured, &alone, &page)?;
    Ok(ExitCode::SUCCESS)
}

/// A page that cannot be written must not cost the measurements.
fn check_page(page: &Path) -> Result<()> {
    if page.is_dir() {
        return Err(Hinted {
            message: format!("{}: a folder; expected a file", page.display()),
            hint: "name another --out".to_owned(),
        })
        .bad_input();
    }
    drop(fs::scratch_dir(page)?);
    Ok(())
}

fn report_data<K: Kind>(
    folder: &ModelFolder<K>,
    measured: &Measured<K>,
    alone: &[Alone],
    tokens: Option<usize>,
    context: &Context,
) -> Result<ReportData> {
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let log = metrics(folder)?;
    let kept = file_of(folder, "measured", tokens, "json");
    let facts = [facts(folder), made(&log, &kept, context)].concat();
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
            Err(error) => failure::message(&error),
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
fn facts<K: Kind>(folder: &ModelFolder<K>) -> Vec<(String, String)> {
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

/// How long it was trained, when it was measured, which `kept` is of, and what makes the page.
fn made(log: &[MetricsLine], kept: &Path, context: &Context) -> Vec<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version}, commit {commit}"),
        None => version.to_owned(),
    };
    let measured = std::fs::metadata(kept).and_then(|kept| kept.modified()).ok().map(utc);
    let made = [
        ("training time", seconds(log).map(duration)),
        ("measured (UTC)", measured),
        ("machine", Some(timing::describe())),
        ("device", Some(context.device_name())),
        ("version", Some(version)),
    ];
    let made = made.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    made.collect()
}

fn granularities<K: Kind>(folder: &ModelFolder<K>) -> Vec<String> {
    folder.space().granularities.names().iter().map(|name| (*name).to_owned()).collect()
}

/// What the run logged; nothing for a folder without a log.
fn metrics<K: Kind>(folder: &ModelFolder<K>) -> Result<Vec<MetricsLine>> {
    match folder.dir.join(MetricsLog::FILE).exists() {
        true => MetricsLog::read(&folder.dir).bad_input(),
        false => Ok(Vec::new()),
    }
}

fn print<K: Kind>(measured: &Measured<K>, baselines: &[Alone], page: &Path) -> Result<()> {
    table::print(&measured.results, &[])?;
    let too_few = measured.results.data.independent() < FEW_DOCUMENTS;
    let gaps: Vec<String> = measured
        .gaps
        .iter()
        .map(|g| {
            let stderr = g.stderr.map_or(String::new(), |s| format!(" ± {s:.4}"));
            let verdict =
                if too_few || g.exceeds_two_errors() { "" } else { " (not above two errors)" };
            format!("{} − {} {:.4}{stderr}{verdict}", g.narrow, g.wide, g.diff)
        })
        .collect();
    if !gaps.is_empty() {
        let of = match Metric::of(&measured.results) {
            Metric::Top1 => "gaps in loss",
            Metric::Loss => "gaps",
        };
        out!("{of}: {}", gaps.join(", "))?;
    }
    match &measured.outside[..] {
        _ if measured.in_between == 0 => {}
        _ if too_few => out!(
            "{}: too few to judge differences by, at least {FEW_DOCUMENTS} are needed",
            Metric::of(&measured.results).counted(&measured.results.data)
        )?,
        [] => out!(
            "all {} in-between submodels lie between the granularities that they mix",
            measured.in_between
        )?,
        outside => out!(
            "outside the granularities that they mix by more than two errors: {}",
            outside.join(", ")
        )?,
    }
    alone::print(baselines)?;
    out!("{}", K::say_floor(&measured.floor, &measured.results))?;
    out!("report: {}", page.display())
}
