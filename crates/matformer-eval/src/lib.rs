#![doc = include_str!("../README.md")]

mod consistency;
mod continuations;
mod continued;
mod error;
mod evaluate;
mod found;
mod held_out;
mod images;
pub mod latency;
mod ranks;
pub mod report;
mod results;
pub mod retrieval;
pub mod scaling;
mod stages;
pub mod stats;
mod store;
#[cfg(test)]
mod testing;

pub use consistency::{Consistency, Consistent, Continued, Likeness};
pub use continuations::{Continuation, Continuations};
pub use continued::{Beginnings, ContinuedSet};
pub use error::{Error, Result};
pub use evaluate::{
    Documents, Evaluation, HeldOutBatch, Measured, Reference, Subject, SubmodelLosses, Walks,
    measure,
};
pub use found::{Found, Outcome, Scored};
pub use held_out::{
    TextSet, TokenModel, WINDOWS, WindowBatch, evaluate, text_units, window_batches,
};
pub use images::{
    ImagePlaces, Nearest, evaluate_images, image_units, image_walks, nearest_neighbour,
};
pub use results::{
    DataFacts, EvalResults, Paired, ParamCounts, SourceResult, SubmodelResult, measurements,
};
pub use stages::{Stage, StageResult, Stages};
pub use stats::{Beside, DocumentLoss, Estimate, Hits};
pub use store::{Generated, HeldOutSet, Store, StoreKey, Studied, Texts, Unit};
