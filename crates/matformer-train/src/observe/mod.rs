//! Observers of a run: the trait, and the choice of one.

mod dashboard;
mod lines;

use matformer_core::Space;

use crate::{
    HeldOut, Outlier, Progress, RunOptions, TrainLine, checkpoint::Restored, observe::lines::Lines,
};

use dashboard::Dashboard;

pub use lines::SAID;

/// Follows a run. The loop reports what happens, in order; an observer changes nothing.
pub(crate) trait Observer {
    /// A checkpoint was looked for.
    fn restored(&mut self, restored: &Restored);

    /// The loop begins, after `done` steps.
    fn run_starts(&mut self, done: u64);

    /// A step was made.
    fn step(&mut self, line: &TrainLine);

    /// Step `step` (from 1) was skipped.
    fn skipped(&mut self, step: u64, outlier: &Outlier);

    /// An evaluation of `batches` batches begins. One may come before the run starts.
    fn evaluation_starts(&mut self, batches: usize);

    /// `done` of the batches are evaluated; `losses` are nats per target so far, by granularity.
    fn evaluation_progress(&mut self, done: usize, losses: &[(String, f64)]);

    /// The evaluation has ended.
    fn evaluation_ends(&mut self, held_out: &HeldOut);

    /// The loop has ended: after the last step, because it was asked to stop, or with an error.
    fn run_ends(&mut self);
}

/// What an observer knows of a run from the start.
#[derive(Clone, Debug)]
struct About {
    /// Names of the granularities, from the narrowest to the widest.
    names: Vec<String>,
    steps: u64,
    eval_every: u64,
    /// What targets are: `tokens`, `images`.
    targets: &'static str,
    /// Whether the run evaluates on its training batches (`train.overfit`).
    self_test: bool,
}

/// The observer that the options ask for.
pub(crate) fn observer(options: &RunOptions, space: &Space) -> Box<dyn Observer> {
    let config = &options.config;
    let about = About {
        names: space.granularities.names().into_iter().map(str::to_owned).collect(),
        steps: config.steps,
        eval_every: config.whole_rounds(config.eval_every),
        targets: options.targets,
        self_test: config.overfit.is_some(),
    };
    match options.progress {
        Progress::Dashboard => Box::new(Dashboard::new(about, options.interrupter.clone())),
        Progress::Lines => Box::new(Lines::shown(about)),
        Progress::Silent => Box::new(Lines::logged(about)),
    }
}
