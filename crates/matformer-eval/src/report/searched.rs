//! What searches found: losses against cost, and how far each method is above the best.

use std::collections::BTreeMap;

use matformer_core::Budget;

use super::{
    format,
    metric::Metric,
    plots::{COLORS, Frame, Ink, Mark, Point, draw, range},
};
use crate::{Found, Result};

/// Methods that only compare Mix'n'Match with other families: they are in the table.
const OTHER_FAMILIES: [&str; 4] = ["decreasing", "up-down", "down-up", "extremes"];

/// Radii of the points of one place, the first method's outermost.
const RADII: [u32; 2] = [18, 4];

/// A figure, a legend and a table.
pub(super) struct Searches {
    pub svg: String,
    /// Methods and their colors.
    pub legend: Vec<(usize, String)>,
    pub rows: Vec<[String; 8]>,
}

/// What was found with the same weights; `None` where nothing was.
pub(super) fn searches(found: &[Found], metric: Metric) -> Result<Option<Searches>> {
    if found.is_empty() {
        return Ok(None);
    }
    let mut found: Vec<&Found> = found.iter().collect();
    // Budgets by the largest within them.
    let mut largest: BTreeMap<&[String], u64> = BTreeMap::new();
    for f in &found {
        let size = largest.entry(&f.budgets).or_default();
        *size = (*size).max(f.non_embedding);
    }
    found.sort_by(|a, b| {
        let size = |f: &Found| largest.get(f.budgets.as_slice()).copied();
        let sizes = size(a).cmp(&size(b)).then_with(|| a.budgets.cmp(&b.budgets));
        sizes.then(a.regret.total_cmp(&b.regret))
    });
    // Of searches within the same budgets by parts of the data, those by the largest are drawn.
    let part = |f: &Found| [f.tokens, f.judge_tokens].map(|n| n.unwrap_or(usize::MAX));
    let mut parts: BTreeMap<&[String], [usize; 2]> = BTreeMap::new();
    for f in &found {
        let most = parts.entry(&f.budgets).or_default();
        *most = part(f).max(*most);
    }
    let drawn: Vec<&Found> = found
        .iter()
        .copied()
        .filter(|f| parts.get(f.budgets.as_slice()) == Some(&part(f)))
        .filter(|f| !OTHER_FAMILIES.contains(&f.outcome.method.as_str()))
        .collect();
    let mut methods: Vec<String> = drawn.iter().map(|f| f.outcome.method.clone()).collect();
    methods.sort();
    methods.dedup();
    let color = |i: usize| i % usize::from(COLORS);
    Ok(Some(Searches {
        svg: figure(&drawn, &methods)?,
        legend: methods.iter().enumerate().map(|(i, name)| (color(i), name.clone())).collect(),
        rows: found.iter().map(|f| row(f, metric)).collect(),
    }))
}

/// The budgets of a search, and how much of the data was used if only part of it: `60% and 8ms (50,000 tokens chose,
/// all judged)`.
fn budgets(f: &Found, metric: Metric) -> String {
    let budgets = f.budgets.join(" and ");
    let said = |tokens: Option<usize>| {
        let part = |n| format!("{} {}", format::thousands(n as u64), metric.targets());
        tokens.map_or("all".to_owned(), part)
    };
    match (f.tokens, f.judge_tokens) {
        (None, None) => budgets,
        (chose, judged) => format!("{budgets} ({} chose, {} judged)", said(chose), said(judged)),
    }
}

/// Losses on the half that judges, a color per method, rings where several found the same; the line is
/// the Pareto front.
fn figure(found: &[&Found], methods: &[String]) -> Result<String> {
    let at = |f: &Found| (f.non_embedding as f64, f.b.value);
    let mut marks = vec![Mark::Line(Ink::Muted, front(found.iter().map(|f| at(f)).collect()))];
    let n = methods.len().max(2) as u32 - 1;
    for (i, method) in methods.iter().enumerate() {
        let radius = RADII[0] - (RADII[0] - RADII[1]) * i as u32 / n;
        let own = found.iter().filter(|f| f.outcome.method == *method);
        marks.extend(own.map(|f| Mark::Dot(Ink::Series(i), at(f), radius)));
    }
    let frame = Frame {
        name: "loss against parameters of what searches found",
        x: range(found.iter().map(|f| f.non_embedding as f64), 0.08),
        y: range(found.iter().map(|f| f.b.value), 0.1),
        x_title: "non-embedding parameters",
        y_title: "held-out loss",
    };
    draw(&frame, &marks)
}

/// Of points (cost, loss), those that no cheaper one beats, from the cheapest on.
fn front(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut front: Vec<Point> = Vec::new();
    for point in points {
        if front.last().is_none_or(|last| point.1 < last.1) {
            front.push(point);
        }
    }
    front
}

fn row(f: &Found, metric: Metric) -> [String; 8] {
    let cost = |(budget, cost): (&String, &f64)| match budget.parse::<Budget>() {
        Ok(budget) => budget.resource().describe(*cost),
        Err(_) => cost.to_string(),
    };
    [
        budgets(f, metric),
        f.outcome.method.clone(),
        f.winner.clone(),
        f.budgets.iter().zip(&f.costs).map(cost).collect::<Vec<_>>().join(", "),
        format::thousands(f.non_embedding),
        format::with_error(f.b.value, f.b.stderr),
        format::difference(f.regret, f.stderr),
        f.outcome.tried.len().to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use matformer_core::Submodel;

    use super::*;
    use crate::{Estimate, Outcome};

    #[test]
    fn rows_say_what_was_spent_of_each_budget() {
        let budgets = vec!["8ms".to_owned(), "60%".to_owned()];
        let outcome = Outcome {
            method: "exact".into(),
            seed: 0,
            tried: Vec::new(),
            widths: Submodel::new(vec![8, 16]),
            a: 2.0,
            measured: 0,
            seconds: 0.0,
        };
        let found = Found {
            outcome,
            budgets,
            weights: "w".into(),
            data: "d".into(),
            context: None,
            tokens: Some(50_000),
            judge_tokens: None,
            winner: "8x1+16x1".into(),
            costs: vec![7.5, 1.2e6],
            non_embedding: 1_200_000,
            b: Estimate { value: 2.5, stderr: None },
            regret: 0.0,
            stderr: None,
        };
        let Searches { rows, .. } = searches(&[found], Metric::Loss).unwrap().unwrap();
        assert_eq!(rows[0][0], "8ms and 60% (50,000 tokens chose, all judged)");
        assert_eq!(rows[0][3], "7.50 ms, 1.20M non-embedding parameters");
    }

    #[test]
    fn the_front_has_what_nothing_cheaper_beats() {
        let points = vec![(3.0, 1.0), (1.0, 2.0), (2.0, 2.5), (2.0, 1.5), (4.0, 1.0)];
        assert_eq!(front(points), [(1.0, 2.0), (2.0, 1.5), (3.0, 1.0)]);
    }
}
