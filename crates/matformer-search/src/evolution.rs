//! Ageing evolution (Real et al., arXiv 1802.01548): tournaments choose parents, and the oldest die.

use std::collections::VecDeque;

use matformer_core::{Submodel, rng};
use serde::{Deserialize, Serialize};

use crate::{Error, Listed, Problem, Result, Searcher, Tried, searcher::Ledger};

/// Settings of [`Evolution`]. The paper's are population 100 and tournaments of 25.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvolutionConfig {
    /// Submodels that are scored in all, those that the search starts from included.
    pub evaluations: usize,
    /// Submodels that live at a time.
    pub population: usize,
    /// How many of them compete to be a parent.
    pub tournament: usize,
    /// Children that are asked for at a time: they share a sweep, as workers of a cluster would.
    pub children: usize,
    /// Of everything that is drawn.
    pub seed: u64,
}

impl Default for EvolutionConfig {
    fn default() -> Self {
        Self { evaluations: 300, population: 50, tournament: 12, children: 16, seed: 0 }
    }
}

/// Ageing evolution: the best of a random sample of the population is the parent of the next child. One layer
/// gets another width, and others are narrowed or widened until the budget is used up. The oldest member is
/// removed. No crossover.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evolution {
    config: EvolutionConfig,
    ledger: Ledger,
    /// The oldest first.
    population: VecDeque<(Submodel, f64)>,
    /// Children drawn so far.
    drawn: u64,
}

impl Evolution {
    /// A search that has not begun.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that is 0.
    pub fn new(config: EvolutionConfig) -> Result<Self> {
        for (setting, found) in [
            ("evaluations", config.evaluations),
            ("population", config.population),
            ("tournament", config.tournament),
            ("children", config.children),
        ] {
            if found == 0 {
                return Err(Error::Setting { setting, found, expected: "at least 1" });
            }
        }
        Ok(Self { config, ledger: Ledger::default(), population: VecDeque::new(), drawn: 0 })
    }

    /// The winner of a tournament, changed.
    fn child(&mut self, problem: &Problem) -> Submodel {
        let mut random = rng::keyed(self.config.seed, "child", self.drawn);
        self.drawn += 1;
        let n = self.population.len();
        let contenders =
            (0..self.config.tournament).map(|_| &self.population[rng::index(&mut random, n)]);
        match contenders.min_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((parent, _)) => problem.mutated(&parent.clone(), &mut random),
            // A population is never empty here.
            None => problem.random(&mut random),
        }
    }

    fn born(&mut self, submodel: Submodel, score: f64) {
        self.population.push_back((submodel, score));
        if self.population.len() > self.config.population {
            self.population.pop_front();
        }
    }
}

impl Searcher for Evolution {
    fn ask(&mut self, problem: &Problem) -> Result<Vec<Submodel>> {
        let left = self.config.evaluations.saturating_sub(self.ledger.tried.len());
        if !self.ledger.asked.is_empty() || left == 0 {
            return Ok(self.ledger.asked.clone());
        }
        if self.population.is_empty() {
            let first = self.config.population.min(left);
            self.ledger.asked = Listed::random(problem, first, self.config.seed).ask(problem)?;
            return Ok(self.ledger.asked.clone());
        }
        // Where almost all near the population was tried, the search is over.
        for _ in 0..50 * self.config.children {
            let child = self.child(problem);
            match self.ledger.tried.score(&child) {
                // Known already: it lives without being scored again.
                Some(score) => self.born(child, score),
                None if !self.ledger.asked.contains(&child) => self.ledger.asked.push(child),
                None => {}
            }
            if self.ledger.asked.len() == self.config.children.min(left) {
                break;
            }
        }
        Ok(self.ledger.asked.clone())
    }

    fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        self.ledger.tell(scores)?;
        for (submodel, score) in scores {
            self.born(submodel.clone(), *score);
        }
        Ok(())
    }

    fn tried(&self) -> &Tried {
        &self.ledger.tried
    }
}
