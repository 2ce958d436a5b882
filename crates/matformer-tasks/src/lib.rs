#![doc = include_str!("../README.md")]

mod error;
mod examples;
mod keys;
mod matching;
mod metric;
mod random;
mod render;
mod rows;
mod score;
mod shots;
mod task;
mod yaml;

pub use error::{Error, Result};
pub use examples::{Example, Examples, Problem, Prompt, Question};
pub use matching::is_space;
pub use metric::{Aggregation, Metric, OutputType};
pub use random::PythonRandom;
pub use score::{Loglik, Part, Reply, bootstrap_perplexity};
pub use task::{Generation, Task};
