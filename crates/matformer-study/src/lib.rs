#![doc = include_str!("../README.md")]

mod alone;
pub mod baselines;
mod budget;
mod consistency;
mod cost;
mod curve;
pub mod elastify;
pub mod embed;
pub mod evaluate;
pub mod report;
pub mod retrieve;
pub mod scaling;
pub mod search;
pub mod tasks;
pub mod team;

pub use alone::Alone;
pub use budget::Budget;
pub use cost::Cost;
pub use curve::{Curve, Gap, Keep, Measured, at_end, measured};
pub(crate) use curve::{
    file_of, measure, measured_baseline, results, say_not_kept, store_of, store_with, studied,
    walked,
};
pub use matformer_run::{Error, Result};
