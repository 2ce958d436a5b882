//! `matformer report A B …`: several runs on one page.

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::count,
    eval::SubmodelResult,
    run::Kind,
    study::report::{Overlay, Question, overlay},
};

use crate::{
    args::ReportArgs,
    commands::{Context, print_json, table},
    output::out,
};

pub fn run<K: Kind>(args: &ReportArgs, question: &Question, context: &Context) -> Result<ExitCode> {
    let found = overlay::<K>(&args.runs, question, &context.session)?;
    if context.json {
        return print_json(&found.to_json());
    }
    print(&found)?;
    Ok(ExitCode::SUCCESS)
}

fn print(found: &Overlay) -> Result<()> {
    let Overlay { page, data } = found;
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
