//! A scaling law, fitted to losses: Loss(N, D) = a · (N·D)^b + c (arXiv 2310.07707v2 p. 8).
//!
//! For a fixed exponent the law is linear in a and c, so that robust least squares (Huber's loss, by iteratively
//! reweighted least squares) has one minimum. What is left is a function of the exponent alone, minimised from every
//! local minimum on a grid. Huber's threshold is 1.345 times the scale of the residuals, which is estimated
//! from a fit that nearly minimises absolute residuals: one loss that is far off moves neither.

use matformer_core::rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::{Error, Result, stats::median};

/// Parameters of the law.
const PARAMETERS: usize = 3;
/// Number of different products N·D that a fit needs.
pub const MIN_POINTS: usize = PARAMETERS + 1;
/// Number of points below which resampling them says nothing about how well the law is known.
pub const MIN_FOR_INTERVALS: usize = 8;
/// Exponents that are tried lie between minus these.
const EXPONENTS: [f64; 2] = [0.005, 3.0];
const GRID: usize = 49;

/// The loss of a trained size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// N: parameters without embeddings.
    pub params: f64,
    /// D: tokens that it was trained on.
    pub tokens: f64,
    /// Held-out loss in nats per token.
    pub loss: f64,
}

/// Loss(N, D) = a · (N·D)^b + c.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Law {
    /// Factor, above 0, for N in parameters and D in tokens.
    pub a: f64,
    /// Exponent, below 0.
    pub b: f64,
    /// What is left of the loss when N·D grows without end; at least 0.
    pub c: f64,
}

impl Law {
    /// The loss that it predicts.
    pub fn loss(&self, params: f64, tokens: f64) -> f64 {
        self.a * (params * tokens).powf(self.b) + self.c
    }
}

/// Where 95 % of the fits to resampled points lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Intervals {
    /// Of the factor: lower and upper end.
    pub a: [f64; 2],
    /// Of the exponent.
    pub b: [f64; 2],
    /// Of the constant.
    pub c: [f64; 2],
    /// Resamples that could be fitted.
    pub resamples: usize,
}

/// A law, and how well it fits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// The law.
    #[serde(flatten)]
    pub law: Law,
    /// Root mean square of the residuals, in nats.
    pub rmse: f64,
    /// Whether the exponent is at the end of the range that was searched: the points do not determine it.
    pub at_limit: bool,
    /// Bootstrap intervals; none with fewer than [`MIN_FOR_INTERVALS`] points.
    pub intervals: Option<Intervals>,
}

/// Fits the law to points, with intervals from `resamples` bootstrap samples of the points, which are drawn by `seed`.
///
/// # Errors
/// [`Error::ScalingPoint`] for a number that is not positive and finite, [`Error::ScalingPoints`] for fewer than
/// [`MIN_POINTS`] different N·D, [`Error::NotFalling`] if the losses do not fall as N·D grows.
pub fn fit(points: &[Point], resamples: usize, seed: u64) -> Result<Fit> {
    for point in points {
        let numbers = [("N", point.params), ("D", point.tokens), ("loss", point.loss)];
        for (what, found) in numbers {
            if !(found.is_finite() && found > 0.0) {
                return Err(Error::ScalingPoint { what, found });
            }
        }
    }
    let data = Data::new(points)?;
    let highest = points.iter().map(|p| p.loss).fold(f64::MIN, f64::max);
    let lowest = points.iter().map(|p| p.loss).fold(f64::MAX, f64::min);
    let least = 1e-9 * highest;
    let mut threshold = (1e-3 * (highest - lowest)).max(least);
    let mut best = data.best(threshold)?;
    for _ in 0..3 {
        threshold = (1.345 * data.scale(&best)).max(least);
        best = data.best(threshold)?;
    }
    let squares: f64 = data.residuals(&best).map(|r| r * r).sum();
    Ok(Fit {
        law: data.law(&best),
        rmse: (squares / points.len() as f64).sqrt(),
        at_limit: best.at_limit,
        intervals: (points.len() >= MIN_FOR_INTERVALS)
            .then(|| intervals(points, threshold, resamples, seed))
            .flatten(),
    })
}

/// Fits to points that are drawn with replacement. A draw without enough different points is left out.
fn intervals(points: &[Point], threshold: f64, resamples: usize, seed: u64) -> Option<Intervals> {
    let one = |index: u64| {
        let mut rng = rng::keyed(seed, "scaling", index);
        let drawn: Vec<Point> =
            points.iter().map(|_| points[rng::index(&mut rng, points.len())]).collect();
        let data = Data::new(&drawn).ok()?;
        data.best(threshold).ok().map(|best| data.law(&best))
    };
    let laws: Vec<Law> = (0..resamples as u64).into_par_iter().filter_map(one).collect();
    if laws.is_empty() {
        return None;
    }
    let ends = |of: fn(&Law) -> f64| {
        let mut all: Vec<f64> = laws.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        [0.025, 0.975].map(|share| all[(share * (all.len() - 1) as f64).round() as usize])
    };
    Some(Intervals {
        a: ends(|law| law.a),
        b: ends(|law| law.b),
        c: ends(|law| law.c),
        resamples: laws.len(),
    })
}

/// The best law at an exponent, with the products N·D divided by their geometric mean.
#[derive(Clone, Copy)]
struct Candidate {
    a: f64,
    b: f64,
    c: f64,
    objective: f64,
    at_limit: bool,
}

/// Logarithms of the products, without their mean, and losses.
struct Data {
    logs: Vec<f64>,
    losses: Vec<f64>,
    mean: f64,
}

impl Data {
    fn new(points: &[Point]) -> Result<Self> {
        let logs: Vec<f64> = points.iter().map(|p| (p.params * p.tokens).ln()).collect();
        let mut different = logs.clone();
        different.sort_by(f64::total_cmp);
        different.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
        if different.len() < MIN_POINTS {
            return Err(Error::ScalingPoints { found: different.len(), expected: MIN_POINTS });
        }
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        Ok(Self {
            logs: logs.iter().map(|log| log - mean).collect(),
            losses: points.iter().map(|p| p.loss).collect(),
            mean,
        })
    }

    fn law(&self, of: &Candidate) -> Law {
        Law { a: of.a * (-of.b * self.mean).exp(), b: of.b, c: of.c }
    }

    fn residuals<'a>(&'a self, of: &'a Candidate) -> impl Iterator<Item = f64> + 'a {
        let predicted = |log: &f64| of.a * (of.b * log).exp() + of.c;
        self.logs.iter().zip(&self.losses).map(move |(log, loss)| loss - predicted(log))
    }

    /// Scale of the residuals from their median. As many as the law has parameters are near zero whatever the noise
    /// is, and are not counted.
    fn scale(&self, of: &Candidate) -> f64 {
        let mut sizes: Vec<f64> = self.residuals(of).map(f64::abs).collect();
        sizes.sort_by(f64::total_cmp);
        1.4826 * median(sizes.split_off(PARAMETERS.min(sizes.len() - 1)))
    }

    /// The best law at any exponent.
    fn best(&self, threshold: f64) -> Result<Candidate> {
        let [low, high] = EXPONENTS.map(f64::ln);
        let step = (high - low) / (GRID - 1) as f64;
        let at = |log: f64| self.at(-log.exp(), threshold);
        let grid: Vec<Candidate> = (0..GRID).map(|i| at(low + step * i as f64)).collect();
        let mut best: Option<Candidate> = None;
        for i in 0..GRID {
            let (before, after) = (i.saturating_sub(1), (i + 1).min(GRID - 1));
            let here = grid[i].objective;
            if grid[before].objective < here || grid[after].objective < here {
                continue;
            }
            let between = [low + step * before as f64, low + step * after as f64];
            let mut found = golden(between, at);
            let margin = 1.001_f64;
            found.at_limit = -found.b < EXPONENTS[0] * margin || -found.b > EXPONENTS[1] / margin;
            if best.is_none_or(|best| found.objective < best.objective) {
                best = Some(found);
            }
        }
        // A NaN has no neighbour below it either, but losses and products are finite here.
        best.filter(|best| best.a > 0.0).ok_or(Error::NotFalling)
    }

    /// The best law at an exponent: a line over the powers, by iteratively reweighted least squares.
    fn at(&self, b: f64, threshold: f64) -> Candidate {
        let powers: Vec<f64> = self.logs.iter().map(|log| (b * log).exp()).collect();
        let mut weights = vec![1.0; powers.len()];
        let (mut a, mut c) = (0.0, 0.0);
        for _ in 0..100 {
            let [new_a, new_c] = line(&powers, &self.losses, &weights);
            let moved = (new_a - a).abs() + (new_c - c).abs();
            (a, c) = (new_a, new_c);
            if moved < 1e-10 * (a.abs() + c.abs()) {
                break;
            }
            for (weight, (power, loss)) in weights.iter_mut().zip(powers.iter().zip(&self.losses)) {
                let size = (loss - a * power - c).abs();
                *weight = if size > threshold { threshold / size } else { 1.0 };
            }
        }
        let residuals = powers.iter().zip(&self.losses).map(|(power, loss)| loss - a * power - c);
        let objective = residuals.map(|r| huber(r.abs(), threshold)).sum();
        Candidate { a, b, c, objective, at_limit: false }
    }
}

/// Slope and constant of the weighted least-squares line; the constant is at least 0.
fn line(xs: &[f64], ys: &[f64], weights: &[f64]) -> [f64; 2] {
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        let points = xs.iter().zip(ys).zip(weights);
        points.map(|((x, y), weight)| weight * of(*x, *y)).sum()
    };
    let all = sum(&|_, _| 1.0);
    let (x_mean, y_mean) = (sum(&|x, _| x) / all, sum(&|_, y| y) / all);
    let spread = sum(&|x, _| (x - x_mean).powi(2));
    let slope = sum(&|x, y| (x - x_mean) * (y - y_mean)) / spread;
    let constant = y_mean - slope * x_mean;
    if constant >= 0.0 { [slope, constant] } else { [sum(&|x, y| x * y) / sum(&|x, _| x * x), 0.0] }
}

/// Huber's loss of the size of a residual.
fn huber(size: f64, threshold: f64) -> f64 {
    if size <= threshold { size * size / 2.0 } else { threshold * (size - threshold / 2.0) }
}

/// The lowest candidate between two ends, by golden-section search.
fn golden([mut low, mut high]: [f64; 2], at: impl Fn(f64) -> Candidate) -> Candidate {
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    let mut left = high - ratio * (high - low);
    let mut right = low + ratio * (high - low);
    let (mut at_left, mut at_right) = (at(left), at(right));
    while high - low > 1e-8 {
        if at_left.objective <= at_right.objective {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = at(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = at(right);
        }
    }
    if at_left.objective <= at_right.objective { at_left } else { at_right }
}

#[cfg(test)]
mod tests;
