//! The loop: steps, evaluations, checkpoints, the end.

use std::{sync::Arc, time::Instant};

use burn::data::dataloader::Progress as BurnProgress;
use burn_train::{
    EventProcessorTraining, Interrupter, LearnerEvent, SupervisedTrainingEventProcessor,
    TrainingItem,
};
use matformer_core::{Manifest, fs};
use matformer_nn::Folder;

use super::{
    Loop, Outcome, Progress,
    strategy::{NORM, RATE, SPEED, loss_name},
};
use crate::{
    Error, MetricsLine, MetricsLog, Overfit, Result, SkippedLine, StepReport, TrainLine,
    checkpoint::{Saved, save_model},
    dashboard::{Shell, Values, keep_ctrl_c},
};

impl<M: Folder + 'static> Loop<M> {
    /// All intervals from where the trainer stands.
    pub(super) fn run(
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
            let values = self.log_step(&report, started.elapsed().as_secs_f64())?;
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
            if self.trainer.steps_done() < end {
                self.checkpoint_if_due(interrupter)?;
            }
        }
        interrupter.fail_on_error(events.process_train(LearnerEvent::EndSplit(epoch)));
        Ok(())
    }

    /// Says what a step did, and writes it down; returns its values for the dashboard.
    fn log_step(&mut self, report: &StepReport, seconds: f64) -> Result<Vec<(String, f64)>> {
        if let Some(outlier) = &report.outlier {
            self.say_left_out(report.step + 1, outlier);
            self.log.push(MetricsLine::Skipped(SkippedLine {
                step: report.step + 1,
                skipped: outlier.what.clone(),
                value: outlier.value.is_finite().then_some(outlier.value),
                limit: outlier.limit,
            }));
            let in_a_row = self.trainer.guard().in_a_row;
            return match in_a_row >= self.options.config.spike.in_a_row {
                false => Ok(Vec::new()),
                true => Err(self.with_checkpoint(Error::Diverged {
                    in_a_row,
                    step: report.step + 1,
                    outlier: outlier.clone(),
                    checkpoint: "none".to_owned(),
                    suspects: self.options.config.suspects(),
                })),
            };
        }
        let line = self.train_line(report, seconds);
        self.say_step(&line);
        let mut values: Vec<(String, f64)> =
            line.loss.iter().map(|(label, loss)| (loss_name(label), *loss)).collect();
        values.push((SPEED.to_owned(), line.tokens_per_second));
        values.push((RATE.to_owned(), line.learning_rate));
        values.push((NORM.to_owned(), line.grad_norm));
        self.log.push(MetricsLine::Train(line));
        Ok(values)
    }

    fn train_line(&self, report: &StepReport, seconds: f64) -> TrainLine {
        let per_step = self.options.config.tokens_per_step as u64;
        TrainLine {
            step: report.step + 1,
            tokens: (report.step + 1) * per_step,
            loss: report.losses().into_iter().collect(),
            distill: report.divergences().into_iter().collect(),
            learning_rate: report.learning_rate,
            grad_norm: report.grad_norm,
            tokens_per_second: per_step as f64 / seconds,
        }
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
        let saved = Saved {
            manifest: &self.manifest(),
            files: &self.options.files,
            held_out: self.held_out_mean,
            run: &self.options.configured,
        };
        let checkpoint = self.checkpoints.save(&self.trainer, saved, config.keep)?;
        tracing::info!("checkpoint {}", checkpoint.dir.display());
        Ok(())
    }

    fn manifest(&self) -> Manifest {
        let mut manifest = self.options.manifest.clone();
        manifest.provenance.steps = self.trainer.steps_done();
        manifest.provenance.tokens =
            self.trainer.steps_done() * self.options.config.tokens_per_step as u64;
        manifest
    }

    pub(super) fn finish(self) -> Result<Outcome> {
        let steps = self.trainer.steps_done();
        let interrupted = steps < self.options.config.steps;
        if !interrupted {
            // A run that goes on after its end: what is there is whole until the next line.
            let manifest = self.options.dir.join(Manifest::FILE);
            if manifest.exists() {
                std::fs::remove_file(&manifest).map_err(fs::error(&manifest, "remove"))?;
            }
            save_model(
                &self.trainer.evaluated(),
                &self.manifest(),
                &self.options.files,
                &self.options.dir,
            )?;
        }
        let overfit = match self.options.config.overfit.filter(|_| !interrupted) {
            None => None,
            Some(n) => {
                let lines = MetricsLog::read(&self.options.dir)?;
                Overfit::of(&self.options.config, self.trainer.model().space(), n, &lines)
            }
        };
        let skipped = self.trainer.guard().skipped;
        Ok(Outcome { steps, interrupted, skipped, held_out: self.held_out, overfit })
    }

    /// Names where to go on from, and keeps what was measured until now.
    pub(super) fn with_checkpoint(&mut self, mut error: Error) -> Error {
        if let Error::NonFinite { checkpoint, .. } | Error::Diverged { checkpoint, .. } = &mut error
        {
            *checkpoint = self.last_good();
            // The error that ends the run is the one to report.
            let _ = self.log.flush();
        }
        error
    }

    /// The newest checkpoint from before the last step that was applied: that step may be what
    /// broke the weights.
    fn last_good(&self) -> String {
        let applied = self.trainer.steps_done() - self.trainer.guard().in_a_row;
        let all = self.checkpoints.all().unwrap_or_default();
        match all.into_iter().rfind(|c| c.step < applied) {
            Some(checkpoint) => checkpoint.dir.display().to_string(),
            None => "none".to_owned(),
        }
    }
}
