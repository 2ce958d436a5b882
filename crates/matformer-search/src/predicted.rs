//! Evolution against a predictor, as Once-for-All searched and the paper after it.

use matformer_core::{Submodel, rng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Problem, Result, Searcher, Surrogate, Tried, listed::distinct, searcher::Ledger,
};

/// Settings of [`Predicted`]. Once-for-All's are population 100, 500 generations, a quarter of which
/// are parents, and mutation 0.1 per layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedConfig {
    /// Submodels that are scored for the predictor: drawn uniformly, limits aside, so that they serve all
    /// budgets.
    pub samples: usize,
    /// The best predicted ones, which are scored too.
    pub confirmed: usize,
    /// Submodels of a generation.
    pub population: usize,
    /// Generations.
    pub generations: usize,
    /// Share of a generation that is kept, and has children.
    pub parents: f64,
    /// Probability that a layer of a mutant has another width.
    pub mutation: f64,
    /// Of everything that is drawn.
    pub seed: u64,
}

impl Default for PredictedConfig {
    fn default() -> Self {
        Self {
            samples: 100,
            confirmed: 8,
            population: 100,
            generations: 100,
            parents: 0.25,
            mutation: 0.1,
            seed: 0,
        }
    }
}

/// Scores a random sample, fits a [`Surrogate`] to it, searches that by an evolution that keeps its best
/// (half mutants, half uniform crossover), and scores the best that were predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    config: PredictedConfig,
    ledger: Ledger,
    stage: Stage,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// What is learnt from.
    Samples,
    /// What came out.
    Found,
}

impl Predicted {
    /// A search that has not begun.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that is too small.
    pub fn new(config: PredictedConfig) -> Result<Self> {
        for (setting, found, least) in [
            ("samples", config.samples, 2),
            ("confirmed", config.confirmed, 1),
            ("population", config.population, 2),
            ("generations", config.generations, 1),
        ] {
            if found < least {
                let expected = if least == 1 { "at least 1" } else { "at least 2" };
                return Err(Error::Setting { setting, found, expected });
            }
        }
        Ok(Self { config, ledger: Ledger::default(), stage: Stage::Samples })
    }

    /// The best that the predictor knows, best first, none of them tried before.
    fn evolved(&self, problem: &Problem, surrogate: &Surrogate) -> Vec<Submodel> {
        let config = &self.config;
        let mut random = rng::keyed(config.seed, "predicted", 0);
        let mut all: Vec<Submodel> =
            (0..config.population).map(|_| problem.random(&mut random)).collect();
        let rank = |all: &mut Vec<Submodel>| {
            all.sort_by(|a, b| {
                surrogate.predict(a).total_cmp(&surrogate.predict(b)).then_with(|| a.cmp(b))
            });
            all.dedup();
        };
        let parents = config.parents.clamp(0.0, 1.0) * config.population as f64;
        let parents = (parents as usize).max(1);
        for _ in 0..config.generations {
            rank(&mut all);
            all.truncate(parents);
            let kept = all.len();
            for child in 0..config.population - kept.min(config.population) {
                let mut one = || &all[rng::index(&mut random, kept)];
                let (a, b) = (one().clone(), one().clone());
                let child = match child % 2 {
                    0 => self.mutant(&a, problem, &mut random),
                    _ => crossed(&a, &b, &mut random),
                };
                all.push(problem.spent(child, &mut random));
            }
        }
        rank(&mut all);
        let new = all.into_iter().filter(|submodel| self.ledger.tried.score(submodel).is_none());
        new.take(config.confirmed).collect()
    }

    fn mutant(&self, parent: &Submodel, problem: &Problem, random: &mut ChaCha8Rng) -> Submodel {
        let drawn = problem.unlimited(random);
        let layers = parent.widths().iter().zip(drawn.widths());
        let width = |(own, other): (&usize, &usize)| match rng::unit(random) < self.config.mutation
        {
            true => *other,
            false => *own,
        };
        Submodel::new(layers.map(width).collect())
    }
}

/// Each layer from one of two parents.
fn crossed(a: &Submodel, b: &Submodel, random: &mut ChaCha8Rng) -> Submodel {
    let layers = a.widths().iter().zip(b.widths());
    let width = |(a, b): (&usize, &usize)| if rng::index(random, 2) == 0 { *a } else { *b };
    Submodel::new(layers.map(width).collect())
}

/// Distinct submodels drawn uniformly, limits aside; fewer where there are not as many.
pub(crate) fn samples(problem: &Problem, n: usize, seed: u64) -> Vec<Submodel> {
    distinct(problem, n, |index| problem.unlimited(&mut rng::keyed(seed, "sample", index)))
}

impl Searcher for Predicted {
    fn ask(&mut self, problem: &Problem) -> Result<Vec<Submodel>> {
        if self.ledger.asked.is_empty() && self.stage == Stage::Samples {
            if self.ledger.tried.is_empty() {
                self.ledger.asked = samples(problem, self.config.samples, self.config.seed);
            } else {
                let surrogate = Surrogate::fit(problem, self.ledger.tried.as_slice(), RIDGE)?;
                self.ledger.asked = self.evolved(problem, &surrogate);
                self.stage = Stage::Found;
            }
        }
        Ok(self.ledger.asked.clone())
    }

    fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        self.ledger.tell(scores)
    }

    fn tried(&self) -> &Tried {
        &self.ledger.tried
    }
}

/// How much the fitted numbers are bound, in samples.
pub(crate) const RIDGE: f64 = 0.1;
