//! Search methods with a fixed list of candidates.

use std::collections::HashSet;

use matformer_core::{Submodel, rng};
use serde::{Deserialize, Serialize};

use crate::{Problem, Result, Searcher, Tried, shapes};

/// Tries a list of submodels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    list: Vec<Submodel>,
    tried: Tried,
}

impl Listed {
    /// Tries `submodels`, each once.
    pub fn new(submodels: impl IntoIterator<Item = Submodel>) -> Self {
        let mut list: Vec<Submodel> = Vec::new();
        for submodel in submodels {
            if !list.contains(&submodel) {
                list.push(submodel);
            }
        }
        Self { list, tried: Tried::default() }
    }

    /// The same of a list that has each once.
    pub(crate) fn of(list: Vec<Submodel>) -> Self {
        Self { list, tried: Tried::default() }
    }

    /// What closed-form Mix'n'Match takes: of its family the largest that meets all limits. One
    /// submodel, nothing to choose from; none where no member meets them.
    pub fn mix_n_match(problem: &Problem) -> Self {
        Self::new(shapes::Shape::Increasing.largest(problem))
    }

    /// All submodels within the limits.
    ///
    /// # Errors
    /// [`Error::TooMany`](crate::Error::TooMany) above `most`.
    pub fn exhaustive(problem: &Problem, most: usize) -> Result<Self> {
        Ok(Self::of(problem.all(most)?))
    }

    /// `n` random submodels that spend what they may ([`Problem::random`]), fewer where there are not
    /// as many.
    pub fn random(problem: &Problem, n: usize, seed: u64) -> Self {
        let draw = |index| problem.random(&mut rng::keyed(seed, "random submodel", index));
        Self::of(distinct(problem, n, draw))
    }
}

/// `n` distinct submodels of those that `draw` gives for 0, 1, …; fewer where there are not as many. Where
/// almost all are drawn already, the rest is not waited for.
pub(crate) fn distinct(
    problem: &Problem,
    n: usize,
    draw: impl Fn(u64) -> Submodel,
) -> Vec<Submodel> {
    let n = n.min(problem.size().min(1e9) as usize);
    let (mut list, mut seen) = (Vec::new(), HashSet::new());
    for index in 0..20 * n as u64 {
        if list.len() == n {
            break;
        }
        let submodel = draw(index);
        if seen.insert(submodel.clone()) {
            list.push(submodel);
        }
    }
    list
}

impl Searcher for Listed {
    fn ask(&mut self, _: &Problem) -> Result<Vec<Submodel>> {
        let open = self.list.iter().filter(|submodel| self.tried.score(submodel).is_none());
        Ok(open.cloned().collect())
    }

    fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        self.tried.add(scores)
    }

    fn tried(&self) -> &Tried {
        &self.tried
    }
}
