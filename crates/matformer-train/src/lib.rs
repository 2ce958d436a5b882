#![doc = include_str!("../README.md")]

mod batches;
mod calibrate;
mod checkpoint;
mod config;
mod distill;
mod error;
mod flops;
mod freeze;
mod guard;
mod lock;
mod memory;
mod metrics;
mod muon;
mod notes;
mod observe;
mod optimizer;
mod outer;
mod overfit;
mod ranks;
mod rounds;
mod run;
mod schedule;
mod step;
mod tensorboard;

pub use batches::{Batch, Batches, BoxError};
pub use burn_train::Interrupter;
pub use calibrate::calibrate;
pub use checkpoint::{Checkpoint, Checkpoints, Saved};
pub use config::{OptimizerRule, Outer, Precision, Schedule, TrainConfig};
pub use distill::Distill;
pub use error::{Error, Result};
pub use flops::{passes, run_flops, step_flops};
pub use guard::{Guard, Outlier, Spike};
pub use lock::RunLock;
pub use memory::{Dims, TrainingMemory};
pub use metrics::{HeldOut, MetricsLine, MetricsLog, SkippedLine, TrainLine};
pub use observe::SAID;
pub use optimizer::Optimizer;
pub use overfit::{Learnt, Overfit};
pub use ranks::{check_ranks, facts};
pub use rounds::{ExchangeRule, Rounds};
pub use run::{Outcome, Progress, RunOptions, run, run_taught};
pub use schedule::learning_rate;
pub use step::{StepReport, Term, Trainer};

/// Tells a person how it goes: an event of the target [`SAID`], at info.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::tracing::info!(target: $crate::SAID, $($argument)*)
    };
}

#[doc(hidden)]
pub use tracing;
