//! Several runs on one page.

use askama::Template;

use super::{HeldOutPoint, Row, ascending, figures, metric::Metric, plots};
use crate::{Estimate, EvalResults, Result, SubmodelResult};

/// All that a page about several runs says. Text may hold anything: it is escaped.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlayData {
    /// Heading of the page.
    pub title: String,
    /// The runs; differences are to the first of them.
    pub runs: Vec<OverlayRun>,
}

/// One of the runs of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlayRun {
    /// What tells it from the others.
    pub name: String,
    /// Facts as (name, value), the same names in every run.
    pub facts: Vec<(String, String)>,
    /// What its submodels were measured at.
    pub results: EvalResults,
    /// Labels of the granularities, from the narrowest to the widest.
    pub granularities: Vec<String>,
    /// Held-out losses during training: at tokens instead of steps, which runs differ in the size
    /// of; may be empty.
    pub held_out: Vec<HeldOutPoint>,
    /// Loss of a granularity (its label), or accuracy of images, minus that of the first run's of the
    /// same widths, where both were measured on the same documents.
    pub differences: Vec<(String, Estimate)>,
}

impl OverlayData {
    /// Whether all runs were measured on the same text: only then do their losses compare.
    pub fn same_data(&self) -> bool {
        self.runs.windows(2).all(|pair| pair[0].results.data == pair[1].results.data)
    }

    /// What standard errors are over.
    pub fn counted(&self, metric: Metric) -> String {
        match self.runs.first().filter(|_| self.same_data()) {
            Some(run) => metric.counted(&run.results.data),
            None => {
                format!("the held-out {0}s of each run, or clusters of {0}s", metric.document())
            }
        }
    }
}

/// The page.
///
/// # Errors
/// [`Error::Plot`](crate::Error::Plot) or [`Error::Page`](crate::Error::Page); neither depends on
/// what text the data holds.
pub fn render_overlay(data: &OverlayData) -> Result<String> {
    let sorted: Vec<Vec<&SubmodelResult>> =
        data.runs.iter().map(|run| ascending(&run.results)).collect();
    let series: Vec<_> = sorted
        .iter()
        .zip(&data.runs)
        .map(|(results, run)| (results.as_slice(), run.granularities.as_slice()))
        .collect();
    let curves: Vec<_> = data.runs.iter().map(|run| run.held_out.as_slice()).collect();
    let metric = Metric::of_all(sorted.iter().flatten().copied());
    let page = Page {
        data,
        metric,
        fact_names: data
            .runs
            .first()
            .map_or(Vec::new(), |run| run.facts.iter().map(|(name, _)| name.as_str()).collect()),
        runs: data.runs.iter().enumerate().map(|run| Head::new(run, metric)).collect(),
        same_data: data.same_data(),
        counted: data.counted(metric),
        accuracy_cost: figures::overlaid(&series)?,
        training: figures::training_overlaid(&curves, metric)?,
        rows: rows(data, &sorted, metric),
    };
    Ok(page.render()?)
}

fn color(run: usize) -> usize {
    run % usize::from(plots::COLORS)
}

/// What the template is filled from.
#[derive(Template)]
#[template(path = "overlay.html")]
struct Page<'a> {
    data: &'a OverlayData,
    metric: Metric,
    fact_names: Vec<&'a str>,
    runs: Vec<Head<'a>>,
    same_data: bool,
    counted: String,
    accuracy_cost: String,
    training: Option<String>,
    rows: Vec<RunRow<'a>>,
}

/// A run's line of the first table.
struct Head<'a> {
    color: usize,
    name: &'a str,
    facts: Vec<&'a str>,
    held_out: String,
    data: &'a str,
}

impl<'a> Head<'a> {
    fn new((i, run): (usize, &'a OverlayRun), metric: Metric) -> Self {
        let data = &run.results.data;
        Self {
            color: color(i),
            name: &run.name,
            facts: run.facts.iter().map(|(_, value)| value.as_str()).collect(),
            held_out: metric.held_out(data),
            data: data.hash.get(..16).unwrap_or(&data.hash),
        }
    }
}

/// A line of the table of submodels.
struct RunRow<'a> {
    color: usize,
    run: &'a str,
    row: Row<'a>,
}

/// All submodels of all runs, those of one size next to each other.
fn rows<'a>(
    data: &'a OverlayData,
    sorted: &[Vec<&'a SubmodelResult>],
    metric: Metric,
) -> Vec<RunRow<'a>> {
    let mut all: Vec<(usize, &SubmodelResult)> = Vec::new();
    for (i, results) in sorted.iter().enumerate() {
        all.extend(results.iter().map(|result| (i, *result)));
    }
    all.sort_by_key(|(i, result)| (result.params.non_embedding, *i));
    let row = |(i, result): (usize, &'a SubmodelResult)| {
        let run = &data.runs[i];
        let paired = run.differences.iter().find(|(label, _)| *label == result.submodel);
        let difference = paired.map(|(_, difference)| metric.scaled(*difference));
        let row = Row::new(result, &run.granularities, metric, difference);
        RunRow { color: color(i), run: &run.name, row }
    };
    all.into_iter().map(row).collect()
}
