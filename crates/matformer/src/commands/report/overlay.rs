//! `matformer report A B …`: several runs on one page.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{fs, units::count},
    eval::{
        Estimate, SubmodelResult,
        report::{OverlayData, OverlayRun, render_overlay},
    },
    run::{Kind, ModelFolder, folder::check_is_model},
    study::{measured, overlay_run},
};

use super::{check_page, keep};
use crate::{
    args::ReportArgs,
    commands::{Context, print_json, table},
    failure::{Hinted, OrBadInput},
    logging::say,
    output::out,
};

pub fn run<K: Kind>(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let names = names(&args.runs.iter().map(|run| run.as_path()).collect::<Vec<_>>())?;
    for run in &args.runs {
        // All are there before any is measured.
        check_is_model(run).bad_input()?;
    }
    let own = || args.runs[0].join("report").join(page_name(&names));
    let page = args.out.clone().unwrap_or_else(own);
    check_page(&page)?;
    let mut first = None;
    let mut runs = Vec::new();
    for (run, name) in args.runs.iter().zip(&names) {
        // One after the other: models need not fit into memory together.
        let folder = ModelFolder::<K>::load(run, &context.session)?;
        let folder = folder.with_context(args.context)?;
        let ours = measured(&folder, args.tokens, keep(args))?.measured;
        runs.push(overlay_run(name, &folder, &ours, first.as_ref())?);
        first.get_or_insert(ours);
    }
    let data = OverlayData { title: format!("{}: accuracy against cost", names.join(", ")), runs };
    fs::write_atomic(&page, render_overlay(&data)?.as_bytes())?;
    if !data.same_data() {
        say!(
            "note: measured on different held-out data, in other tokens or in windows of other \
             lengths: these numbers cannot be compared"
        );
    }
    if context.json {
        return print_json(&json(&data, &page));
    }
    print(&data, &page)?;
    Ok(ExitCode::SUCCESS)
}

/// What tells the runs apart: the last parts of their paths, as many as it takes.
fn names(runs: &[&Path]) -> Result<Vec<String>> {
    let full: Vec<_> =
        runs.iter().map(|run| run.canonicalize().unwrap_or_else(|_| run.to_path_buf())).collect();
    if let Some(run) = (1..full.len()).find(|i| full[..*i].contains(&full[*i])) {
        let message = format!("{}: named twice", runs[run].display());
        let hint = "expected different runs; the first is what the others are compared with";
        return Err(Hinted { message, hint: hint.to_owned() }).bad_input();
    }
    let longest = full.iter().map(|run| run.components().count()).max().unwrap_or(0);
    for parts in 1..=longest {
        let names: Vec<String> = full.iter().map(|run| last_parts(run, parts)).collect();
        if names.iter().collect::<BTreeSet<_>>().len() == names.len() {
            return Ok(names);
        }
    }
    Ok(full.iter().map(|run| last_parts(run, longest)).collect())
}

/// The page's file: the names of the runs, or as many of them as a file's name has room for.
fn page_name(names: &[String]) -> String {
    /// Systems allow 255 bytes, of which a temporary file's name takes some.
    const LONGEST: usize = 200;
    let all = names.join("+");
    if all.len() <= LONGEST {
        return format!("{all}.html");
    }
    let cut = (0..=LONGEST - 40).rev().find(|at| all.is_char_boundary(*at)).unwrap_or(0);
    let hash = fs::sha256_bytes(all.as_bytes());
    format!("{}…-{}-runs-{}.html", &all[..cut], names.len(), &hash[..16])
}

fn last_parts(path: &Path, n: usize) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let kept = &parts[parts.len().saturating_sub(n)..];
    kept.iter().map(|part| part.trim_matches('/')).collect::<Vec<_>>().join("-")
}

fn json(data: &OverlayData, page: &Path) -> serde_json::Value {
    let differences = |run: &OverlayRun| -> serde_json::Value {
        let of = |(label, Estimate { value, stderr }): &(String, Estimate)| {
            (label.clone(), serde_json::json!({ "diff": value, "stderr": stderr }))
        };
        run.differences.iter().map(of).collect::<serde_json::Map<_, _>>().into()
    };
    let run = |run: &OverlayRun| {
        serde_json::json!({
            "name": run.name, "results": run.results, "above_first": differences(run),
        })
    };
    serde_json::json!({
        "report": page.display().to_string(),
        "same_data": data.same_data(),
        "runs": data.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn print(data: &OverlayData, page: &Path) -> Result<()> {
    let first = &data.runs[0].name;
    let head = table::columns(data.runs.iter().flat_map(|run| &run.results.results));
    let mut table = table::plain();
    if data.same_data() {
        table::print_data(&data.runs[0].results.data, head.metric)?;
    }
    let above = head.above(first);
    table.set_header(["run", "submodel", "non-emb.", head.columns[0], head.columns[1], &above]);
    for run in &data.runs {
        let of = |r: &&_| run.granularities.contains(&(r as &SubmodelResult).submodel);
        for r in run.results.results.iter().filter(of) {
            let difference = run.differences.iter().find(|(label, _)| *label == r.submodel);
            let [value, second] = head.cells(r);
            table.add_row([
                run.name.clone(),
                r.submodel.clone(),
                count(r.params.non_embedding as f64),
                value,
                second,
                difference.map_or(String::new(), |(_, d)| head.difference(*d)),
            ]);
        }
    }
    out!("{table}")?;
    table::footnote(
        &data.counted(head.metric),
        data.runs.iter().flat_map(|run| run.results.results.iter().map(|r| r.stderr)),
    )?;
    out!("report: {}", page.display())
}

#[cfg(test)]
mod tests {
    use super::page_name;

    #[test]
    fn a_page_of_many_runs_has_a_name_that_a_file_can_have() {
        let names =
            |n: usize| -> Vec<String> { (0..n).map(|i| format!("läufe-{i:030}")).collect() };
        assert_eq!(page_name(&names(2)), format!("{}.html", names(2).join("+")));
        let [some, more] = [page_name(&names(40)), page_name(&names(41))];
        assert!(some.len() <= 220 && some != more, "{some}");
    }
}
