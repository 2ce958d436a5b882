//! A training run: the loop around the step.

mod evaluate;
mod steps;

use std::{path::PathBuf, sync::Arc};

use burn_train::Interrupter;
use matformer_core::Manifest;
use matformer_nn::{Elastic, Folder};

use crate::{
    Batches, Checkpoints, HeldOut, MetricsLog, Overfit, Result, RunLock, TrainConfig, Trainer,
    observe::{Observer, observer},
    overfit::FirstBatches,
};

/// How a person follows a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// burn-train's dashboard, which takes over the terminal.
    Dashboard,
    /// A line now and then: a `tracing` event of the target
    /// [`SAID`](crate::SAID), at info.
    Lines,
    /// Nothing.
    Silent,
}

/// What a run needs beside a model and its batches.
pub struct RunOptions {
    /// The run folder.
    pub dir: PathBuf,
    /// The `[train]` table.
    pub config: TrainConfig,
    /// What `matformer.json` will say, but for steps, tokens and hash.
    pub manifest: Manifest,
    /// Further files of every model folder (tokenizer), as (name, bytes).
    pub files: Vec<(String, Vec<u8>)>,
    /// What targets are, for people: `tokens`, `images`.
    pub targets: &'static str,
    /// How progress is shown.
    pub progress: Progress,
    /// Stops the run between two steps: it then saves a checkpoint.
    pub interrupter: Interrupter,
    /// What the run was configured with, kept in its checkpoints:
    /// [`Checkpoints::configured`] gives it back.
    pub configured: serde_json::Value,
    /// The folder's lock, if it was taken already.
    pub lock: Option<RunLock>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps made in all.
    pub steps: u64,
    /// Whether it was interrupted before its last step.
    pub interrupted: bool,
    /// Of the steps, those that were left out: their loss was a spike.
    pub skipped: u64,
    /// Held-out loss of every granularity at the last evaluation.
    pub held_out: Option<HeldOut>,
    /// What `train.overfit` has shown, once the run has ended.
    pub overfit: Option<Overfit>,
}

/// Trains `model` (on a device with gradients) from the run folder's last checkpoint, or from
/// step 0 where there is none, to the last step; then publishes the model in the run folder.
///
/// A checkpoint that is damaged is put aside, and the one before is gone on from.
///
/// # Errors
/// When a setting, a batch or a file does not serve, another process trains into the folder, all
/// checkpoints are damaged, or the loss is not finite.
pub fn run<M: Folder + 'static>(
    model: M,
    batches: Arc<dyn Batches<M>>,
    mut options: RunOptions,
) -> Result<Outcome> {
    options.config.validate(model.space())?;
    let batches: Arc<dyn Batches<M>> = match options.config.overfit {
        Some(n) => Arc::new(FirstBatches { of: batches, n }),
        None => batches,
    };
    let device = model.device();
    let batches_per_step = options.config.batches_per_step(batches.targets_per_batch())?;
    let _lock = match options.lock.take() {
        Some(lock) => lock,
        None => RunLock::take(&options.dir)?,
    };
    let mut trainer = Trainer::new(model, &options.config, batches_per_step);
    let checkpoints = Checkpoints::of(&options.dir);
    checkpoints.sweep()?;
    let restored = checkpoints.restore(&mut trainer, &options.config, &device)?;
    let mut observer = observer(&options, trainer.model().space());
    observer.restored(&restored);
    let log = MetricsLog::open(&options.dir, trainer.steps_done())?;
    let (held_out, held_out_mean) = (None, restored.held_out);
    let mut the_loop =
        Loop { trainer, batches, options, checkpoints, log, observer, held_out, held_out_mean };
    let ended = the_loop.run();
    // Also after an error, which is then read on the terminal.
    the_loop.observer.run_ends();
    ended?;
    the_loop.finish()
}

/// All that a run holds while it runs.
struct Loop<M: Elastic> {
    trainer: Trainer<M>,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
    checkpoints: Checkpoints,
    log: MetricsLog,
    observer: Box<dyn Observer>,
    held_out: Option<HeldOut>,
    held_out_mean: Option<f64>,
}
