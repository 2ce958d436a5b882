//! The search problem: the allowed widths of each layer and the budgets of a submodel.

use matformer_core::{CostTable, Space, Submodel, rng};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result, optimum};

/// The most that a submodel may cost of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Costs of each layer at each width.
    pub table: CostTable,
    /// The most, in the table's unit.
    pub most: f64,
}

/// The submodels that may be chosen from: each layer at one of the trained widths, all limits met.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    n_layers: usize,
    /// Ascending.
    widths: Vec<usize>,
    limits: Vec<Limit>,
    /// One that meets all limits.
    feasible: Submodel,
}

impl Problem {
    /// Submodels of the space's granularities that meet all of `limits`, which may be none.
    ///
    /// # Errors
    /// [`Error::Infeasible`] for a limit that no submodel meets, [`Error::Together`] for limits that
    /// none meets together; [`Error::Core`] for a table of other layers or widths.
    pub fn new(space: &Space, limits: Vec<Limit>) -> Result<Self> {
        let (n_layers, widths) = (space.n_layers, space.granularities.widths());
        for Limit { table, most } in &limits {
            let bound = |pick: fn(f64, f64) -> f64| -> Result<f64> {
                let mut total = table.constant;
                for layer in 0..n_layers {
                    let costs = widths.iter().map(|width| table.at(layer, *width));
                    let costs = costs.collect::<matformer_core::Result<Vec<_>>>()?;
                    total += costs.into_iter().reduce(pick).unwrap_or_default();
                }
                Ok(total)
            };
            let largest = table.cost(&space.largest())?;
            let (least, dearest) = (bound(f64::min)?, bound(f64::max)?);
            // A limit that is no number is met by nothing.
            if most.is_nan() || least > *most {
                let cost = table.cost(&space.smallest())?;
                let (resource, limit) = (table.resource, *most);
                return Err(match cost <= least {
                    true => matformer_core::Error::BudgetTooSmall {
                        resource,
                        budget: limit,
                        submodel: space.label(&space.smallest()),
                        cost,
                        largest,
                    }
                    .into(),
                    // Measured costs need not grow with the width.
                    false => Error::Infeasible { resource, limit, least, most: dearest, largest },
                });
            }
        }
        let mut problem = Self { n_layers, widths, limits, feasible: space.smallest() };
        if !problem.fits(&problem.feasible) {
            let equal = vec![vec![0.0; problem.widths.len()]; n_layers];
            problem.feasible = optimum(&problem, &equal)?.ok_or_else(|| Error::Together {
                limits: problem.limits.iter().map(|l| (l.table.resource, l.most)).collect(),
            })?;
        }
        Ok(problem)
    }

    /// Layers of a submodel.
    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// Widths that a layer may have, ascending.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// What a submodel may cost.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// One that meets all limits.
    pub fn feasible(&self) -> &Submodel {
        &self.feasible
    }

    /// How many submodels there are, limits aside.
    pub fn size(&self) -> f64 {
        (self.widths.len() as f64).powi(self.n_layers as i32)
    }

    /// Whether a submodel meets all limits; one of other layers or widths meets none.
    pub fn fits(&self, submodel: &Submodel) -> bool {
        submodel.n_layers() == self.n_layers
            && submodel.widths().iter().all(|width| self.widths.contains(width))
            && self.limits.iter().all(|l| l.table.cost(submodel).is_ok_and(|cost| cost <= l.most))
    }

    /// All submodels that meet the limits, in their order.
    ///
    /// # Errors
    /// [`Error::TooMany`] where there are more than `most` before limits are looked at.
    pub fn all(&self, most: usize) -> Result<Vec<Submodel>> {
        if self.size() > most as f64 {
            return Err(Error::TooMany { found: self.size(), most });
        }
        let mut all = vec![Vec::new()];
        for _ in 0..self.n_layers {
            let longer = |head: Vec<usize>| {
                self.widths.iter().map(move |width| [&head[..], &[*width]].concat())
            };
            all = all.into_iter().flat_map(longer).collect();
        }
        let all = all.into_iter().map(Submodel::new);
        Ok(all.filter(|submodel| self.fits(submodel)).collect())
    }

    /// A random submodel that uses up the budget: widths are sampled uniformly, then random layers are made narrower
    /// until all limits are met, then wider as long as they are still met.
    pub fn random(&self, rng: &mut ChaCha8Rng) -> Submodel {
        self.spent(self.unlimited(rng), rng)
    }

    /// Widths drawn uniformly, limits aside.
    pub fn unlimited(&self, rng: &mut ChaCha8Rng) -> Submodel {
        let width = |_| self.widths[rng::index(rng, self.widths.len())];
        Submodel::new((0..self.n_layers).map(width).collect())
    }

    /// `submodel` with one random layer at another width, and others made narrower or wider as in
    /// [`random`](Self::random).
    pub fn mutated(&self, submodel: &Submodel, rng: &mut ChaCha8Rng) -> Submodel {
        let mut widths = submodel.widths().to_vec();
        let layer = rng::index(rng, widths.len());
        let others: Vec<usize> =
            self.widths.iter().copied().filter(|width| *width != widths[layer]).collect();
        if !others.is_empty() {
            widths[layer] = others[rng::index(rng, others.len())];
        }
        self.spent(Submodel::new(widths), rng)
    }

    /// Narrower in random layers until the limits are met, then wider as long as they are.
    pub fn spent(&self, submodel: Submodel, rng: &mut ChaCha8Rng) -> Submodel {
        let mut widths = submodel.widths().to_vec();
        while !self.fits(&Submodel::new(widths.clone())) {
            let wide: Vec<usize> =
                (0..widths.len()).filter(|layer| widths[*layer] > self.widths[0]).collect();
            if wide.is_empty() {
                // The narrowest need not be the cheapest.
                widths = self.feasible.widths().to_vec();
                break;
            }
            let layer = wide[rng::index(rng, wide.len())];
            widths[layer] = self.narrower(widths[layer]);
        }
        let mut open: Vec<usize> = (0..widths.len()).collect();
        while !open.is_empty() {
            let at = rng::index(rng, open.len());
            let layer = open[at];
            let before = widths[layer];
            match self.wider(before) {
                Some(wider) => widths[layer] = wider,
                None => {
                    open.swap_remove(at);
                    continue;
                }
            }
            if !self.fits(&Submodel::new(widths.clone())) {
                widths[layer] = before;
                open.swap_remove(at);
            }
        }
        Submodel::new(widths)
    }

    fn narrower(&self, width: usize) -> usize {
        let at = self.widths.partition_point(|w| *w < width);
        self.widths[at.saturating_sub(1)]
    }

    fn wider(&self, width: usize) -> Option<usize> {
        self.widths.get(self.widths.partition_point(|w| *w <= width)).copied()
    }
}
