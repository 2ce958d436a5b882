#![doc = include_str!("../README.md")]

mod error;
mod examples;
mod random;
mod render;
mod rows;
mod score;
mod task;
mod tokens;
mod yaml;

pub use error::{Error, Result};
pub use examples::{Example, Examples, Problem};
pub use random::PythonRandom;
pub use score::{Mean, is_correct, mean};
pub use task::{Metric, Task};
pub use tokens::{Scored, tokens};
