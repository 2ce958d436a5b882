//! What can go wrong in this crate.

use matformer_core::{Budget, Resource};

use crate::Method;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong: each variant carries the thing, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the core crate refuses: widths outside a cost table, another number of layers.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// No submodel fits a budget.
    #[error(
        "budget: {}, expected from {} (the least that a submodel costs) to {} (the most)",
        resource.describe(*limit),
        resource.describe(*least),
        resource.describe(*most)
    )]
    Infeasible {
        /// What is limited.
        resource: Resource,
        /// The limit.
        limit: f64,
        /// What the cheapest submodel costs.
        least: f64,
        /// What the dearest costs.
        most: f64,
        /// What the one of the greatest widths costs.
        largest: f64,
    },
    /// Each budget can be met, but not all by one submodel.
    #[error("budgets: {}: no submodel meets all of them", list(limits))]
    Together {
        /// The budgets.
        limits: Vec<(Resource, f64)>,
    },
    /// A score that is no number.
    #[error("score of submodel `{submodel}`: {found}, expected a finite number")]
    NotFinite {
        /// The submodel.
        submodel: String,
        /// Its score.
        found: f64,
    },
    /// More submodels than may be listed.
    #[error("{found} submodels in all, expected at most {most}")]
    TooMany {
        /// How many there are.
        found: f64,
        /// How many may be listed.
        most: usize,
    },
    /// A method that does not exist.
    #[error("method `{found}`, expected one of {}", names())]
    UnknownMethod {
        /// Its name.
        found: String,
    },
    /// A setting that makes no sense.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        found: usize,
        /// What it may be.
        expected: &'static str,
    },
    /// Too few scores to fit a surrogate to.
    #[error("scores of {found} submodels; expected at least {expected}")]
    TooFew {
        /// Scores that there are.
        found: usize,
        /// Scores that it takes.
        expected: usize,
    },
}

impl Error {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Infeasible { resource, least, largest, .. } => {
                let percent = (1000.0 * least / largest).ceil() / 10.0;
                Some(format!("`{}` is enough", Budget::Percent { percent, of: *resource }))
            }
            Self::Together { .. } => Some("raise one of them".to_owned()),
            Self::TooMany { .. } => Some("too many to list: use another method".to_owned()),
            _ => None,
        }
    }
}

fn names() -> String {
    Method::all().map(|method| format!("`{method}`")).collect::<Vec<_>>().join(", ")
}

fn list(limits: &[(Resource, f64)]) -> String {
    let one = |(resource, limit): &(Resource, f64)| resource.describe(*limit);
    limits.iter().map(one).collect::<Vec<_>>().join(", ")
}
