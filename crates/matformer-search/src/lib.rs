#![doc = include_str!("../README.md")]

mod any;
mod error;
mod evolution;
mod exact;
mod knapsack;
mod listed;
mod predicted;
mod problem;
mod searcher;
pub mod shapes;
mod surrogate;

pub use any::{Method, Search};
pub use error::{Error, Result};
pub use evolution::{Evolution, EvolutionConfig};
pub use exact::{Exact, Scores};
pub use knapsack::optimum;
pub use listed::Listed;
pub use predicted::{Predicted, PredictedConfig};
pub use problem::{Limit, Problem};
pub use searcher::{Searcher, Tried, run};
pub use surrogate::Surrogate;
