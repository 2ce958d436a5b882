//! `matformer eval`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Measurements, Submodel, SubmodelSpec},
    eval::{DataFacts, Estimate, EvalResults, Evaluation, Paired, SubmodelResult, measurements},
    run_file::{Lm, RunKind, Vit},
};

use super::{Context, count, documents, print_json};
use crate::{
    args::EvalArgs,
    failure::OrBadInput,
    folder::{ModelFolder, progress_bar},
    kind::{self, Kind},
    logging::say,
    output::out,
};

pub fn run(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::<K>::load(&args.model, &context.device)?;
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
        &K::facts(&prepared).hash.to_string(),
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
pub fn measure<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    targets: Option<usize>,
) -> Result<Evaluation> {
    let trained_on = &folder.manifest.provenance.data_hash;
    let data_hash = K::facts(prepared).hash.to_string();
    if data_hash != *trained_on {
        say!("note: other data than the model was trained on; losses compare at equal hash only");
    }
    let bar = progress_bar("measuring");
    let evaluation = K::evaluate(folder, prepared, submodels, targets, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let evaluation = evaluation?;
    let lines =
        measurements(&evaluation, folder.space(), &folder.manifest.weights_sha256, &data_hash)?;
    // A folder that cannot be written to does not cost the result.
    if let Err(error) = Measurements::append(&folder.dir, &lines) {
        say!("note: not kept: {:#}", anyhow::Error::from(error));
    }
    Ok(evaluation)
}

/// The columns of a table of results: losses of text, accuracies of images.
pub struct Columns {
    pub images: bool,
    pub columns: [&'static str; 2],
}

/// Those that fit the results.
pub fn columns<'a>(mut results: impl Iterator<Item = &'a SubmodelResult>) -> Columns {
    match results.any(|r| r.top1.is_some()) {
        true => Columns { images: true, columns: ["top-1 %", "top-5 %"] },
        false => Columns { images: false, columns: ["loss", "bits/byte"] },
    }
}

impl Columns {
    /// What a difference is of.
    pub fn unit(&self) -> &'static str {
        if self.images { "top-1" } else { "loss" }
    }

    /// Head of the column of differences to `reference`.
    pub fn difference(&self, reference: &str) -> String {
        format!("{} above {reference}", self.unit())
    }

    /// The two cells of a result.
    pub fn cells(&self, r: &SubmodelResult) -> [String; 2] {
        let accuracy =
            |top: Option<Estimate>| top.map_or("-".into(), |e| self.number(e.value, e.stderr));
        match self.images {
            true => [accuracy(r.top1), accuracy(r.top5)],
            false => [
                self.number(r.loss, r.stderr),
                r.bits_per_byte.map_or("-".into(), |bits| format!("{bits:.4}")),
            ],
        }
    }

    /// A value or a difference and its standard error, where there is one.
    pub fn number(&self, value: f64, stderr: Option<f64>) -> String {
        let (scale, places) = if self.images { (100.0, 2) } else { (1.0, 4) };
        match stderr {
            Some(stderr) => format!("{:.places$} ± {:.places$}", scale * value, scale * stderr),
            None => format!("{:.places$}", scale * value),
        }
    }

    /// The difference to the reference.
    fn paired(&self, paired: &Paired) -> String {
        match paired.top1.filter(|_| self.images) {
            Some(top1) => self.number(top1.value, top1.stderr),
            None => self.number(paired.diff, paired.stderr),
        }
    }
}

/// What was measured on.
pub fn print_data(d: &DataFacts, images: bool) -> Result<()> {
    let hash = d.hash.get(..16).unwrap_or(&d.hash);
    match images {
        true => out!("held-out: {} images, data {hash}", d.documents),
        false => out!(
            "held-out: {} tokens of {}, data {hash}",
            count(d.tokens as f64),
            documents(d.documents)
        ),
    }
}

/// The results as a table; `asked` is what was typed for each of them, if anything.
pub fn print(results: &EvalResults, asked: &[String]) -> Result<()> {
    let head = columns(results.results.iter());
    print_data(&results.data, head.images)?;
    let reference = results.results.iter().find_map(|r| r.paired.as_ref()).map(|p| p.to.as_str());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let to = reference.map_or(String::new(), |to| head.difference(to));
    table.set_header(["submodel", "params", "non-emb.", head.columns[0], head.columns[1], &to]);
    for (i, r) in results.results.iter().enumerate() {
        let submodel = match asked.get(i) {
            Some(asked) if *asked != r.submodel => format!("{} ({asked})", r.submodel),
            _ => r.submodel.clone(),
        };
        let [value, second] = head.cells(r);
        table.add_row([
            submodel,
            count(r.params.total as f64),
            count(r.params.non_embedding as f64),
            value,
            second,
            r.paired.as_ref().map_or(String::new(), |p| head.paired(p)),
        ]);
    }
    out!("{table}")?;
    footnote(head.images, results.results.iter().map(|r| r.stderr))
}

/// What ± is, where there is one.
pub fn footnote(images: bool, mut errors: impl Iterator<Item = Option<f64>>) -> Result<()> {
    let unit = if images { "image" } else { "document" };
    match errors.any(|stderr| stderr.is_some()) {
        false => Ok(()),
        true => {
            out!("± one standard error, clustered by {unit}; differences are paired by {unit}")
        }
    }
}
