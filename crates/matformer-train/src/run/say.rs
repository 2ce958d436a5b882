//! What a person reads as it goes.

use matformer_nn::Folder;

use super::{Loop, Progress, SAID};
use crate::{Checkpoint, HeldOut, Outlier, TrainLine, checkpoint::Restored};

impl<M: Folder + 'static> Loop<M> {
    pub(super) fn say_step(&self, line: &TrainLine) {
        let steps = self.options.config.steps;
        let every = (steps / 20).clamp(1, 50);
        if !(line.step.is_multiple_of(every) || line.step == steps) {
            return;
        }
        let names = self.trainer.model().space().granularities.names();
        let place = |label: &str| names.iter().position(|n| *n == label).unwrap_or(names.len());
        let mut losses: Vec<_> = line.loss.iter().collect();
        losses.sort_by_key(|(label, _)| place(label));
        let losses: Vec<String> =
            losses.iter().map(|(label, loss)| format!("{label} {loss:.3}")).collect();
        say(
            self.options.progress,
            format_args!(
                "step {}/{steps}  loss {}  lr {:.2e}  norm {:.2}  {:.0} {}/s  {} left",
                line.step,
                losses.join(" "),
                line.learning_rate,
                line.grad_norm,
                line.tokens_per_second,
                self.options.targets,
                self.pace.left(line.step),
            ),
        );
    }

    pub(super) fn say_left_out(&self, step: u64, outlier: &Outlier) {
        say(
            self.options.progress,
            format_args!("step {step}/{}  left out: {outlier}", self.options.config.steps),
        );
    }

    pub(super) fn say_held_out(&self, held_out: &HeldOut) {
        let space = self.trainer.model().space();
        let losses: Vec<String> = space
            .granularities
            .names()
            .iter()
            .filter_map(|name| Some(format!("{name} {:.4}", held_out.held_out.get(*name)?)))
            .collect();
        // A self-test holds nothing out.
        let what = if self.options.config.overfit.is_some() { "loss" } else { "held-out loss" };
        say(
            self.options.progress,
            format_args!("step {}  {what} {}", held_out.step, losses.join("  ")),
        );
    }
}

/// Where a run goes on, and what is wrong with newer checkpoints: also where a dashboard follows.
pub(super) fn say_restored(progress: Progress, restored: &Restored) {
    let progress = if progress == Progress::Dashboard { Progress::Lines } else { progress };
    for (checkpoint, error) in &restored.damaged {
        let step = checkpoint.step;
        let error = error.whole();
        say(progress, format_args!("checkpoint of step {step} is damaged, put aside: {error}"));
    }
    if let Some(Checkpoint { dir, step }) = &restored.from {
        say(progress, format_args!("resuming at step {step} from {}", dir.display()));
    }
}

/// A line for a person, where lines are what shows progress; else for the log.
pub(super) fn say(progress: Progress, line: std::fmt::Arguments<'_>) {
    match progress {
        Progress::Lines => tracing::info!(target: SAID, "{line}"),
        _ => tracing::debug!("{line}"),
    }
}
