//! Results of submodels as a table: what `eval`, `report` and `baselines` print.

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use matformer::{
    core::units::{count, counted, short},
    eval::{
        Consistency, DataFacts, Estimate, EvalResults, SourceResult, SubmodelResult, report::Metric,
    },
    study::Alone,
};

use crate::output::out;

/// A table without lines.
pub fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
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
    fn number(&self, estimate: (f64, Option<f64>)) -> String {
        number(self.metric, estimate)
    }
}

/// A loss, or a difference of losses.
pub fn loss(estimate: Estimate) -> String {
    number(Metric::Loss, (estimate.value, estimate.stderr))
}

/// A share, or a difference of shares, in percent.
pub fn percent(estimate: Estimate) -> String {
    number(Metric::Top1, Metric::Top1.scaled(estimate))
}

fn number(metric: Metric, (value, stderr): (f64, Option<f64>)) -> String {
    let places = if metric == Metric::Top1 { 2 } else { 4 };
    match stderr {
        Some(stderr) => format!("{value:.places$} ± {stderr:.places$}"),
        None => format!("{value:.places$}"),
    }
}

/// What was measured on.
pub fn print_data(d: &DataFacts, metric: Metric) -> Result<()> {
    let hash = short(&d.hash);
    match metric {
        Metric::Top1 => out!("held-out: {} images, data {hash}", d.documents),
        Metric::Loss => out!(
            "held-out: {} tokens of {}{}, data {hash}",
            count(d.tokens as f64),
            counted(d.documents, "document"),
            d.context.map_or(String::new(), |n| format!(" in windows of {n}"))
        ),
    }
}

/// The results as a table; `asked` is what was typed for each of them, if anything.
pub fn print(results: &EvalResults, asked: &[String]) -> Result<()> {
    let head = columns(results.results.iter());
    print_data(&results.data, head.metric)?;
    let reference = results.results.iter().find_map(|r| r.paired.as_ref()).map(|p| p.to.as_str());
    let mut table = plain();
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
    print_sources(&results.results)?;
    footnote(&head.metric.counted(&results.data), results.results.iter().map(|r| r.stderr))
}

/// The losses on each source, where the data has several with weights.
fn print_sources(results: &[SubmodelResult]) -> Result<()> {
    let Some(sources) = results.first().map(|first| &first.sources).filter(|of| !of.is_empty())
    else {
        return Ok(());
    };
    let mut table = plain();
    let name = |of: &SourceResult| format!("source {}: {} tokens", of.source, of.tokens);
    table.set_header([String::from("loss by source")].into_iter().chain(sources.iter().map(name)));
    for r in results {
        let losses = r.sources.iter().map(|s| number(Metric::Loss, (s.loss, s.stderr)));
        table.add_row([r.submodel.clone()].into_iter().chain(losses));
    }
    out!("{table}")
}

/// What ± is: one standard error over so many documents, or clusters of documents.
pub fn footnote(over: &str, mut errors: impl Iterator<Item = Option<f64>>) -> Result<()> {
    if errors.any(|stderr| stderr.is_some()) {
        out!("± one standard error over {over}; differences are paired")
    } else {
        out!("no standard error: {over}")
    }
}

/// Sizes that were trained alone, as a table.
pub fn print_alone(alone: &[Alone]) -> Result<()> {
    if alone.is_empty() {
        return Ok(());
    }
    let head = columns(alone.iter().map(|alone| &alone.result));
    let mut table = plain();
    let above = format!("elastic {} above", head.metric.short());
    table.set_header(["alone", "budget", "params", head.columns[0], head.columns[1], &above]);
    for Alone { budget, result, elastic_above } in alone {
        let [value, second] = head.cells(result);
        table.add_row([
            result.submodel.clone(),
            budget.name().to_owned(),
            count(result.params.total as f64),
            value,
            second,
            head.difference(*elastic_above),
        ]);
    }
    out!("{table}")
}

/// How far submodels, and models that were trained alone, predict what the largest does.
pub fn print_consistency(found: &Consistency, targets: &str) -> Result<()> {
    let to = &found.to;
    out!("\nconsistency with {to} at {} held-out {targets}", count(found.targets as f64))?;
    let mut table = plain();
    let mut head = vec!["submodel".to_owned(), "equal %".to_owned()];
    head.extend([format!("KL({to} ‖ ·)"), format!("KL(· ‖ {to})")]);
    if let Some(continued) = &found.continued {
        out!(
            "and along {} that continue held-out documents by {} tokens each",
            counted(continued.texts, "text"),
            continued.tokens
        )?;
        head.extend([format!("equal % along {to}'s"), "along its own".to_owned()]);
    }
    table.set_header(head);
    for one in &found.results {
        let alone = one.alone.as_ref().map(|budget| format!(" alone ({budget})"));
        let mut row = vec![format!("{}{}", one.submodel, alone.unwrap_or_default())];
        let of = &one.held_out;
        row.extend([percent(of.equal), loss(of.kl), loss(of.reverse_kl)]);
        row.extend(one.written.map(|written| percent(written.equal)));
        row.extend(one.own.map(percent));
        table.add_row(row);
    }
    out!("{table}")
}
