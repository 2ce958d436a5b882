#![doc = include_str!("../README.md")]

mod built_in;
mod error;
mod examples;
mod filter;
mod hooks;
mod hub;
mod keys;
mod local;
mod matching;
mod metric;
mod random;
mod render;
mod rows;
mod score;
mod shots;
mod task;
mod yaml;

pub use built_in::PAPER;
pub use error::{Error, Result};
pub use examples::{Example, Examples, Named, Problem, Prompt, Question};
pub use filter::Filters;
pub use matching::is_space;
pub use metric::{Aggregation, Metric, OutputType};
pub use random::PythonRandom;
pub use score::{Loglik, Part, Reply, bootstrap_perplexity, macro_f1};
pub use task::{Generation, Split, Task};
