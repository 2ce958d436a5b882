//! A training run: the loop around the step.

mod evaluate;
mod steps;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn_train::Interrupter;
use matformer_core::Manifest;
use matformer_exchange::Exchange;
use matformer_nn::{Elastic, Folder};

use crate::{
    Batches, Checkpoints, Error, HeldOut, MetricsLog, Overfit, Result, RunLock, TrainConfig,
    Trainer,
    observe::{Observer, observer},
    overfit::FirstBatches,
    ranks,
    tensorboard::EventLog,
};

/// How the progress of a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// burn-train's dashboard, which takes over the terminal.
    Dashboard,
    /// Lines: `tracing` events of the target [`SAID`](crate::SAID), at info.
    Lines,
    /// Nothing.
    Silent,
}

/// What a run needs beside its model and its batches.
pub struct RunOptions {
    /// The run folder.
    pub dir: PathBuf,
    /// The `[train]` table.
    pub config: TrainConfig,
    /// The final `matformer.json`, without steps, tokens and hash.
    pub manifest: Manifest,
    /// Other files of every model folder (tokenizer), as (name, bytes).
    pub files: Vec<(String, Vec<u8>)>,
    /// What targets are called: `tokens`, `images`.
    pub targets: &'static str,
    /// How progress is shown.
    pub progress: Progress,
    /// Stops the run after a step; a checkpoint is then saved.
    pub interrupter: Interrupter,
    /// The run's configuration, which is kept in its checkpoints:
    /// [`Checkpoints::configured`] returns it.
    pub configured: serde_json::Value,
    /// The folder's lock, if the caller holds it already.
    pub lock: Option<RunLock>,
    /// The other processes that make the steps with this one. Rank 0 locks and writes the folder; the
    /// others read its checkpoints.
    pub exchange: Exchange,
}

impl RunOptions {
    /// A run in `dir` that reports its progress in lines and cannot be stopped from outside.
    pub fn new(dir: &Path, config: TrainConfig, manifest: Manifest) -> Self {
        Self {
            dir: dir.to_owned(),
            config,
            manifest,
            files: Vec::new(),
            targets: "targets",
            progress: Progress::Lines,
            interrupter: Interrupter::new(),
            configured: serde_json::Value::Null,
            lock: None,
            exchange: Exchange::local(),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps made in total.
    pub steps: u64,
    /// Whether it was interrupted before its last step.
    pub interrupted: bool,
    /// How many of the steps were skipped because of a loss spike.
    pub skipped: u64,
    /// Held-out loss of every granularity at the last evaluation.
    pub held_out: Option<HeldOut>,
    /// Result of `train.overfit`, if the run has made all its steps.
    pub overfit: Option<Overfit>,
    /// Bytes that this rank has sent to the others ([`Exchange::sent`]).
    pub sent: u64,
}

/// Trains `model` (on a device with gradients) from the run folder's last checkpoint, or from
/// step 0 if there is none, to the last step; then publishes the model in the run folder.
///
/// A damaged checkpoint is renamed, and the run resumes from the one before.
///
/// # Errors
/// When a setting is invalid, a batch cannot be read, a file cannot be read or written, another
/// process trains into the folder, all checkpoints are damaged, or the loss is not finite.
pub fn run<M: Folder + 'static>(
    model: M,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
) -> Result<Outcome> {
    run_taught(model, None, batches, options)
}

/// As [`run`], with the model that `distill.teacher` names: on the same device, of the same outputs.
///
/// # Errors
/// As [`run`]; when `distill.teacher` names a teacher and there is none.
pub fn run_taught<M: Folder + 'static>(
    model: M,
    teacher: Option<M>,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
) -> Result<Outcome> {
    let exchange = options.exchange.clone();
    let begin = || Loop::begin(model, teacher, batches, options);
    let mut the_loop = exchange.first_then(Error::whole, begin)?;
    exchange.check_equal(&ranks::facts_at(&the_loop.options, the_loop.trainer.steps_done()))?;
    the_loop.check_weights()?;
    let ended = the_loop.run();
    // Before an error is returned: it is printed on the terminal.
    the_loop.observer.run_ends();
    ended?;
    the_loop.finish()
}

/// The state of a run.
struct Loop<M: Elastic> {
    trainer: Trainer<M>,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
    checkpoints: Checkpoints,
    /// Rank 0's.
    log: Option<MetricsLog>,
    observer: Box<dyn Observer>,
    held_out: Option<HeldOut>,
    held_out_mean: Option<f64>,
    /// Whether it was asked to stop within a round.
    waits_to_stop: bool,
    /// Rank 0's.
    _lock: Option<RunLock>,
}

impl<M: Folder + 'static> Loop<M> {
    /// A run that is ready to make its next step.
    fn begin(
        model: M,
        teacher: Option<M>,
        batches: Arc<dyn Batches<M>>,
        mut options: RunOptions,
    ) -> Result<Self> {
        check(&model, teacher.as_ref(), &options.config)?;
        let batches: Arc<dyn Batches<M>> = match options.config.overfit {
            Some(n) => Arc::new(FirstBatches { of: batches, n }),
            None => batches,
        };
        let (device, exchange) = (model.device(), options.exchange.clone());
        let per_step = options.config.batches_per_step(batches.targets_per_batch())?;
        ranks::check_ranks(&options.config, &*batches, &exchange)?;
        let lock = match options.lock.take() {
            None if exchange.is_first() => Some(RunLock::take(&options.dir)?),
            taken => taken,
        };
        let trainer = Trainer::new(model, &options.config, per_step);
        let mut trainer = trainer.with_exchange(exchange.clone());
        if let Some(teacher) = teacher {
            trainer = trainer.with_teacher(teacher);
        }
        let checkpoints = Checkpoints::of(&options.dir);
        if exchange.is_first() {
            checkpoints.sweep()?;
        } else {
            options.progress = Progress::Silent;
        }
        let restored = checkpoints.restore(&mut trainer, &options.config, &device)?;
        let mut observer = observer(&options, trainer.model().space());
        observer.restored(&restored);
        let done = trainer.steps_done();
        let log = exchange.is_first().then(|| log(&options, done)).transpose()?;
        let (held_out, held_out_mean, _lock) = (None, restored.held_out, lock);
        Ok(Self {
            trainer,
            batches,
            options,
            checkpoints,
            log,
            observer,
            held_out,
            held_out_mean,
            waits_to_stop: false,
            _lock,
        })
    }
}

/// Checks a configuration against its model and its teacher.
fn check<M: Folder>(model: &M, teacher: Option<&M>, config: &TrainConfig) -> Result<()> {
    config.validate(model.space())?;
    config.validate_freeze(model)?;
    config.validate_device(&model.device())?;
    match &config.distill {
        Some(distill) if distill.folder().is_some() && teacher.is_none() => {
            Err(distill.no_teacher())
        }
        _ => Ok(()),
    }
}

/// The metrics of a run that goes on after step `done`.
fn log(options: &RunOptions, done: u64) -> Result<MetricsLog> {
    let events = options.config.tensorboard;
    let events = events.then(|| EventLog::open(&options.dir, done, options.targets)).transpose()?;
    Ok(MetricsLog::open(&options.dir, done)?.with_events(events))
}
