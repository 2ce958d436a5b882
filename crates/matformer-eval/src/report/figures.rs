//! The figures of the report, as marks.

use std::collections::BTreeMap;

use super::plots::{Frame, Ink, Mark, Point, draw, range};
use super::{AlonePoint, HeldOutPoint, TrainPoint, metric::Metric};
use crate::{Result, SubmodelResult, retrieval::SearchResult};

/// Points of a training curve at most; each is the mean of what lies between two of them.
const BINS: u64 = 50;

/// What was trained alone is drawn in.
const ALONE: Ink = Ink::Text;

/// Held-out loss, or accuracy, against non-embedding parameters: granularities as large points, joined and
/// labelled; other submodels as small ones; what was trained alone in the color of the text; bars of
/// two standard errors to each side.
///
/// `results` ascend in parameters.
pub(super) fn accuracy_cost(
    results: &[&SubmodelResult],
    granularities: &[String],
    alone: &[AlonePoint],
) -> Result<String> {
    let mut marks = Vec::new();
    let style = Style { line: Ink::Muted, granularity: &Ink::Series, aside: 0.0 };
    let metric = Metric::of_all(results.iter().copied());
    curve(&mut marks, results, granularities, metric, &style);
    let alone_results: Vec<&SubmodelResult> = alone.iter().map(|alone| &alone.result).collect();
    for r in finite(&alone_results, metric) {
        let (value, errors) = measured(r, metric);
        let at = (r.params.non_embedding as f64, value);
        marks.push(Mark::ErrorBar(ALONE, at, errors));
        marks.push(Mark::Dot(ALONE, at, 9));
    }
    draw(&cost_frame(&[results, &alone_results], metric), &marks)
}

/// The same for several runs, each (results, granularities) in a color of its own, beside the others
/// where sizes are equal.
pub(super) fn overlaid(runs: &[(&[&SubmodelResult], &[String])]) -> Result<String> {
    let results: Vec<_> = runs.iter().map(|(results, _)| *results).collect();
    let metric = Metric::of_all(results.iter().flat_map(|results| results.iter().copied()));
    let frame = cost_frame(&results, metric);
    let (width, middle) = (frame.x.end - frame.x.start, (runs.len() - 1) as f64 / 2.0);
    let mut marks = Vec::new();
    for (i, (results, granularities)) in runs.iter().enumerate() {
        let ink = Ink::Series(i);
        let aside = ASIDE * width * (i as f64 - middle);
        curve(
            &mut marks,
            results,
            granularities,
            metric,
            &Style { line: ink, granularity: &|_| ink, aside },
        );
    }
    one_label_a_place(&mut marks, 0.02 * width);
    draw(&frame, &marks)
}

/// How far apart runs stand at one size, as a part of the figure's width.
const ASIDE: f64 = 0.006;

/// Keeps the highest of the equal labels that stand above each other.
fn one_label_a_place(marks: &mut Vec<Mark>, near: f64) {
    let labels: Vec<(Point, String)> = marks
        .iter()
        .filter_map(|mark| match mark {
            Mark::Label(at, text) => Some((*at, text.clone())),
            _ => None,
        })
        .collect();
    marks.retain(|mark| match mark {
        Mark::Label((x, y), text) => !labels.iter().any(|((other_x, other_y), other)| {
            text == other && (x - other_x).abs() < near && other_y > y
        }),
        _ => true,
    });
}

/// Value and two standard errors.
fn measured(r: &SubmodelResult, metric: Metric) -> (f64, f64) {
    let (value, stderr) = metric.point(r);
    (value, 2.0 * stderr.unwrap_or(0.0))
}

/// What can be drawn.
fn finite<'a>(results: &[&'a SubmodelResult], metric: Metric) -> Vec<&'a SubmodelResult> {
    let drawn = |r: &&SubmodelResult| {
        let (value, errors) = measured(r, metric);
        value.is_finite() && errors.is_finite()
    };
    results.iter().copied().filter(drawn).collect()
}

fn cost_frame(runs: &[&[&SubmodelResult]], metric: Metric) -> Frame {
    let drawn: Vec<_> = runs.iter().flat_map(|results| finite(results, metric)).collect();
    let ends = drawn.iter().flat_map(|r| {
        let (value, errors) = measured(r, metric);
        [value - errors, value + errors]
    });
    Frame {
        name: "accuracy against parameters",
        x: range(drawn.iter().map(|r| r.params.non_embedding as f64), 0.08),
        y: range(ends, 0.12), // the labels' room
        x_title: "non-embedding parameters",
        y_title: metric.axis(),
    }
}

/// How an accuracy-cost curve is drawn.
struct Style<'a> {
    /// Its line and small points.
    line: Ink,
    /// Granularities, by their place.
    granularity: &'a dyn Fn(usize) -> Ink,
    /// How far from its size a point stands.
    aside: f64,
}

/// One accuracy-cost curve.
fn curve(
    marks: &mut Vec<Mark>,
    results: &[&SubmodelResult],
    granularities: &[String],
    metric: Metric,
    style: &Style<'_>,
) {
    let Style { line: ink, granularity, aside } = *style;
    let of = |r: &SubmodelResult| measured(r, metric);
    let at = |r: &SubmodelResult| (r.params.non_embedding as f64 + aside, of(r).0);
    let place = |r: &SubmodelResult| granularities.iter().position(|name| *name == r.submodel);
    let drawn = finite(results, metric);
    let joined = drawn.iter().filter(|r| place(r).is_some()).map(|r| at(r));
    marks.push(Mark::Line(ink, joined.collect()));
    let (large, small): (Vec<_>, Vec<_>) = drawn.into_iter().partition(|r| place(r).is_some());
    for r in small {
        marks.push(Mark::ErrorBar(ink, at(r), of(r).1));
        marks.push(Mark::Dot(ink, at(r), 8));
    }
    for r in large {
        let ink = place(r).map_or(ink, granularity);
        marks.push(Mark::ErrorBar(ink, at(r), of(r).1));
        marks.push(Mark::Dot(ink, at(r), 14));
        marks.push(Mark::Label((at(r).0, at(r).1 + of(r).1), r.submodel.clone()));
    }
}

/// 1-NN accuracy against parameters of what embeds the queries (the paper's Figure 5): into one gallery,
/// granularities as large points, joined and labelled; each into a gallery of its own as small points of
/// another color; what was trained alone in the color of the text.
pub(super) fn search(results: &[SearchResult], granularities: &[String]) -> Result<String> {
    let percent = |r: &SearchResult| {
        let (value, errors) = Metric::Top1.scaled(r.found.nearest);
        (r.query_params as f64, value, 2.0 * errors.unwrap_or(0.0))
    };
    // Without parameters it is no encoder.
    let drawn: Vec<&SearchResult> = results.iter().filter(|r| r.query_params > 0).collect();
    let place = |r: &SearchResult| granularities.iter().position(|name| *name == r.query);
    let own = |r: &SearchResult| r.is_symmetric() && r.above.is_some();
    let mut joined: Vec<Point> = drawn
        .iter()
        .filter(|r| r.alone.is_none() && !own(r) && place(r).is_some())
        .map(|r| (percent(r).0, percent(r).1))
        .collect();
    joined.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut marks = vec![Mark::Line(Ink::Muted, joined)];
    for r in &drawn {
        let (x, y, errors) = percent(r);
        let (ink, radius, label) = match (r.alone.is_some(), own(r), place(r)) {
            (true, ..) => (ALONE, 9, false),
            (_, true, _) => (Ink::Series(granularities.len()), 9, false),
            (_, _, Some(place)) => (Ink::Series(place), 14, true),
            _ => (Ink::Muted, 8, false),
        };
        marks.push(Mark::ErrorBar(ink, (x, y), errors));
        marks.push(Mark::Dot(ink, (x, y), radius));
        if label {
            marks.push(Mark::Label((x, y + errors), r.query.clone()));
        }
    }
    let ends = drawn.iter().flat_map(|r| {
        let (_, y, errors) = percent(r);
        [y - errors, y + errors]
    });
    let frame = Frame {
        name: "retrieval against parameters",
        x: range(drawn.iter().map(|r| r.query_params as f64), 0.08),
        y: range(ends, 0.12), // the labels' room
        x_title: "parameters of what embeds the queries",
        y_title: "1-NN accuracy, %",
    };
    draw(&frame, &marks)
}

/// The figure of a run's training.
pub(super) struct Training {
    /// The plot.
    pub svg: String,
    /// Number of steps averaged into one point of a curve.
    pub bin: u64,
    /// Whether some of the drawn submodels were no granularities.
    pub mixed: bool,
}

/// Training loss of each granularity as a line, its held-out losses as points. What is not a
/// granularity makes one line together. `None` where there is nothing to draw.
pub(super) fn training(
    train: &[TrainPoint],
    held_out: &[HeldOutPoint],
    granularities: &[String],
    metric: Metric,
) -> Result<Option<Training>> {
    let steps = train.iter().map(|p| p.step);
    let last = steps.chain(held_out.iter().map(|p| p.step)).max();
    let Some(last) = last else {
        return Ok(None);
    };
    let bin = last.div_ceil(BINS).max(1);
    let place = |label: &str| granularities.iter().position(|name| name == label);
    let of = |series: Option<usize>| move |p: &&TrainPoint| place(&p.label) == series;
    let mut marks = Vec::new();
    let places = (0..granularities.len()).map(Some);
    for series in std::iter::once(None).chain(places) {
        let curve = means(train.iter().filter(of(series)), bin);
        marks.push(Mark::Line(series.map_or(Ink::Muted, Ink::Series), curve));
    }
    for p in held_out.iter().filter(|p| p.loss.is_finite()) {
        let ink = place(&p.name).map_or(Ink::Muted, Ink::Series);
        marks.push(Mark::Dot(ink, (p.step as f64, p.loss), 9));
    }
    Ok(Some(Training {
        svg: draw_training(marks, last, "training steps", metric.loss_axis())?,
        bin,
        mixed: train.iter().any(|p| place(&p.label).is_none()),
    }))
}

/// Held-out losses of several runs, each in a color of its own, a line per granularity, at tokens
/// trained on. `None` where there is nothing to draw.
pub(super) fn training_overlaid(
    runs: &[&[HeldOutPoint]],
    metric: Metric,
) -> Result<Option<String>> {
    let last = runs.iter().flat_map(|points| points.iter().map(|p| p.step)).max();
    let Some(last) = last else {
        return Ok(None);
    };
    let mut marks = Vec::new();
    for (i, points) in runs.iter().enumerate() {
        let mut lines: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for p in points.iter().filter(|p| p.loss.is_finite()) {
            lines.entry(&p.name).or_default().push((p.step as f64, p.loss));
        }
        let ink = Ink::Series(i);
        for line in lines.into_values() {
            marks.extend(line.iter().map(|at| Mark::Dot(ink, *at, 5)));
            marks.push(Mark::Line(ink, line));
        }
    }
    let x_title = match metric {
        Metric::Loss => "training tokens",
        Metric::Top1 => "training images",
    };
    Ok(Some(draw_training(marks, last, x_title, metric.loss_axis())?))
}

/// Plots the loss curves of a training run up to step `last`, omitting the initial drop.
fn draw_training(
    mut marks: Vec<Mark>,
    last: u64,
    x_title: &'static str,
    y_title: &'static str,
) -> Result<String> {
    let (x, y) = (0.0..1.02 * last.max(1) as f64, heights(&marks, last));
    let frame = Frame { name: "loss during training", x, y, x_title, y_title };
    marks.retain_mut(|mark| keep_below(mark, frame.y.end));
    draw(&frame, &marks)
}

/// Means of steps and losses over stretches of `bin` steps.
fn means<'a>(points: impl Iterator<Item = &'a TrainPoint>, bin: u64) -> Vec<Point> {
    let mut bins: BTreeMap<u64, (f64, f64, f64)> = BTreeMap::new();
    for p in points.filter(|p| p.loss.is_finite()) {
        let (n, step, loss) = bins.entry(p.step.saturating_sub(1) / bin).or_default();
        *n += 1.0;
        *step += p.step as f64;
        *loss += p.loss;
    }
    bins.into_values().map(|(n, step, loss)| (step / n, loss / n)).collect()
}

/// The losses that the figure shows: what came after the first tenth of the steps, because the
/// fall from the first loss would leave no room for the differences that matter.
fn heights(marks: &[Mark], last: u64) -> std::ops::Range<f64> {
    let points = || marks.iter().flat_map(points);
    let late = |&(step, _): &Point| step >= 0.1 * last as f64;
    range(points().filter(late).map(|(_, loss)| loss), 0.05)
}

fn points(mark: &Mark) -> Vec<Point> {
    match mark {
        Mark::Line(_, points) => points.clone(),
        Mark::Dot(_, at, _) | Mark::ErrorBar(_, at, _) | Mark::Label(at, _) => vec![*at],
    }
}

/// Leaves out points above the frame, and marks without points.
fn keep_below(mark: &mut Mark, top: f64) -> bool {
    if let Mark::Line(_, points) = mark {
        points.retain(|(_, loss)| *loss <= top);
    }
    points(mark).iter().any(|(_, loss)| *loss <= top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(step: u64, label: &str, loss: f64) -> TrainPoint {
        TrainPoint { step, label: label.into(), loss }
    }

    #[test]
    fn curves_are_means_of_stretches() {
        let points = [(1, 6.0), (2, 4.0), (3, f64::NAN), (5, 2.0)];
        let points = points.map(|(step, loss)| train(step, "S", loss));
        assert_eq!(means(points.iter(), 3), [(1.5, 5.0), (5.0, 2.0)]);
        assert_eq!(means(points.iter(), 1).len(), 3);
    }

    #[test]
    fn the_first_fall_is_cut_off() {
        let names = ["S".to_owned(), "XL".to_owned()];
        let label = |step| if step % 2 == 0 { "S" } else { "XL" };
        let loss = |step: u64| if step < 50 { 1000.0 } else { 2.0 };
        let points: Vec<_> = (1..=1000).map(|step| train(step, label(step), loss(step))).collect();
        let found = training(&points, &[], &names, Metric::Loss).unwrap().unwrap();
        assert_eq!((found.bin, found.mixed), (20, false));
        assert!(!found.svg.contains("1000.0"));
        assert_eq!(found.svg.matches("stroke=\"#1010").count(), 2);
    }

    #[test]
    fn what_is_no_granularity_makes_one_line() {
        let points = [train(1, "8x1+16x1", 3.0), train(2, "16x1+8x1", 2.0)];
        let found = training(&points, &[], &["S".into()], Metric::Loss).unwrap().unwrap();
        assert!(found.mixed);
        assert!(!found.svg.contains("#1010"));
        assert!(training(&[], &[], &[], Metric::Loss).unwrap().is_none());
    }

    #[test]
    fn odd_numbers_are_no_obstacle() {
        let losses = [f64::NAN, f64::INFINITY, f64::MAX, -1.0];
        let points: Vec<_> = losses.map(|loss| train(u64::MAX, "S", loss)).to_vec();
        assert!(training(&points, &[], &["S".into()], Metric::Loss).is_ok());
        assert!(training(&[train(0, "S", 1.0)], &[], &["S".into()], Metric::Loss).is_ok());
        assert!(accuracy_cost(&[], &[], &[]).is_ok() && search(&[], &[]).is_ok());
    }
}
