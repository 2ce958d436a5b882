//! Methods by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Evolution, EvolutionConfig, Exact, Listed, Predicted, PredictedConfig, Problem, Result,
    Scores, Searcher, Tried,
    shapes::{self, Shape},
};

/// A way to search, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// Closed-form Mix'n'Match: one submodel, nothing measured to choose it.
    Mix,
    /// All submodels whose widths never decrease with depth.
    NonDecreasing,
    /// Ageing evolution on measured scores.
    Evolution,
    /// Evolution against a predictor.
    Predictor,
    /// The exact optimum of measured sensitivities.
    Exact,
    /// The exact optimum of a fitted surrogate.
    ExactSurrogate,
    /// The best of random submodels.
    Random,
    /// All submodels.
    Exhaustive,
    /// The largest of another family than Mix'n'Match's: for comparison.
    Shape(Shape),
}

/// Most submodels that are listed, limits aside.
const MOST: usize = 1 << 14;

impl Method {
    /// All methods that look for the best, the cheapest first: no other [`Shape`] than `mix`.
    pub const SEARCHING: [Self; 8] = [
        Self::Mix,
        Self::Exact,
        Self::ExactSurrogate,
        Self::Predictor,
        Self::NonDecreasing,
        Self::Random,
        Self::Evolution,
        Self::Exhaustive,
    ];

    /// A search by this method that scores at most about `evaluations` submodels, where the method
    /// leaves a choice.
    ///
    /// # Errors
    /// [`Error::TooMany`] where an exhaustive search has too much to do, [`Error::Setting`] for too few or
    /// too many `evaluations`.
    pub fn begin(self, problem: &Problem, evaluations: usize, seed: u64) -> Result<Search> {
        if evaluations > MOST {
            let expected = "at most 16384";
            return Err(Error::Setting { setting: "evaluations", found: evaluations, expected });
        }
        Ok(match self {
            Self::Mix => Search::Listed(Listed::mix_n_match(problem)),
            Self::Shape(shape) => Search::Listed(Listed::new(shape.largest(problem))),
            Self::NonDecreasing => {
                Search::Listed(Listed::of(shapes::non_decreasing(problem, MOST)?))
            }
            Self::Random => Search::Listed(Listed::random(problem, evaluations, seed)),
            Self::Exhaustive => Search::Listed(Listed::exhaustive(problem, MOST)?),
            Self::Evolution => {
                let defaults = EvolutionConfig::default();
                let population = defaults.population.min(evaluations.div_ceil(3));
                let tournament = defaults.tournament.min(population.div_ceil(4).max(1));
                Search::Evolution(Evolution::new(EvolutionConfig {
                    evaluations,
                    population,
                    tournament,
                    seed,
                    ..defaults
                })?)
            }
            Self::Predictor => {
                let defaults = PredictedConfig::default();
                enough(evaluations)?;
                let confirmed = defaults.confirmed.min(evaluations.div_ceil(4));
                let samples = evaluations - confirmed;
                let config = PredictedConfig { samples, confirmed, seed, ..defaults };
                Search::Predicted(Predicted::new(config)?)
            }
            Self::Exact => Search::Exact(Exact::new(Scores::Sensitivities)),
            Self::ExactSurrogate => {
                enough(evaluations)?;
                let samples = evaluations - 1;
                Search::Exact(Exact::new(Scores::Surrogate { samples, seed }))
            }
        })
    }

    /// Every method, other shapes behind the methods that search.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = Shape::ALL.into_iter().filter(|shape| *shape != Shape::Increasing);
        Self::SEARCHING.into_iter().chain(others.map(Self::Shape))
    }
}

/// Two to fit to, and one to confirm.
fn enough(evaluations: usize) -> Result<()> {
    match evaluations {
        0..3 => Err(Error::Setting {
            setting: "evaluations",
            found: evaluations,
            expected: "at least 3 for a method that fits a surrogate",
        }),
        _ => Ok(()),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mix => "mix",
            Self::NonDecreasing => "non-decreasing",
            Self::Evolution => "evolution",
            Self::Predictor => "predictor",
            Self::Exact => "exact",
            Self::ExactSurrogate => "exact-surrogate",
            Self::Random => "random",
            Self::Exhaustive => "exhaustive",
            Self::Shape(Shape::Increasing) => "mix",
            Self::Shape(shape) => return shape.fmt(f),
        })
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The heuristic's own family.
        let text = if text == "increasing" { "mix" } else { text };
        let found = Self::all().find(|method| method.to_string() == text);
        found.ok_or_else(|| Error::UnknownMethod { found: text.to_owned() })
    }
}

impl TryFrom<String> for Method {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.to_string()
    }
}

/// A search by any method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Search {
    /// What is tried was known beforehand.
    Listed(Listed),
    /// Ageing evolution.
    Evolution(Evolution),
    /// Evolution against a predictor.
    Predicted(Predicted),
    /// An exact optimum.
    Exact(Exact),
}

impl Search {
    fn inner(&mut self) -> &mut dyn Searcher {
        match self {
            Self::Listed(search) => search,
            Self::Evolution(search) => search,
            Self::Predicted(search) => search,
            Self::Exact(search) => search,
        }
    }
}

impl Searcher for Search {
    fn ask(&mut self, problem: &Problem) -> Result<Vec<matformer_core::Submodel>> {
        self.inner().ask(problem)
    }

    fn tell(&mut self, scores: &[(matformer_core::Submodel, f64)]) -> Result<()> {
        self.inner().tell(scores)
    }

    fn best(&self, problem: &Problem) -> Option<(matformer_core::Submodel, f64)> {
        match self {
            Self::Exact(search) => search.best(problem),
            _ => self.tried().best(problem).cloned(),
        }
    }

    fn tried(&self) -> &Tried {
        match self {
            Self::Listed(search) => search.tried(),
            Self::Evolution(search) => search.tried(),
            Self::Predicted(search) => search.tried(),
            Self::Exact(search) => search.tried(),
        }
    }
}
