//! Ask for submodels, tell their scores.

use std::collections::HashMap;

use matformer_core::Submodel;
use serde::{Deserialize, Serialize};

use crate::{Error, Problem, Result};

/// A search method. Its state is plain data: saved and reloaded, the search continues unchanged.
pub trait Searcher {
    /// Submodels whose scores it needs next, each within the limits of `problem` unless the method
    /// also learns from others; none when the search is over. Asking again before telling gives the
    /// same.
    ///
    /// # Errors
    /// What the method needs and does not find.
    fn ask(&mut self, problem: &Problem) -> Result<Vec<Submodel>>;

    /// Scores of what was asked, lower is better: held-out loss.
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the submodel whose score is no number; then nothing is taken.
    fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()>;

    /// The best submodel that was tried within the limits, unless the method names another.
    fn best(&self, problem: &Problem) -> Option<(Submodel, f64)> {
        self.tried().best(problem).cloned()
    }

    /// All scores that it was told, in their order.
    fn tried(&self) -> &Tried;
}

/// Scores of submodels, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Submodel, f64)>", into = "Vec<(Submodel, f64)>")]
pub struct Tried {
    list: Vec<(Submodel, f64)>,
    places: HashMap<Submodel, usize>,
}

impl From<Vec<(Submodel, f64)>> for Tried {
    fn from(list: Vec<(Submodel, f64)>) -> Self {
        let places = list.iter().enumerate().map(|(place, (s, _))| (s.clone(), place)).collect();
        Self { list, places }
    }
}

impl From<Tried> for Vec<(Submodel, f64)> {
    fn from(tried: Tried) -> Self {
        tried.list
    }
}

impl Tried {
    /// Adds scores; of a submodel that is there already the first stays.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; then nothing is added.
    pub fn add(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        if let Some((submodel, found)) = scores.iter().find(|(_, score)| !score.is_finite()) {
            return Err(Error::NotFinite { submodel: submodel.to_string(), found: *found });
        }
        for (submodel, score) in scores {
            if !self.places.contains_key(submodel) {
                self.places.insert(submodel.clone(), self.list.len());
                self.list.push((submodel.clone(), *score));
            }
        }
        Ok(())
    }

    /// The score of a submodel.
    pub fn score(&self, submodel: &Submodel) -> Option<f64> {
        self.places.get(submodel).map(|place| self.list[*place].1)
    }

    /// All, in the order in which they came.
    pub fn iter(&self) -> std::slice::Iter<'_, (Submodel, f64)> {
        self.list.iter()
    }

    /// The same as a slice.
    pub fn as_slice(&self) -> &[(Submodel, f64)] {
        &self.list
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The best within the limits of `problem`; of equal ones the first.
    pub fn best(&self, problem: &Problem) -> Option<&(Submodel, f64)> {
        let within = self.list.iter().filter(|(submodel, _)| problem.fits(submodel));
        within.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// What was asked for and not told yet, and what was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub asked: Vec<Submodel>,
    pub tried: Tried,
}

impl Ledger {
    /// Takes scores off what was asked for.
    pub fn tell(&mut self, scores: &[(Submodel, f64)]) -> Result<()> {
        self.tried.add(scores)?;
        self.asked.retain(|asked| !scores.iter().any(|(told, _)| told == asked));
        Ok(())
    }
}

/// Asks and tells until the search is over. `scores` gives those of many submodels at once, in their
/// order.
///
/// # Errors
/// What the searcher or `scores` says; an error of the searcher's is converted.
pub fn run<S: Searcher, E: From<Error>>(
    searcher: &mut S,
    problem: &Problem,
    mut scores: impl FnMut(&[Submodel]) -> Result<Vec<f64>, E>,
) -> Result<(), E> {
    loop {
        let asked = searcher.ask(problem)?;
        if asked.is_empty() {
            return Ok(());
        }
        let found = scores(&asked)?;
        let told: Vec<(Submodel, f64)> = asked.into_iter().zip(found).collect();
        searcher.tell(&told)?;
    }
}
