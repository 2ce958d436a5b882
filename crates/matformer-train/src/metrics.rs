//! `metrics.jsonl`: the metrics of a run, one line per step and per evaluation.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use matformer_core::fs;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, tensorboard::EventLog};

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricsLine {
    /// A training step.
    Train(TrainLine),
    /// An evaluation on held-out data.
    HeldOut(HeldOut),
    /// A training step that was skipped.
    Skipped(SkippedLine),
}

/// A training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainLine {
    /// Steps made, this one included.
    pub step: u64,
    /// Targets seen so far.
    pub tokens: u64,
    /// Nats per target of each drawn submodel, by label.
    pub loss: BTreeMap<String, f64>,
    /// Distillation loss of each of them that learnt from a teacher, before `distill.weight`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distill: BTreeMap<String, f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Targets per second of this step.
    pub tokens_per_second: f64,
}

/// A training step that was skipped: its batch was not used, the schedule moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedLine {
    /// Steps made, this one included.
    pub step: u64,
    /// The value because of which it was skipped: `loss of S`, `gradient norm`.
    pub skipped: String,
    /// Its value; absent where it is not finite.
    #[serde(default)]
    pub value: Option<f64>,
    /// The largest value that would have been applied.
    #[serde(default)]
    pub limit: Option<f64>,
}

/// An evaluation on held-out data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Steps made.
    pub step: u64,
    /// Nats per target of every granularity, by name.
    pub held_out: BTreeMap<String, f64>,
    /// The same of the text of each source, where the data has several; empty for one that has no held-out text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<BTreeMap<String, f64>>,
}

impl HeldOut {
    /// Mean over the granularities: the best checkpoint is the one with the lowest.
    pub fn mean(&self) -> f64 {
        self.held_out.values().sum::<f64>() / self.held_out.len().max(1) as f64
    }
}

impl MetricsLine {
    /// Steps made when the line was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(line) => line.step,
            Self::HeldOut(line) => line.step,
            Self::Skipped(line) => line.step,
        }
    }
}

/// A run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    waiting: String,
    /// The same for TensorBoard, where that was asked for.
    events: Option<EventLog>,
}

impl MetricsLog {
    /// Name of the file in a run folder.
    pub const FILE: &'static str = "metrics.jsonl";

    /// The log of a run that resumes after `step` steps. Later lines are removed: they are of steps
    /// after the last checkpoint.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join(Self::FILE);
        let lines = if path.exists() { Self::read(run)? } else { Vec::new() };
        let kept: String = lines.iter().filter(|line| line.step() <= step).map(line_of).collect();
        fs::write_atomic(&path, kept.as_bytes())?;
        Ok(Self { path, waiting: String::new(), events: None })
    }

    /// The same log, which is also written as event files.
    pub(crate) fn with_events(mut self, events: Option<EventLog>) -> Self {
        self.events = events;
        self
    }

    /// All lines of a run's log, without an incomplete last one, which a killed run may leave.
    ///
    /// # Errors
    /// When the file cannot be read, or another line is malformed.
    pub fn read(run: &Path) -> Result<Vec<MetricsLine>> {
        let path = run.join(Self::FILE);
        let bytes = fs::read(&path)?;
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // Nothing follows the last line break.
        lines.pop_if(|rest| rest.is_empty());
        let mut out = Vec::with_capacity(lines.len());
        for (i, line) in lines.iter().enumerate() {
            match serde_json::from_slice(line) {
                Ok(parsed) => out.push(parsed),
                Err(_) if i + 1 == lines.len() => {}
                Err(e) => {
                    return Err(Error::Checkpoint {
                        path,
                        found: format!("line {}: {e}", i + 1),
                        expected: "a line of metrics".to_owned(),
                    });
                }
            }
        }
        Ok(out)
    }

    /// Adds a line; it reaches the file with the next [`flush`](Self::flush).
    pub fn push(&mut self, line: MetricsLine) {
        self.waiting.push_str(&line_of(&line));
        if let Some(events) = &mut self.events
            && let Err(error) = events.push(&line)
        {
            // Nothing depends on them.
            tracing::warn!("no more event files: {error}");
            self.events = None;
        }
    }

    /// Writes the waiting lines.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        // A write that fails is not repeated: a part of it may be in the file.
        let lines = std::mem::take(&mut self.waiting);
        if !lines.is_empty() {
            fs::append(&self.path, lines.as_bytes())?;
        }
        self.events.as_mut().map_or(Ok(()), EventLog::flush)
    }
}

/// Writes the waiting lines also when an error or a panic ends the run.
impl Drop for MetricsLog {
    fn drop(&mut self) {
        // The error that ends the run is the one to report.
        let _ = self.flush();
    }
}

fn line_of(line: &MetricsLine) -> String {
    // Numbers and strings can always be written as JSON.
    serde_json::to_string(line).map(|text| text + "\n").unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A step that trained S.
    pub(crate) fn train(step: u64) -> MetricsLine {
        MetricsLine::Train(TrainLine {
            step,
            tokens: 10 * step,
            loss: [("S".to_owned(), 2.5)].into(),
            distill: BTreeMap::new(),
            learning_rate: 1e-3,
            grad_norm: 1.0,
            tokens_per_second: 100.0,
        })
    }

    #[test]
    fn lines_after_the_checkpoint_and_an_incomplete_one_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(dir.path(), 0).unwrap();
        let held_out = HeldOut {
            step: 2,
            held_out: [("S".to_owned(), 2.0)].into(),
            sources: vec![[("S".to_owned(), 1.5)].into(), BTreeMap::new()],
        };
        let skipped =
            SkippedLine { step: 2, skipped: "gradient norm".to_owned(), value: None, limit: None };
        let between = [MetricsLine::HeldOut(held_out), MetricsLine::Skipped(skipped)];
        for line in [train(1)].into_iter().chain(between.clone()).chain([train(3)]) {
            log.push(line);
        }
        log.flush().unwrap();
        let path = dir.path().join(MetricsLog::FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + "{\"step\":4,\"tok").unwrap();
        MetricsLog::open(dir.path(), 2).unwrap();
        assert_eq!(MetricsLog::read(dir.path()).unwrap()[1..], between);
    }

    #[test]
    fn waiting_lines_are_written_when_the_log_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(dir.path(), 0).unwrap();
        log.push(train(1));
        assert!(MetricsLog::read(dir.path()).unwrap().is_empty());
        drop(log);
        assert_eq!(MetricsLog::read(dir.path()).unwrap(), [train(1)]);
    }

    #[test]
    fn a_malformed_line_in_the_middle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lines = format!("{}oops\n{}", line_of(&train(1)), line_of(&train(2)));
        std::fs::write(dir.path().join(MetricsLog::FILE), lines).unwrap();
        let message = MetricsLog::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl: line 2"), "{message}");
    }
}
