#![doc = include_str!("../README.md")]

mod batches;
mod checkpoint;
mod config;
mod dashboard;
mod error;
mod metrics;
mod optimizer;
mod run;
mod schedule;
mod step;

pub use batches::{Batch, Batches, BoxError};
pub use burn_train::Interrupter;
pub use checkpoint::{Checkpoint, Checkpoints};
pub use config::{Outer, Schedule, TrainConfig};
pub use error::{Error, Result};
pub use metrics::{HeldOut, MetricsLine, MetricsLog, TrainLine};
pub use optimizer::AdamW;
pub use run::{Outcome, Progress, RunOptions, run};
pub use schedule::learning_rate;
pub use step::{StepReport, Trainer};
