//! A separable score, measured or fitted, and its best submodel.

use matformer_core::Submodel;
use serde::{Deserialize, Serialize};

use crate::{
    Listed, Problem, Result, Searcher, Surrogate, Tried, optimum,
    predicted::{RIDGE, Stage, samples},
    searcher::Ledger,
};

/// Where the numbers per layer and width come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Each layer at each other width, the rest as closed-form Mix'n'Match has it: how much the score
    /// changes.
    Sensitivities,
    /// A [`Surrogate`] fitted to random submodels.
    Surrogate {
        /// How many.
        samples: usize,
        /// Of the draw.
        seed: u64,
    },
}

/// Scores what the numbers take, finds the submodel of the least sum exactly ([`optimum`]), and scores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    scores: Scores,
    ledger: Ledger,
    stage: Stage,
    /// The optimum.
    solved: Option<Submodel>,
}

impl Exact {
    /// A search that has not begun.
    pub fn new(scores: Scores) -> Self {
        Self { scores, ledger: Ledger::default(), stage: Stage::Samples, solved: None }
    }

    /// What the numbers are measured with.
    fn samples(&self, problem: &Problem) -> Result<Vec<Submodel>> {
        match self.scores {
            Scores::Surrogate { samples: n, seed } => Ok(samples(problem, n, seed)),
            Scores::Sensitivities => {
                let base = base(problem)?;
                let mut list = vec![base.clone()];
                for layer in 0..problem.n_layers() {
                    for width in problem.widths() {
                        list.push(with(&base, layer, *width));
                    }
                }
                list.sort();
                list.dedup();
                Ok(list)
            }
        }
    }

    /// `[layer][width]`
    fn separable(&self, problem: &Problem) -> Result<Vec<Vec<f64>>> {
        match self.scores {
            Scores::Surrogate { .. } => {
                let scores = self.ledger.tried.as_slice();
                Ok(Surrogate::fit(problem, scores, RIDGE)?.weights().to_vec())
            }
            Scores::Sensitivities => {
                let base = base(problem)?;
                // All were asked for, and told.
                let score = |s: &Submodel| self.ledger.tried.score(s).unwrap_or(f64::INFINITY);
                let own = score(&base);
                let widths = problem.widths();
                Ok((0..problem.n_layers())
                    .map(|layer| {
                        widths.iter().map(|w| score(&with(&base, layer, *w)) - own).collect()
                    })
                    .collect())
            }
        }
    }
}

/// What Mix'n'Match takes, or else any submodel within the limits.
fn base(problem: &Problem) -> Result<Submodel> {
    let taken = Listed::mix_n_match(problem).ask(problem)?.pop();
    Ok(taken.unwrap_or_else(|| problem.feasible().clone()))
}

fn with(base: &Submodel, layer: usize, width: usize) -> Submodel {
    let mut widths = base.widths().to_vec();
    widths[layer] = width;
    Submodel::new(widths)
}

impl Searcher for Exact {
    fn ask(&mut self, problem: &Problem) -> Result<Vec<Submodel>> {
        if self.ledger.asked.is_empty() && self.stage == Stage::Samples {
            if self.ledger.tried.is_empty() {
                self.ledger.asked = self.samples(problem)?;
            } else {
                self.solved = optimum(problem, &self.separable(problem)?)?;
                let new = self.solved.iter().filter(|best| self.ledger.tried.score(best).is_none());
                self.ledger.asked = new.cloned().collect();
                self.stage = Stage::Found;
            }
        }
        Ok(self.ledger.asked.clone())
    }

    fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        self.ledger.tell(scores)
    }

    /// The optimum of the separable score, which need not be the best that was measured on the way.
    fn best(&self, _: &Problem) -> Option<(Submodel, f64)> {
        let solved = self.solved.clone()?;
        let score = self.ledger.tried.score(&solved)?;
        Some((solved, score))
    }

    fn tried(&self) -> &Tried {
        &self.ledger.tried
    }
}
