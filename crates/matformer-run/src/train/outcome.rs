//! What is kept of a run beside its model: how much memory it held, which steps it left out.

use std::path::Path;

use matformer_core::fs;
use matformer_nn::machine::peak_memory;
use matformer_train::{MetricsLine, MetricsLog};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The file in a run folder that has the most memory that a process of the run held.
const RESOURCES: &str = "resources.json";

/// What [`RESOURCES`] holds.
#[derive(Serialize, Deserialize)]
struct Resources {
    peak_bytes: u64,
}

/// The most memory that training into `dir` held, where it is known.
pub fn peak_bytes(dir: &Path) -> Option<u64> {
    let kept: Resources = serde_json::from_slice(&fs::read(dir.join(RESOURCES)).ok()?).ok()?;
    Some(kept.peak_bytes)
}

/// Keeps this process's peak, unless an earlier one's was higher.
pub fn keep_peak(dir: &Path) {
    let peak = peak_memory().max(peak_bytes(dir));
    if let Some(peak_bytes) = peak {
        let text = json!({ "peak_bytes": peak_bytes }).to_string();
        // Nothing depends on it.
        let _ = fs::write_atomic(dir.join(RESOURCES), text.as_bytes());
    }
}

/// Number of skipped steps of a run, according to its log.
pub fn skipped(dir: &Path) -> usize {
    let lines = MetricsLog::read(dir).unwrap_or_default();
    lines.iter().filter(|line| matches!(line, MetricsLine::Skipped(_))).count()
}
