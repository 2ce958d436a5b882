//! `matformer report`

mod overlay;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{
        fs,
        units::{duration, utc},
    },
    eval::{
        report::{Metric, ReportData, curve as curve_svg, render},
        stats::FEW_DOCUMENTS,
    },
    nn::machine,
    run::{Kind, ModelFolder, kind, runs::seconds},
    run_file::{RunKind, visit},
    study::{
        Keep, Measured,
        alone::{Alone, alone, ended},
        consistency::of_trained,
        file_of, measured, metrics, report_data,
    },
    train::MetricsLine,
};

use super::{Context, print_json, table};
use crate::{
    args::{ReportArgs, commit},
    failure::{Hinted, OrBadInput},
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
    visit!(kind, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let [run] = &args.runs[..] else {
        return overlay::run::<K>(args, context);
    };
    let folder = ModelFolder::<K>::load(run, &context.session)?.with_context(args.context)?;
    let page = match &args.out {
        Some(page) => page.clone(),
        None => file_of(&folder, "index", args.tokens, "html"),
    };
    check_page(&page)?;
    let curve = measured(&folder, args.tokens, keep(args))?;
    let ended = ended(&folder)?;
    let alone = alone(&folder, &ended, &curve, args.tokens, keep(args))?;
    let consistency = of_trained(&folder, curve.data.as_ref(), args.tokens, &ended)?;
    let measured = curve.measured;
    let log = metrics(&folder)?;
    let made = made(&log, &file_of(&folder, "measured", args.tokens, "json"), context);
    let data = ReportData { consistency, ..report_data(&folder, (&measured, &alone), log, made)? };
    let (html, curve) = (render(&data)?, curve_svg(&data)?);
    fs::write_atomic(&page, html.as_bytes())?;
    let svg = match &args.out {
        Some(page) => page.with_extension("svg"),
        None => file_of(&folder, "curve", args.tokens, "svg"),
    };
    fs::write_atomic(svg, curve.as_bytes())?;
    if context.json {
        let mut measured = serde_json::to_value(&measured)?;
        if let Some(fields) = measured.as_object_mut() {
            // Another report's business, and long.
            fields.remove("documents");
        }
        return print_json(&serde_json::json!({
            "report": page.display().to_string(), "measured": measured, "alone": alone,
            "consistency": data.consistency,
        }));
    }
    print(&measured, &alone, &page)?;
    Ok(ExitCode::SUCCESS)
}

/// A page elsewhere asks nothing of the folder of the run.
fn keep(args: &ReportArgs) -> Keep {
    if args.out.is_some() { Keep::May } else { Keep::Must }
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

/// Facts shown on the page: training time, date of the evaluation (modification time of `kept`), machine, device and
/// program version.
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
        ("machine", Some(machine::describe())),
        ("device", Some(context.device_name())),
        ("version", Some(version)),
    ];
    let made = made.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    made.collect()
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
    table::print_alone(baselines)?;
    out!("{}", K::say_floor(&measured.floor, &measured.results))?;
    out!("report: {}", page.display())
}
