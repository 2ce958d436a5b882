//! The best submodel by a separable score, exactly: a multiple-choice knapsack under several limits.
//!
//! Layer by layer, of all beginnings those are kept that no other beats in score and in every cost
//! (dominance), and whose best end could still beat the best submodel known (a Lagrangian bound: the
//! limits moved into the score, at prices found by subgradients). Sums are formed as
//! [`CostTable::cost`](matformer_core::CostTable::cost) forms them, so that a limit which is met exactly
//! is met here too.

use matformer_core::Submodel;

use crate::{Problem, Result};

/// Rounds of the search for prices.
const ROUNDS: usize = 100;

/// The submodel with the least sum of `scores[layer][width]` within the limits of `problem`; of equal
/// ones the narrowest in front. `None` if no submodel meets them.
///
/// # Errors
/// [`Error::Core`](crate::Error::Core) for a limit whose table lacks a width.
pub fn optimum(problem: &Problem, scores: &[Vec<f64>]) -> Result<Option<Submodel>> {
    let items = Items::new(problem, scores)?;
    let known = problem.fits(problem.feasible()).then(|| items.score(problem));
    let bound = Bound::new(&items, known);
    let mut heads = vec![Head { score: 0.0, costs: items.constants.clone(), choices: Vec::new() }];
    for layer in 0..items.layers.len() {
        let mut longer = Vec::new();
        for head in &heads {
            for (choice, item) in items.layers[layer].iter().enumerate() {
                let head = head.with(choice, item);
                if bound.may_win(&head, &items) {
                    longer.push(head);
                }
            }
        }
        heads = undominated(longer);
    }
    let best = heads
        .into_iter()
        .filter(|head| items.fits(&head.costs))
        .min_by(|a, b| a.score.total_cmp(&b.score).then_with(|| a.choices.cmp(&b.choices)));
    let widths = |head: Head| head.choices.into_iter().map(|at| problem.widths()[at]).collect();
    Ok(best.map(|head| Submodel::new(widths(head))))
}

/// A layer at a width.
struct Item {
    score: f64,
    /// One per limit.
    costs: Vec<f64>,
}

struct Items {
    /// `[layer][width]`
    layers: Vec<Vec<Item>>,
    constants: Vec<f64>,
    most: Vec<f64>,
    /// Per limit and layer: the least that this layer and all behind it cost.
    least: Vec<Vec<f64>>,
}

impl Items {
    fn new(problem: &Problem, scores: &[Vec<f64>]) -> Result<Self> {
        let limits = problem.limits();
        let item = |layer: usize, at: usize, width: usize| -> Result<Item> {
            let costs = limits.iter().map(|limit| limit.table.at(layer, width));
            let costs = costs.collect::<matformer_core::Result<_>>()?;
            let score = scores.get(layer).and_then(|layer| layer.get(at)).copied();
            Ok(Item { score: score.unwrap_or_default(), costs })
        };
        let layers = (0..problem.n_layers())
            .map(|layer| {
                let widths = problem.widths().iter().enumerate();
                widths.map(|(at, width)| item(layer, at, *width)).collect()
            })
            .collect::<Result<Vec<Vec<Item>>>>()?;
        let least = |limit: usize| {
            let cheapest = |items: &Vec<Item>| {
                items.iter().map(|item| item.costs[limit]).fold(f64::INFINITY, f64::min)
            };
            sums_behind(&layers.iter().map(cheapest).collect::<Vec<_>>())
        };
        Ok(Self {
            least: (0..limits.len()).map(least).collect(),
            constants: limits.iter().map(|limit| limit.table.constant).collect(),
            most: limits.iter().map(|limit| limit.most).collect(),
            layers,
        })
    }

    /// How much widths can change a cost; above 0.
    fn room(&self, limit: usize) -> f64 {
        let spread = |layer: &Vec<Item>| {
            let costs = layer.iter().map(|item| item.costs[limit]);
            costs.clone().fold(f64::NEG_INFINITY, f64::max) - costs.fold(f64::INFINITY, f64::min)
        };
        self.layers.iter().map(spread).sum::<f64>().max(f64::MIN_POSITIVE)
    }

    /// The score of the submodel that is known to be within the limits.
    fn score(&self, problem: &Problem) -> f64 {
        let widths = problem.feasible().widths().iter().zip(&self.layers);
        let of = |(width, layer): (&usize, &Vec<Item>)| {
            let at = problem.widths().iter().position(|w| w == width);
            at.and_then(|at| layer.get(at)).map_or(f64::INFINITY, |item| item.score)
        };
        widths.map(of).sum()
    }

    fn fits(&self, costs: &[f64]) -> bool {
        costs.iter().zip(&self.most).all(|(cost, most)| cost <= most)
    }
}

/// Of each place, the sum from there to the end, with a 0 behind the last.
fn sums_behind(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len() + 1];
    for at in (0..values.len()).rev() {
        sums[at] = sums[at + 1] + values[at];
    }
    sums
}

/// Widths of the first layers.
#[derive(Clone)]
struct Head {
    score: f64,
    costs: Vec<f64>,
    choices: Vec<usize>,
}

impl Head {
    fn with(&self, choice: usize, item: &Item) -> Self {
        let mut choices = self.choices.clone();
        choices.push(choice);
        let costs = self.costs.iter().zip(&item.costs).map(|(a, b)| a + b).collect();
        Self { score: self.score + item.score, costs, choices }
    }
}

/// What the best end of a head could reach.
struct Bound {
    /// Price of each limit's unit in the score.
    prices: Vec<f64>,
    /// Per layer: the least priced score of this layer and all behind it.
    rest: Vec<f64>,
    /// The best score known to be within the limits.
    known: f64,
    /// Tolerance for rounding differences between sums computed in different orders.
    slack: f64,
}

impl Bound {
    /// Subgradients raise the price of what the cheapest priced submodel spends too much of, and lower
    /// that of what it leaves.
    fn new(items: &Items, known: Option<f64>) -> Self {
        let spread: f64 = items
            .layers
            .iter()
            .map(|layer| {
                let scores = layer.iter().map(|item| item.score);
                scores.clone().fold(f64::NEG_INFINITY, f64::max)
                    - scores.fold(f64::INFINITY, f64::min)
            })
            .sum();
        let mut found = Self {
            prices: vec![0.0; items.most.len()],
            rest: Vec::new(),
            known: known.unwrap_or(f64::INFINITY),
            slack: 1e-9 * (1.0 + spread),
        };
        let units: Vec<f64> = (0..items.most.len()).map(|limit| items.room(limit)).collect();
        let mut prices = found.prices.clone();
        let mut highest = f64::NEG_INFINITY;
        for round in 0..ROUNDS {
            let chosen: Vec<usize> =
                items.layers.iter().map(|layer| cheapest(layer, &prices)).collect();
            let mut head = Head { score: 0.0, costs: items.constants.clone(), choices: Vec::new() };
            for (layer, choice) in items.layers.iter().zip(&chosen) {
                head = head.with(*choice, &layer[*choice]);
            }
            if items.fits(&head.costs) {
                found.known = found.known.min(head.score);
            }
            let over: Vec<f64> = head.costs.iter().zip(&items.most).map(|(c, m)| c - m).collect();
            let bound = head.score + dot(&prices, &over);
            if bound > highest {
                highest = bound;
                found.prices.clone_from(&prices);
            }
            // A step of about the whole spread of scores over what widths can change, ever smaller.
            for ((price, over), unit) in prices.iter_mut().zip(&over).zip(&units) {
                let step = 10.0 * spread / (1.0 + round as f64) / unit;
                *price = (*price + step * (over / unit)).max(0.0);
            }
        }
        let priced = |layer: &Vec<Item>| {
            let at = cheapest(layer, &found.prices);
            layer[at].score + dot(&found.prices, &layer[at].costs)
        };
        found.rest = sums_behind(&items.layers.iter().map(priced).collect::<Vec<_>>());
        found
    }

    /// Whether an end could bring a head within the limits and below the best score known.
    fn may_win(&self, head: &Head, items: &Items) -> bool {
        let at = head.choices.len();
        let affordable = head
            .costs
            .iter()
            .zip(&items.least)
            .zip(&items.most)
            .all(|((cost, least), most)| cost + least[at] <= most + 1e-9 * most.abs());
        let over: Vec<f64> = head.costs.iter().zip(&items.most).map(|(c, m)| c - m).collect();
        let best = head.score + dot(&self.prices, &over) + self.rest[at];
        affordable && best <= self.known + self.slack
    }
}

/// The choice of the least priced score.
fn cheapest(layer: &[Item], prices: &[f64]) -> usize {
    let priced = |item: &Item| item.score + dot(prices, &item.costs);
    let all = 0..layer.len();
    all.min_by(|a, b| priced(&layer[*a]).total_cmp(&priced(&layer[*b]))).unwrap_or_default()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Heads that no other beats in score and in every cost; of equal ones the first.
fn undominated(mut heads: Vec<Head>) -> Vec<Head> {
    heads.sort_by(|a, b| {
        let costs = a.costs.iter().zip(&b.costs).map(|(a, b)| a.total_cmp(b));
        a.score
            .total_cmp(&b.score)
            .then_with(|| costs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then))
            .then_with(|| a.choices.cmp(&b.choices))
    });
    let mut kept: Vec<Head> = Vec::new();
    for head in heads {
        // Whatever is kept has a score as good.
        let beaten =
            kept.iter().any(|other| other.costs.iter().zip(&head.costs).all(|(o, c)| o <= c));
        if !beaten {
            kept.push(head);
        }
    }
    kept
}
