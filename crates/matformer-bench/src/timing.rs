//! Timings, and what they were measured on.

use std::time::Instant;

use matformer_nn::machine::{peak_memory, resident_memory};

pub use matformer_eval::stats::median;
pub use matformer_nn::machine::{describe, reset_peak};

/// Milliseconds that `work` takes.
pub fn millis(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1e3
}

/// Memory of this process in MB.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// What it holds now.
    pub now: f64,
    /// The most since [`reset_peak`].
    pub peak: f64,
}

/// The memory of this process; Linux only.
pub fn resident() -> Option<Resident> {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    Some(Resident { now: mb(resident_memory()?), peak: mb(peak_memory()?) })
}
