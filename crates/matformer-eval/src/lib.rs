#![doc = include_str!("../README.md")]

mod error;
mod evaluate;
mod held_out;
mod images;
pub mod report;
mod results;
pub mod retrieval;
pub mod stats;

pub use error::{Error, Result};
pub use evaluate::{Documents, Evaluation, HeldOutBatch, Measured, SubmodelLosses, measure};
pub use held_out::{BATCH_ROWS, TokenModel, WindowBatch, evaluate, window_batches};
pub use images::{Nearest, evaluate_images, nearest_neighbour};
pub use results::{DataFacts, EvalResults, Paired, ParamCounts, SubmodelResult, measurements};
pub use stats::{DocumentLoss, Estimate, Hits};
