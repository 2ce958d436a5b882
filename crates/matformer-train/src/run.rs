//! A training run: the loop around the step, as a strategy of burn-train.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use burn::{
    data::dataloader::Progress as BurnProgress,
    optim::SgdConfig,
    tensor::{Device, Tensor},
};
use burn_train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, TrainingStrategy, ValidLoader,
    logger::InMemoryMetricLogger,
    renderer::{MetricsRenderer, tui::TuiMetricsRendererWrapper},
};
use matformer_core::{Manifest, Plan, Submodel};
use matformer_nn::{Elastic, Folder, State, row_losses, walk};

use crate::{
    AdamW, Batches, Checkpoints, Error, HeldOut, MetricsLine, MetricsLog, Result, StepReport,
    TrainConfig, TrainLine, Trainer,
    checkpoint::save_model,
    dashboard::{Named, NoItems, Pace, Shell, Silent, Values, keep_ctrl_c},
};

/// How a person follows a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// burn-train's dashboard, which takes over the terminal.
    Dashboard,
    /// A line now and then on standard error.
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
    /// How progress is shown.
    pub progress: Progress,
    /// Stops the run between two steps: it then saves a checkpoint.
    pub interrupter: Interrupter,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps made in all.
    pub steps: u64,
    /// Whether it was interrupted before its last step.
    pub interrupted: bool,
    /// Held-out loss of every granularity at the last evaluation.
    pub held_out: Option<HeldOut>,
}

/// Trains `model` (on a device with gradients) from the run folder's last checkpoint, or from
/// step 0 where there is none, to the last step; then publishes the model in the run folder.
///
/// # Errors
/// When a setting, a batch or a file does not serve, or a loss is not finite.
pub fn run<M: Folder + 'static>(
    model: M,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
) -> Result<Outcome> {
    options.config.validate(model.space())?;
    let device = model.device();
    let batches_per_step = options.config.batches_per_step(batches.targets_per_batch())?;
    let mut trainer = Trainer::new(model, &options.config, batches_per_step);
    let checkpoints = Checkpoints::of(&options.dir);
    checkpoints.sweep()?;
    let mut held_out_mean = None;
    if let Some(latest) = checkpoints.latest()? {
        held_out_mean = latest.restore(&mut trainer, AdamW::new(&options.config), &device)?;
    }
    let first = trainer.steps_done();
    let log = MetricsLog::open(&options.dir, first)?;
    let pace = Pace::new(first, options.config.steps);
    let the_loop =
        Loop { trainer, batches, options, checkpoints, log, pace, held_out: None, held_out_mean };
    let the_loop = the_loop.with_burn_train(&device)?;
    the_loop.finish()
}

/// All that a run holds while it runs.
struct Loop<M: Elastic> {
    trainer: Trainer<M>,
    batches: Arc<dyn Batches<M>>,
    options: RunOptions,
    checkpoints: Checkpoints,
    log: MetricsLog,
    pace: Pace,
    held_out: Option<HeldOut>,
    held_out_mean: Option<f64>,
}

/// Our loop in burn-train's clothes: it lends events, metrics, dashboard and interrupter.
struct Strategy<M: Elastic> {
    // The loop goes in, and comes out with its result.
    slot: Mutex<Option<(Loop<M>, Result<()>)>>,
}

impl<M: Folder + 'static> Loop<M> {
    fn with_burn_train(self, device: &Device) -> Result<Self> {
        let config = &self.options.config;
        let space = self.trainer.model().space().clone();
        let (progress, interrupter) = (self.options.progress, self.options.interrupter.clone());
        let intervals = config.steps.div_ceil(config.eval_every) as usize;
        let start = (self.trainer.steps_done() / config.eval_every) as usize;
        let dir = self.options.dir.clone();
        let renderer: Box<dyn MetricsRenderer> = match progress {
            Progress::Dashboard => {
                Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), Some(start)))
            }
            _ => Box::new(Silent),
        };
        let strategy = Arc::new(Strategy { slot: Mutex::new(Some((self, Ok(())))) });
        let mut training =
            SupervisedTraining::<Shell>::new(dir, Arc::new(NoItems), Arc::new(NoItems))
                .num_epochs(intervals)
                .with_application_logger(None)
                .with_metric_logger(InMemoryMetricLogger::default())
                .with_interrupter(interrupter)
                .renderer(renderer)
                .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        for name in space.granularities.names() {
            let metric = Named::new(&loss_name(name), false);
            training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
        }
        for (name, higher_is_better) in [(SPEED, true), (RATE, false), (NORM, false)] {
            training = training.metric_train_numeric(Named::new(name, higher_is_better));
        }
        if start > 0 {
            training = training.checkpoint(start);
        }
        let learner = Learner::new(
            Shell::new(device),
            SgdConfig::new().init(),
            burn::optim::lr_scheduler::constant::ConstantLr::new(0.0),
        );
        let result = training.launch(learner);
        // The dashboard closes, and gives the terminal back, when its renderer goes.
        drop(result.renderer);
        let taken = strategy.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            Some((the_loop, Ok(()))) => Ok(the_loop),
            Some((_, Err(e))) => Err(e),
            None => Err(Error::Stopped(match result.error {
                Some(e) => e.to_string(),
                None => "the loop did not come back".to_owned(),
            })),
        }
    }

    /// All intervals from where the trainer stands.
    fn run(
        &mut self,
        events: &mut SupervisedTrainingEventProcessor<Shell>,
        interrupter: &Interrupter,
    ) -> Result<()> {
        let (steps, every) = (self.options.config.steps, self.options.config.eval_every);
        while self.trainer.steps_done() < steps && !interrupter.should_stop() {
            let interval = (self.trainer.steps_done() / every) as usize;
            let end = ((interval as u64 + 1) * every).min(steps);
            self.train_until(end, interval + 1, events, interrupter)?;
            // Also when a stop was asked for at its very end: a resumed run starts the next one.
            if self.trainer.steps_done() == end {
                self.evaluate(interval + 1, events, interrupter)?;
            }
            interrupter.fail_on_error(events.process_train(LearnerEvent::EndEpoch(interval + 1)));
            self.log.flush()?;
            self.checkpoint_if_due(interrupter)?;
        }
        Ok(())
    }

    fn train_until(
        &mut self,
        end: u64,
        epoch: usize,
        events: &mut SupervisedTrainingEventProcessor<Shell>,
        interrupter: &Interrupter,
    ) -> Result<()> {
        let total = self.options.config.eval_every.min(end) as usize;
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: total };
        interrupter.fail_on_error(events.process_train(start));
        while self.trainer.steps_done() < end && !interrupter.should_stop() {
            let started = Instant::now();
            let report = self.trainer.step(&*self.batches).map_err(|e| self.with_checkpoint(e))?;
            let line = self.train_line(&report, started.elapsed().as_secs_f64());
            let mut values: Vec<(String, f64)> =
                line.loss.iter().map(|(label, loss)| (loss_name(label), *loss)).collect();
            values.push((SPEED.to_owned(), line.tokens_per_second));
            values.push((RATE.to_owned(), line.learning_rate));
            values.push((NORM.to_owned(), line.grad_norm));
            let every = self.options.config.eval_every;
            let done = (report.step % every) as usize + 1;
            let item = TrainingItem::new(
                Values(Arc::new(values)),
                BurnProgress::new(done, total, Some("steps".to_owned())),
                Some(report.step as usize + 1),
                None,
            );
            interrupter.fail_on_error(events.process_train(LearnerEvent::ProcessedItem(item)));
            if self.options.progress == Progress::Dashboard {
                keep_ctrl_c();
            }
            self.say_step(&line);
            self.log.push(MetricsLine::Train(line));
            if self.trainer.steps_done() < end {
                self.checkpoint_if_due(interrupter)?;
            }
        }
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndSplit(epoch)));
        Ok(())
    }

    fn train_line(&self, report: &StepReport, seconds: f64) -> TrainLine {
        let per_step = self.options.config.tokens_per_step as u64;
        let mut loss: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        for (label, nats, count) in &report.terms {
            let sum = loss.entry(label.clone()).or_default();
            *sum = (sum.0 + nats, sum.1 + count);
        }
        TrainLine {
            step: report.step + 1,
            tokens: (report.step + 1) * per_step,
            loss: loss.into_iter().map(|(label, (nats, n))| (label, nats / n as f64)).collect(),
            learning_rate: report.learning_rate,
            grad_norm: report.grad_norm,
            tokens_per_second: per_step as f64 / seconds,
        }
    }

    /// Held-out loss of every granularity, in one walk per batch.
    fn evaluate(
        &mut self,
        epoch: usize,
        events: &mut SupervisedTrainingEventProcessor<Shell>,
        interrupter: &Interrupter,
    ) -> Result<()> {
        let model = self.trainer.model().valid();
        let space = model.space();
        let names = space.granularities.names();
        let submodels =
            names.iter().map(|name| space.uniform(name)).collect::<Result<Vec<Submodel>, _>>()?;
        let plan = Plan::merged(&submodels)?;
        let total = self.batches.held_out_len();
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: total };
        interrupter.fail_on_error(events.process_valid(start));
        let (mut nats, mut counts) = (vec![0.0; names.len()], vec![0; names.len()]);
        for index in 0..total {
            let batch = self
                .batches
                .held_out(&model, index)
                .map_err(|source| Error::Batch { index: index as u64, source })?;
            let walked = walk(&model, &batch.input, &plan, &mut State::new())?;
            for (i, loss) in row_losses(&model, &walked, &batch.target).into_iter().enumerate() {
                nats[i] += sum(loss.nats)?;
                counts[i] += loss.counts.iter().sum::<usize>();
            }
            let so_far = |i: usize| nats[i] / counts[i].max(1) as f64;
            let values = names.iter().enumerate().map(|(i, name)| (loss_name(name), so_far(i)));
            let item = TrainingItem::new(
                Values(Arc::new(values.collect())),
                BurnProgress::new(index + 1, total, Some("batches".to_owned())),
                Some(index + 1),
                None,
            );
            interrupter.fail_on_error(events.process_valid(LearnerEvent::ProcessedItem(item)));
        }
        interrupter.fail_on_error(events.process_valid(LearnerEvent::EndSplit(epoch)));
        let losses = nats.iter().zip(&counts).map(|(nats, n)| nats / (*n).max(1) as f64);
        let held_out = HeldOut {
            step: self.trainer.steps_done(),
            held_out: names.iter().map(|n| (*n).to_owned()).zip(losses).collect(),
        };
        self.say_held_out(&held_out);
        self.held_out_mean = Some(held_out.mean());
        self.log.push(MetricsLine::HeldOut(held_out.clone()));
        self.held_out = Some(held_out);
        Ok(())
    }

    fn checkpoint_if_due(&mut self, interrupter: &Interrupter) -> Result<()> {
        let (done, config) = (self.trainer.steps_done(), &self.options.config);
        let due = done.is_multiple_of(config.checkpoint_every)
            || done == config.steps
            || interrupter.should_stop();
        if !due || self.checkpoints.latest()?.is_some_and(|c| c.step == done) {
            return Ok(());
        }
        self.log.flush()?;
        self.checkpoints.save(
            &self.trainer,
            &self.manifest(),
            &self.options.files,
            self.held_out_mean,
            config.keep,
        )?;
        Ok(())
    }

    fn manifest(&self) -> Manifest {
        let mut manifest = self.options.manifest.clone();
        manifest.provenance.steps = self.trainer.steps_done();
        manifest.provenance.tokens =
            self.trainer.steps_done() * self.options.config.tokens_per_step as u64;
        manifest
    }

    fn finish(self) -> Result<Outcome> {
        let steps = self.trainer.steps_done();
        let interrupted = steps < self.options.config.steps;
        if !interrupted {
            save_model(
                self.trainer.model(),
                &self.manifest(),
                &self.options.files,
                &self.options.dir,
            )?;
        }
        Ok(Outcome { steps, interrupted, held_out: self.held_out })
    }

    fn with_checkpoint(&self, error: Error) -> Error {
        match error {
            Error::NonFinite { what, value, step, .. } => {
                let checkpoint = match self.checkpoints.latest() {
                    Ok(Some(c)) => c.dir.display().to_string(),
                    _ => "none".to_owned(),
                };
                Error::NonFinite { what, value, step, checkpoint }
            }
            other => other,
        }
    }

    fn say_step(&self, line: &TrainLine) {
        let steps = self.options.config.steps;
        let every = (steps / 20).clamp(1, 50);
        if self.options.progress != Progress::Lines
            || !(line.step.is_multiple_of(every) || line.step == steps)
        {
            return;
        }
        let names = self.trainer.model().space().granularities.names();
        let place = |label: &str| names.iter().position(|n| *n == label).unwrap_or(names.len());
        let mut losses: Vec<_> = line.loss.iter().collect();
        losses.sort_by_key(|(label, _)| place(label));
        let losses: Vec<String> =
            losses.iter().map(|(label, loss)| format!("{label} {loss:.3}")).collect();
        say(format_args!(
            "step {}/{steps}  loss {}  lr {:.2e}  norm {:.2}  {:.0} tokens/s  {} left",
            line.step,
            losses.join(" "),
            line.learning_rate,
            line.grad_norm,
            line.tokens_per_second,
            self.pace.left(line.step),
        ));
    }

    fn say_held_out(&self, held_out: &HeldOut) {
        if self.options.progress != Progress::Lines {
            return;
        }
        let space = self.trainer.model().space();
        let losses: Vec<String> = space
            .granularities
            .names()
            .iter()
            .filter_map(|name| Some(format!("{name} {:.4}", held_out.held_out.get(*name)?)))
            .collect();
        say(format_args!("step {}  held-out loss {}", held_out.step, losses.join("  ")));
    }
}

impl<M: Folder + 'static> SupervisedLearningStrategy<Shell> for Strategy<M> {
    fn fit(
        &self,
        components: TrainingComponents<Shell>,
        learner: Learner<Shell>,
        _: TrainLoader<Shell>,
        _: ValidLoader<Shell>,
        _: usize,
    ) -> (Shell, SupervisedTrainingEventProcessor<Shell>) {
        let mut events = components.event_processor;
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((the_loop, result)) = slot.as_mut() {
            *result = the_loop.run(&mut events, &components.interrupter);
        }
        (learner.model(), events)
    }
}

/// A line on standard error; training goes on when nobody reads it any more.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn sum(nats: Tensor<1>) -> Result<f64> {
    let rows: Vec<f32> = nats.try_into_vec_as().map_err(|e| matformer_nn::Error::Read {
        tensor: "held-out loss".to_owned(),
        message: e.to_string(),
    })?;
    Ok(rows.into_iter().map(f64::from).sum())
}

const SPEED: &str = "Tokens per second";
const RATE: &str = "Learning rate";
const NORM: &str = "Gradient norm";

fn loss_name(label: &str) -> String {
    format!("Loss {label}")
}
