#![doc = include_str!("../README.md")]

pub mod alone;
pub mod baselines;
mod budget;
pub mod consistency;
mod cost;
mod curve;
pub mod elastify;
pub mod embed;
pub mod evaluate;
mod page;
pub mod retrieve;
pub mod scaling;
pub mod search;
pub mod tasks;
pub mod team;

pub use budget::Budget;
pub use cost::Cost;
pub use curve::{
    Curve, Gap, Keep, Measured, at_end, file_of, measure, measured, measured_baseline,
    say_not_kept, store_of, studied, walked,
};
pub(crate) use curve::{results, store_with};
pub use matformer_run::{Error, Result};
pub use page::{facts, granularities, metrics, overlay_run, report_data};
