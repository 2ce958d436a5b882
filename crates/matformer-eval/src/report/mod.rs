//! The report: one HTML page about a model's accuracy-cost curve, or about those of several runs.
//!
//! It needs no network and no scripts, and follows the reader's choice of light or dark.

mod figures;
mod format;
mod metric;
mod overlay;
mod plots;
mod searched;

use askama::Template;
use matformer_core::Submodel;
use matformer_data::Baselines;
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Consistent, Estimate, EvalResults, Found, Result, Stage, StageResult, Stages,
    SubmodelResult,
    retrieval::{SearchResult, SearchResults},
};

pub use metric::Metric;
pub use overlay::{OverlayData, OverlayRun, render_overlay};

/// All that a report says. Text may hold anything: it is escaped.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportData {
    /// Heading of the page.
    pub title: String,
    /// Facts of the run as (name, value): shape, tokens trained, draw, machine.
    pub facts: Vec<(String, String)>,
    /// What the submodels were measured at.
    pub results: EvalResults,
    /// Labels of the granularities, from the narrowest to the widest.
    pub granularities: Vec<String>,
    /// Training losses, from the run's metrics; may be empty.
    pub train: Vec<TrainPoint>,
    /// Held-out losses during training, from the run's metrics; may be empty.
    pub held_out: Vec<HeldOutPoint>,
    /// Granularities that were trained alone; may be empty.
    pub alone: Vec<AlonePoint>,
    /// What the same data gives without a model, in a sentence ([`compare`] writes that of text).
    pub floor: Option<String>,
    /// What a submodel makes of a prompt.
    pub sample: Option<Sample>,
    /// What queries by each size find in one gallery; may be empty.
    pub retrieval: Vec<SearchResults>,
    /// What submodels searches found; may be empty.
    pub found: Vec<Found>,
    /// What each size was before and after a pretrained model was made elastic, if it was.
    pub stages: Option<Stages>,
    /// How far the sizes predict what the largest does, if that was measured.
    pub consistency: Option<Consistency>,
}

/// A granularity that was trained alone, for comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct AlonePoint {
    /// What it is called: `S alone`.
    pub name: String,
    /// How much it was trained: `per-width`.
    pub budget: String,
    /// What it was measured at, on the data of the elastic sizes.
    pub result: SubmodelResult,
    /// Loss, or accuracy, of the elastic size minus this one's.
    pub elastic_above: Estimate,
}

/// Training loss of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainPoint {
    /// Steps made, this one included.
    pub step: u64,
    /// Label of the submodel that was drawn.
    pub label: String,
    /// Nats per token.
    pub loss: f64,
}

/// Held-out loss at one step.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOutPoint {
    /// Steps made.
    pub step: u64,
    /// Name of the granularity.
    pub name: String,
    /// Nats per token.
    pub loss: f64,
}

/// What a submodel makes of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Label of the submodel.
    pub submodel: String,
    /// What it was given.
    pub prompt: String,
    /// How it went on.
    pub text: String,
}

/// The page.
///
/// # Errors
/// [`Error::Plot`](crate::Error::Plot) or [`Error::Page`](crate::Error::Page); neither depends on
/// what text the data holds.
pub fn render(data: &ReportData) -> Result<String> {
    let sorted = ascending(&data.results);
    let reference = sorted.iter().find_map(|r| r.paired.as_ref()).map(|p| &p.to);
    let metric = Metric::of(&data.results);
    let page = Page {
        data,
        metric,
        held_out: metric.held_out(&data.results.data),
        counted: metric.counted(&data.results.data),
        accuracy_cost: figures::accuracy_cost(&sorted, &data.granularities, &data.alone)?,
        training: figures::training(&data.train, &data.held_out, &data.granularities, metric)?,
        legend: data.granularities.iter().enumerate().map(key).collect(),
        reference: reference.map(String::as_str),
        rows: sorted
            .iter()
            .map(|r| {
                let paired = r.paired.as_ref().map(|paired| metric.paired(paired));
                Row::new(r, &data.granularities, metric, paired)
            })
            .collect(),
        alone: data.alone.iter().map(|alone| AloneRow::new(alone, metric)).collect(),
        searched: searched::searches(&data.found, metric)?,
        searches: data
            .retrieval
            .iter()
            .map(|found| {
                let svg = figures::search(&found.results, &data.granularities)?;
                Ok(Searched { found, svg, rows: found.results.iter().map(found_row).collect() })
            })
            .collect::<Result<_>>()?,
        staged: data.stages.as_ref().map(|stages| Staged::new(stages, metric)),
        consistent: data.consistency.as_ref().map(consistent),
    };
    Ok(page.render()?)
}

/// The plot of held-out loss against parameters as a picture of its own (SVG), light or dark as
/// the reader has it.
///
/// # Errors
/// [`Error::Plot`](crate::Error::Plot) or [`Error::Page`](crate::Error::Page).
pub fn curve(data: &ReportData) -> Result<String> {
    let sorted = ascending(&data.results);
    let svg = figures::accuracy_cost(&sorted, &data.granularities, &data.alone)?;
    let style = FigureStyle.render()?;
    // Behind the opening tag of the picture.
    let at = svg.find('>').map_or(0, |end| end + 1);
    Ok(format!("{}{style}{}", &svg[..at], &svg[at..]))
}

/// Colors of a picture outside the page.
#[derive(Template)]
#[template(path = "figures.svg", escape = "none")]
struct FigureStyle;

/// What the template is filled from.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    data: &'a ReportData,
    metric: Metric,
    held_out: String,
    counted: String,
    accuracy_cost: String,
    training: Option<figures::Training>,
    legend: Vec<(usize, &'a str)>,
    reference: Option<&'a str>,
    rows: Vec<Row<'a>>,
    alone: Vec<AloneRow<'a>>,
    searched: Option<searched::Searches>,
    searches: Vec<Searched<'a>>,
    staged: Option<Staged<'a>>,
    consistent: Option<Vec<[String; 6]>>,
}

/// Table of the stages of `elastify`.
struct Staged<'a> {
    stages: &'a Stages,
    held_out: String,
    /// A stage's name and what it has seen.
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl<'a> Staged<'a> {
    fn new(stages: &'a Stages, metric: Metric) -> Self {
        let unit = if metric == Metric::Top1 { "images" } else { "tokens" };
        let head = |stage: &Stage| match stage.tokens {
            0 => stage.stage.clone(),
            n => format!("{}, {} {unit}", stage.stage, format::thousands(n)),
        };
        let cell = |r: &StageResult| match r.top1 {
            Some(top1) => percent(top1),
            None => format::with_error(r.loss, r.stderr),
        };
        let sizes = stages.stages.first().map_or(&[][..], |stage| &stage.results);
        let row = |(i, size): (usize, &StageResult)| {
            let cells = stages.stages.iter().filter_map(|stage| stage.results.get(i)).map(cell);
            let name = [size.submodel.clone(), format::thousands(size.params)];
            name.into_iter().chain(cells).collect()
        };
        Self {
            stages,
            held_out: metric.held_out(&stages.data),
            heads: stages.stages.iter().map(head).collect(),
            rows: sizes.iter().enumerate().map(row).collect(),
        }
    }
}

/// A search as figure and table.
struct Searched<'a> {
    found: &'a SearchResults,
    svg: String,
    rows: Vec<[String; 6]>,
}

/// A line of the table of searches.
fn found_row(r: &SearchResult) -> [String; 6] {
    let difference = |estimate| Metric::Top1.difference(Metric::Top1.scaled(estimate));
    [
        match &r.alone {
            Some(budget) => format!("{} ({budget})", r.query),
            None => r.query.clone(),
        },
        r.gallery.clone(),
        format::thousands(r.query_params),
        percent(r.found.nearest),
        percent(r.found.map),
        r.above.map_or("–".into(), difference),
    ]
}

/// Lines of the table of consistency.
fn consistent(found: &Consistency) -> Vec<[String; 6]> {
    let line = |one: &Consistent| {
        let of = &one.held_out;
        let or_none = |estimate: Option<Estimate>| estimate.map_or("–".into(), percent);
        let nats = |e: Estimate| format::with_error(e.value, e.stderr);
        let alone = one.alone.as_ref().map(|budget| format!(" alone ({budget})"));
        [
            format!("{}{}", one.submodel, alone.unwrap_or_default()),
            percent(of.equal),
            nats(of.kl),
            nats(of.reverse_kl),
            or_none(one.written.map(|written| written.equal)),
            or_none(one.own),
        ]
    };
    found.results.iter().map(line).collect()
}

fn percent(estimate: Estimate) -> String {
    let (value, stderr) = Metric::Top1.scaled(estimate);
    format::percent(value, stderr)
}

/// What was measured, from the smallest submodel to the largest.
fn ascending(results: &EvalResults) -> Vec<&SubmodelResult> {
    let mut sorted: Vec<_> = results.results.iter().collect();
    sorted.sort_by_key(|result| result.params.non_embedding);
    sorted
}

/// The color and the label of a series.
fn key((i, label): (usize, &String)) -> (usize, &str) {
    (i % usize::from(plots::COLORS), label)
}

/// A line of the table.
struct Row<'a> {
    is_granularity: bool,
    name: &'a str,
    widths: String,
    total: String,
    non_embedding: String,
    cells: [String; 2],
    difference: String,
}

/// A line of the table of granularities that were trained alone.
struct AloneRow<'a> {
    name: &'a str,
    budget: &'a str,
    total: String,
    cells: [String; 2],
    elastic_above: String,
}

impl<'a> AloneRow<'a> {
    fn new(alone: &'a AlonePoint, metric: Metric) -> Self {
        Self {
            name: &alone.name,
            budget: &alone.budget,
            total: format::thousands(alone.result.params.total),
            cells: metric.cells(&alone.result),
            elastic_above: metric.difference(metric.scaled(alone.elastic_above)),
        }
    }
}

impl<'a> Row<'a> {
    fn new(
        result: &'a SubmodelResult,
        granularities: &[String],
        metric: Metric,
        difference: Option<(f64, Option<f64>)>,
    ) -> Self {
        Self {
            is_granularity: granularities.contains(&result.submodel),
            name: &result.submodel,
            widths: format::widths(&Submodel::new(result.widths.clone())),
            total: format::thousands(result.params.total),
            non_embedding: format::thousands(result.params.non_embedding),
            cells: metric.cells(result),
            difference: difference.map_or("–".into(), |found| metric.difference(found)),
        }
    }
}

/// What the same text takes without a model, and whether the best submodel beats gzip, in a sentence
/// or two.
pub fn compare(baselines: &Baselines, results: &EvalResults) -> String {
    let Baselines { byte_unigram, gzip } = baselines;
    let text = format!(
        "Without a model, the same text takes {byte_unigram:.3} bits per byte under the byte \
         frequencies of the training text, and {gzip:.3} by gzip -9, each document on its own."
    );
    let bits = results.results.iter().filter_map(|r| Some((&r.submodel, r.bits_per_byte?)));
    let Some((submodel, ours)) = bits.min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return text;
    };
    match ours < *gzip {
        true => format!("{text} {submodel} takes {ours:.3}: less than gzip."),
        false => format!("{text} gzip wins: the best submodel here, {submodel}, takes {ours:.3}."),
    }
}

#[cfg(test)]
mod tests;
