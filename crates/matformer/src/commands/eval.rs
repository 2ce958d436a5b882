//! `matformer eval`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Measurements, Submodel, SubmodelSpec},
    data::Prepared,
    eval::{BATCH_ROWS, DataFacts, EvalResults, Evaluation, evaluate, measurements},
};

use super::{Context, count, documents, print_json};
use crate::{
    args::EvalArgs,
    failure::OrBadInput,
    folder::{ModelFolder, progress_bar},
    logging::say,
    output::out,
};

pub fn run(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::load(&args.model, &context.device)?;
    let asked = match &args.submodels {
        None => Vec::new(),
        Some(list) => SubmodelSpec::parse_list(list).bad_input()?,
    };
    let mut submodels = match &asked[..] {
        [] => folder.trained(),
        asked => asked.iter().map(|spec| folder.submodel(Some(spec))).collect::<Result<_>>()?,
    };
    let reference = folder.submodel(args.paired_to.as_ref())?;
    let shown = submodels.len();
    // The reference is measured with the others, and shown if it was asked for.
    let hidden = !submodels.contains(&reference);
    if hidden {
        submodels.push(reference.clone());
    }
    let prepared = match &args.data {
        Some(from) => folder.data_of(from)?,
        None => folder.own_data(DATA_HINT)?,
    };
    let evaluation = measure(&folder, &prepared, &submodels, args.tokens)?;
    let mut results = EvalResults::new(
        &args.model.display().to_string(),
        &prepared.data_hash().to_string(),
        &evaluation,
        folder.space(),
        &folder.costs,
        Some(&reference),
    )?;
    results.results.truncate(shown);
    if context.json {
        return print_json(&results);
    }
    let asked: Vec<String> = asked.iter().map(SubmodelSpec::to_string).collect();
    print(&results, &asked)?;
    Ok(ExitCode::SUCCESS)
}

/// What to do with a folder that names no data.
const DATA_HINT: &str = "name the data with --data RUN: a run file, or the folder of the run that \
                         this model comes from";

/// Measures submodels in one walk per batch, and keeps what was measured.
pub fn measure(
    folder: &ModelFolder,
    prepared: &Prepared,
    submodels: &[Submodel],
    tokens: Option<usize>,
) -> Result<Evaluation> {
    let trained_on = &folder.manifest.provenance.data_hash;
    let data_hash = prepared.data_hash().to_string();
    if data_hash != *trained_on {
        say!("note: other data than the model was trained on; losses compare at equal hash only");
    }
    let held_out = prepared.held_out_part(tokens).bad_input()?;
    let bar = progress_bar("measuring");
    let evaluation =
        evaluate(&folder.model, &held_out, submodels, BATCH_ROWS, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        });
    bar.finish_and_clear();
    let evaluation = evaluation.bad_input()?;
    let lines =
        measurements(&evaluation, folder.space(), &folder.manifest.weights_sha256, &data_hash)?;
    // A folder that cannot be written to does not cost the result.
    if let Err(error) = Measurements::append(&folder.dir, &lines) {
        say!("note: not kept: {:#}", anyhow::Error::from(error));
    }
    Ok(evaluation)
}

/// A number and its standard error, where there is one.
pub fn plus_minus(value: f64, stderr: Option<f64>) -> String {
    match stderr {
        Some(stderr) => format!("{value:.4} ± {stderr:.4}"),
        None => format!("{value:.4}"),
    }
}

/// What was measured on.
pub fn print_data(d: &DataFacts) -> Result<()> {
    out!(
        "held-out: {} tokens of {}, data {}",
        count(d.tokens as f64),
        documents(d.documents),
        d.hash.get(..16).unwrap_or(&d.hash)
    )
}

/// The results as a table; `asked` is what was typed for each of them, if anything.
pub fn print(results: &EvalResults, asked: &[String]) -> Result<()> {
    print_data(&results.data)?;
    let reference = results.results.iter().find_map(|r| r.paired.as_ref()).map(|p| p.to.as_str());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let to = reference.map_or(String::new(), |to| format!("loss above {to}"));
    table.set_header(["submodel", "params", "non-emb.", "loss", "bits/byte", &to]);
    for (i, r) in results.results.iter().enumerate() {
        let submodel = match asked.get(i) {
            Some(asked) if *asked != r.submodel => format!("{} ({asked})", r.submodel),
            _ => r.submodel.clone(),
        };
        table.add_row([
            submodel,
            count(r.params.total as f64),
            count(r.params.non_embedding as f64),
            plus_minus(r.loss, r.stderr),
            format!("{:.4}", r.bits_per_byte),
            r.paired.as_ref().map_or(String::new(), |p| plus_minus(p.diff, p.stderr)),
        ]);
    }
    out!("{table}")?;
    footnote(results.results.iter().map(|r| r.stderr))
}

/// What ± is, where there is one.
pub fn footnote(mut errors: impl Iterator<Item = Option<f64>>) -> Result<()> {
    match errors.any(|stderr| stderr.is_some()) {
        false => Ok(()),
        true => {
            out!("± one standard error, clustered by document; differences are paired by document")
        }
    }
}
