//! `matformer report`

mod overlay;

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    eval::{report::Metric, stats::FEW_DOCUMENTS},
    run::{Kind, kind},
    run_file::{RunKind, visit},
    study::report::{Question, Report, report},
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
        None => RunKind::default(),
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
    let question = Question { tokens: args.tokens, context: args.context, out: args.out.clone() };
    let [run] = &args.runs[..] else {
        return overlay::run::<K>(args, &question, context);
    };
    let report = report::<K>(run, &question, program(context), &context.session)?;
    if context.json {
        return print_json(&report.to_json()?);
    }
    print(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// What measured, for the page: device and version.
fn program(context: &Context) -> Vec<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version}, commit {commit}"),
        None => version.to_owned(),
    };
    vec![("device".to_owned(), context.device_name()), ("version".to_owned(), version)]
}

fn print<K: Kind>(report: &Report<K>) -> Result<()> {
    let measured = &report.measured;
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
    table::print_alone(&report.alone)?;
    out!("{}", K::say_floor(&measured.floor, &measured.results))?;
    out!("report: {}", report.page.display())
}
