//! The training loop: steps, evaluations, checkpoints, and the end of the run.

use std::time::Instant;

use matformer_core::{Manifest, fs};
use matformer_nn::Folder;

use super::{Loop, Outcome};
use crate::{
    Error, MetricsLine, MetricsLog, Outlier, Overfit, Result, SkippedLine, StepReport, TrainLine,
    checkpoint::{Saved, save_model},
    ranks::hash_of,
    say,
};

impl<M: Folder + 'static> Loop<M> {
    /// Makes all steps that are left, or as many as until the interrupter stops the run.
    pub(super) fn run(&mut self) -> Result<()> {
        let config = &self.options.config;
        let (steps, every) = (config.steps, config.whole_rounds(config.eval_every));
        if self.options.config.overfit.is_some() && self.has_no_metrics()? {
            // The losses before the first step.
            let interrupter = self.options.interrupter.clone();
            self.evaluate(Some(&interrupter))?;
        }
        self.observer.run_starts(self.trainer.steps_done());
        let mut stop = self.stops();
        while self.trainer.steps_done() < steps && !stop {
            let started = Instant::now();
            let report = self.trainer.step(&*self.batches).map_err(|e| self.with_checkpoint(e))?;
            let logged = self.log_step(&report, started.elapsed().as_secs_f64());
            // The same on all ranks.
            logged.or_else(|error| self.agree(Err(error)))?;
            let done = self.trainer.steps_done();
            if done.is_multiple_of(every) || done == steps {
                // Also when stopping: a resumed run starts after this step.
                self.evaluate(None)?;
                let flushed = self.log.as_mut().map_or(Ok(()), MetricsLog::flush);
                self.agree(flushed)?;
                self.check_weights()?;
            }
            stop = self.stops();
            if self.is_checkpoint_due(stop) {
                let saved = self.checkpoint();
                self.agree(saved)?;
            }
        }
        Ok(())
    }

    /// An error of one rank is the error of all.
    pub(super) fn agree<T>(&self, result: Result<T>) -> Result<T> {
        self.options.exchange.agree(result, Error::whole)
    }

    /// Whether the run stops now: a rank was asked to, and all ranks have the same weights. Inside of a round, nobody
    /// asks the others.
    fn stops(&mut self) -> bool {
        let between = self.trainer.is_between_rounds();
        let asked = self.options.interrupter.should_stop();
        let asked = if between { self.options.exchange.any(asked) } else { asked };
        let (done, config) = (self.trainer.steps_done(), &self.options.config);
        let waits = asked && !between;
        if waits && !self.waits_to_stop {
            let end = config.whole_rounds(done).min(config.steps);
            say!("stopping after step {end}, when weights are exchanged");
        }
        self.waits_to_stop = waits;
        asked && between
    }

    /// Whether the run has not measured anything yet.
    fn has_no_metrics(&self) -> Result<bool> {
        let (exchange, dir) = (&self.options.exchange, &self.options.dir);
        let lines = exchange.is_first().then(|| MetricsLog::read(dir)).transpose();
        Ok(exchange.any(self.agree(lines)?.is_some_and(|lines| lines.is_empty())))
    }

    /// Checks that all ranks have the same weights.
    pub(super) fn check_weights(&self) -> Result<()> {
        let exchange = &self.options.exchange;
        if exchange.is_alone() {
            return Ok(());
        }
        let hash = self.agree(hash_of(self.trainer.model()))?;
        Ok(exchange.check_equal(&[hash])?)
    }

    /// Adds a line to the log, on the rank that has it.
    pub(super) fn push(&mut self, line: MetricsLine) {
        if let Some(log) = &mut self.log {
            log.push(line);
        }
    }

    /// Tells the observer and the log about a step.
    fn log_step(&mut self, report: &StepReport, seconds: f64) -> Result<()> {
        let Some(outlier) = &report.outlier else {
            let line = self.train_line(report, seconds);
            self.observer.step(&line);
            self.push(MetricsLine::Train(line));
            return Ok(());
        };
        let step = report.step + 1;
        self.observer.skipped(step, outlier);
        self.push(MetricsLine::Skipped(SkippedLine {
            step,
            skipped: outlier.what.clone(),
            value: outlier.value.is_finite().then_some(outlier.value),
            limit: outlier.limit,
        }));
        let in_a_row = self.trainer.guard().in_a_row;
        if in_a_row < self.options.config.spike.in_a_row {
            return Ok(());
        }
        Err(self.with_checkpoint(Error::Diverged {
            in_a_row,
            step,
            outlier: outlier.clone(),
            checkpoint: "none".to_owned(),
            suspects: self.options.config.suspects(),
        }))
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

    /// Whether a checkpoint is saved after this step: the same on all ranks.
    fn is_checkpoint_due(&self, stop: bool) -> bool {
        let (done, config) = (self.trainer.steps_done(), &self.options.config);
        let every = config.whole_rounds(config.checkpoint_every);
        done.is_multiple_of(every) || done == config.steps || stop
    }

    /// Saves a checkpoint, on rank 0.
    fn checkpoint(&mut self) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let (done, config) = (self.trainer.steps_done(), &self.options.config);
        if self.checkpoints.latest()?.is_some_and(|c| c.step == done) {
            return Ok(());
        }
        log.flush()?;
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
        let overfit =
            if self.options.exchange.is_first() { self.publish(interrupted) } else { Ok(None) };
        let overfit = self.agree(overfit)?;
        let skipped = self.trainer.guard().skipped;
        let sent = self.options.exchange.sent();
        Ok(Outcome { steps, interrupted, skipped, held_out: self.held_out, overfit, sent })
    }

    /// Writes the model of a run that has made all its steps.
    fn publish(&self, interrupted: bool) -> Result<Option<Overfit>> {
        if interrupted {
            return Ok(None);
        }
        self.check_applied()?;
        // If the run was extended, remove its old manifest first: without one, a half-written
        // folder is not taken for a complete model.
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
        let Some(n) = self.options.config.overfit else {
            return Ok(None);
        };
        let lines = MetricsLog::read(&self.options.dir)?;
        Ok(Overfit::of(&self.options.config, self.trainer.model().space(), n, &lines))
    }

    /// Refuses to publish a model that no step has changed.
    fn check_applied(&self) -> Result<()> {
        let steps = self.trainer.steps_done();
        if self.trainer.guard().skipped < steps {
            return Ok(());
        }
        let why = MetricsLog::read(&self.options.dir)?.into_iter().rev().find_map(|line| {
            let MetricsLine::Skipped(SkippedLine { skipped: what, value, limit, .. }) = line else {
                return None;
            };
            Some(match value {
                Some(value) => Outlier { what, value, limit }.to_string(),
                None => format!("{what} is not finite"),
            })
        });
        let why = why.unwrap_or_else(|| "gradient norm is not finite".to_owned());
        let suspects = self.options.config.suspects();
        Err(Error::NothingApplied { steps, why, suspects })
    }

    /// Names the checkpoint to go on from.
    pub(super) fn with_checkpoint(&self, mut error: Error) -> Error {
        if let Error::NonFinite { checkpoint, .. } | Error::Diverged { checkpoint, .. } = &mut error
        {
            *checkpoint = self.last_good();
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
