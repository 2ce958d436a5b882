//! `matformer eval`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Measurements, Submodel, SubmodelSpec},
    eval::{
        DataFacts, Estimate, EvalResults, Evaluation, SubmodelResult, measurements, report::Metric,
    },
    run_file::{Lm, RunKind, Vit},
};
use serde::Serialize;

use super::{
    Context,
    alone::{self, Alone},
    count, documents, print_json,
};
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
    submodels.truncate(shown);
    let alone = alone::beside(&folder, &prepared, &evaluation, &submodels, args.tokens, context)?;
    if context.json {
        return print_json(&Printed { results, alone });
    }
    let asked: Vec<String> = asked.iter().map(SubmodelSpec::to_string).collect();
    print(&results, &asked)?;
    alone::print(&alone)?;
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    results: EvalResults,
    /// Baselines of the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alone: Vec<Alone>,
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
    pub metric: Metric,
    pub columns: [&'static str; 2],
}

/// Those that fit the results.
pub fn columns<'a>(results: impl Iterator<Item = &'a SubmodelResult>) -> Columns {
    let metric = Metric::of_all(results);
    let columns = match metric {
        Metric::Top1 => ["top-1 %", "top-5 %"],
        Metric::Loss => ["loss", "bits/byte"],
    };
    Columns { metric, columns }
}

impl Columns {
    /// Head of the column of differences to `reference`.
    pub fn above(&self, reference: &str) -> String {
        format!("{} above {reference}", self.metric.short())
    }

    /// The two cells of a result.
    pub fn cells(&self, r: &SubmodelResult) -> [String; 2] {
        let second = match self.metric {
            Metric::Top1 => r.top5.map(|top5| self.difference(top5)),
            Metric::Loss => r.bits_per_byte.map(|bits| format!("{bits:.4}")),
        };
        [self.number(self.metric.point(r)), second.unwrap_or("-".into())]
    }

    /// A difference, or another number of the metric's, as it was measured.
    pub fn difference(&self, measured: Estimate) -> String {
        self.number(self.metric.scaled(measured))
    }

    /// A number and its standard error, where there is one.
    fn number(&self, (value, stderr): (f64, Option<f64>)) -> String {
        let places = if self.metric == Metric::Top1 { 2 } else { 4 };
        match stderr {
            Some(stderr) => format!("{value:.places$} ± {stderr:.places$}"),
            None => format!("{value:.places$}"),
        }
    }
}

/// What was measured on.
pub fn print_data(d: &DataFacts, metric: Metric) -> Result<()> {
    let hash = d.hash.get(..16).unwrap_or(&d.hash);
    match metric {
        Metric::Top1 => out!("held-out: {} images, data {hash}", d.documents),
        Metric::Loss => out!(
            "held-out: {} tokens of {}, data {hash}",
            count(d.tokens as f64),
            documents(d.documents)
        ),
    }
}

/// The results as a table; `asked` is what was typed for each of them, if anything.
pub fn print(results: &EvalResults, asked: &[String]) -> Result<()> {
    let head = columns(results.results.iter());
    print_data(&results.data, head.metric)?;
    let reference = results.results.iter().find_map(|r| r.paired.as_ref()).map(|p| p.to.as_str());
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let to = reference.map_or(String::new(), |to| head.above(to));
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
            r.paired.as_ref().map_or(String::new(), |p| head.number(head.metric.paired(p))),
        ]);
    }
    out!("{table}")?;
    footnote(head.metric, results.results.iter().map(|r| r.stderr))
}

/// What ± is, where there is one.
pub fn footnote(metric: Metric, mut errors: impl Iterator<Item = Option<f64>>) -> Result<()> {
    let unit = metric.clusters();
    match errors.any(|stderr| stderr.is_some()) {
        false => Ok(()),
        true => {
            out!("± one standard error, clustered by {unit}; differences are paired by {unit}")
        }
    }
}
