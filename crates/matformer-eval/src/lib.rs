#![doc = include_str!("../README.md")]

mod error;
mod held_out;
pub mod report;
mod results;
pub mod stats;

pub use error::{Error, Result};
pub use held_out::{
    BATCH_ROWS, Evaluation, SubmodelLosses, TokenModel, WindowBatch, evaluate, window_batches,
};
pub use results::{DataFacts, EvalResults, Paired, ParamCounts, SubmodelResult, measurements};
pub use stats::{DocumentLoss, Estimate};
