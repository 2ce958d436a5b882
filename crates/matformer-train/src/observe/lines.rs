//! Progress as lines of text.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use matformer_core::units::duration;

use super::{About, Observer};
use crate::{Checkpoint, HeldOut, Outlier, TrainLine, checkpoint::Restored};

/// `tracing` target of messages for the user; all other events are log records.
pub const SAID: &str = "matformer::said";

/// An evaluation before the first step reports its progress this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Lines for a person, or for the log only.
pub(super) struct Lines {
    about: About,
    shown: bool,
    /// `None` until the run starts.
    pace: Option<Pace>,
    batches: usize,
    reported: Instant,
}

impl Lines {
    /// Lines that a person reads: events of the target [`SAID`].
    pub(super) fn shown(about: About) -> Self {
        Self { about, shown: true, pace: None, batches: 0, reported: Instant::now() }
    }

    /// Lines for the log, at debug.
    pub(super) fn logged(about: About) -> Self {
        Self { shown: false, ..Self::shown(about) }
    }

    fn say(&self, line: fmt::Arguments<'_>) {
        say(self.shown, line);
    }
}

impl Observer for Lines {
    fn restored(&mut self, restored: &Restored) {
        say_restored(self.shown, restored);
    }

    fn run_starts(&mut self, done: u64) {
        self.pace = Some(Pace::new(done, self.about.steps));
    }

    fn step(&mut self, line: &TrainLine) {
        let About { names, steps, targets, .. } = &self.about;
        let every = (steps / 20).clamp(1, 50);
        if !(line.step.is_multiple_of(every) || line.step == *steps) {
            return;
        }
        let place = |label: &str| names.iter().position(|n| n == label).unwrap_or(names.len());
        let mut losses: Vec<_> = line.loss.iter().collect();
        losses.sort_by_key(|(label, _)| place(label));
        let losses: Vec<String> =
            losses.iter().map(|(label, loss)| format!("{label} {loss:.3}")).collect();
        self.say(format_args!(
            "step {}/{steps}  loss {}  lr {:.2e}  norm {:.2}  {:.0} {targets}/s  {} left",
            line.step,
            losses.join(" "),
            line.learning_rate,
            line.grad_norm,
            line.tokens_per_second,
            self.pace.as_ref().map(|pace| pace.left(line.step)).unwrap_or_default(),
        ));
    }

    fn skipped(&mut self, step: u64, outlier: &Outlier) {
        self.say(format_args!("step {step}/{}  left out: {outlier}", self.about.steps));
    }

    fn evaluation_starts(&mut self, batches: usize) {
        self.batches = batches;
        self.reported = Instant::now();
    }

    fn evaluation_progress(&mut self, done: usize, _: &[(String, f64)]) {
        let before = self.pace.is_none();
        if before && done < self.batches && self.reported.elapsed() > REPORT_EVERY {
            self.reported = Instant::now();
            self.say(format_args!("before the first step: {done} of {} batches", self.batches));
        }
    }

    fn evaluation_ends(&mut self, held_out: &HeldOut) {
        let losses = |of: &BTreeMap<String, f64>| {
            let loss = |name: &String| Some(format!("{name} {:.4}", of.get(name)?));
            self.about.names.iter().filter_map(loss).collect::<Vec<_>>().join("  ")
        };
        let HeldOut { step, held_out: all, sources } = held_out;
        let what = if self.about.self_test { "loss" } else { "held-out loss" };
        self.say(format_args!("step {step}  {what} {}", losses(all)));
        for (at, of) in sources.iter().enumerate().filter(|(_, of)| !of.is_empty()) {
            self.say(format_args!("step {step}  of source {}   {}", at + 1, losses(of)));
        }
    }

    fn run_ends(&mut self) {}
}

/// Where a run resumes, and what is wrong with newer checkpoints.
pub(super) fn say_restored(shown: bool, restored: &Restored) {
    for (checkpoint, error) in &restored.damaged {
        let step = checkpoint.step;
        let error = error.whole();
        say(shown, format_args!("checkpoint of step {step} is damaged, put aside: {error}"));
    }
    if let Some(Checkpoint { dir, step }) = &restored.from {
        say(shown, format_args!("resuming at step {step} from {}", dir.display()));
    }
}

fn say(shown: bool, line: fmt::Arguments<'_>) {
    if shown {
        tracing::info!(target: SAID, "{line}");
    } else {
        tracing::debug!("{line}");
    }
}

/// Estimates the time left from the pace of the steps that this process made.
struct Pace {
    started: Instant,
    first: u64,
    last: u64,
}

impl Pace {
    fn new(first: u64, last: u64) -> Self {
        Self { started: Instant::now(), first, last }
    }

    /// The time left after `done` steps, as people read it.
    fn left(&self, done: u64) -> String {
        let made = done.saturating_sub(self.first).max(1) as f64;
        let seconds = self.started.elapsed().as_secs_f64() / made * (self.last - done) as f64;
        duration(seconds)
    }
}
