//! `/metrics`: counters in the text format of Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use crate::state::State;

/// Upper bounds of the buckets of times, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// What is counted; labels are written as Prometheus reads them.
#[derive(Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// By endpoint and status.
    requests: BTreeMap<String, u64>,
    /// By size and outcome.
    answers: BTreeMap<String, u64>,
    /// By size.
    new_tokens: BTreeMap<String, u64>,
    prompt_tokens: u64,
    drafted: u64,
    kept: u64,
    first_token: Histogram,
    between_tokens: Histogram,
}

#[derive(Default)]
struct Histogram {
    /// One more than there are bounds.
    buckets: [u64; BUCKETS.len() + 1],
    sum: f64,
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[at] += 1;
        self.sum += seconds;
    }

    fn write(&self, name: &str, help: &str, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram")?;
        let mut count = 0;
        for (bound, n) in BUCKETS.iter().zip(self.buckets) {
            count += n;
            writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
        }
        count += self.buckets[BUCKETS.len()];
        writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_sum {}\n{name}_count {count}", self.sum)
    }
}

/// What a finished answer came to.
pub(crate) struct Answered<'a> {
    pub(crate) size: &'a str,
    pub(crate) outcome: &'static str,
    pub(crate) prompt_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) drafted: usize,
    pub(crate) kept: usize,
}

impl Metrics {
    fn with(&self, change: impl FnOnce(&mut Counted)) {
        change(&mut self.counted.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn request(&self, endpoint: &str, status: u16) {
        let labels = format!("endpoint=\"{endpoint}\",status=\"{status}\"");
        self.with(|counted| *counted.requests.entry(labels).or_default() += 1);
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.with(|counted| counted.first_token.add(after));
    }

    pub(crate) fn next_token(&self, after: Duration) {
        self.with(|counted| counted.between_tokens.add(after));
    }

    pub(crate) fn answer(&self, answered: &Answered<'_>) {
        // Sizes with names are few; those of free widths would be without end.
        let size = if answered.size.contains('x') { "other" } else { answered.size };
        self.with(|counted| {
            let labels = format!("size=\"{size}\",outcome=\"{}\"", answered.outcome);
            *counted.answers.entry(labels).or_default() += 1;
            let tokens = counted.new_tokens.entry(format!("size=\"{size}\"")).or_default();
            *tokens += answered.new_tokens as u64;
            counted.prompt_tokens += answered.prompt_tokens as u64;
            counted.drafted += answered.drafted as u64;
            counted.kept += answered.kept as u64;
        });
    }

    /// All of it.
    pub(crate) fn text(&self, state: &State) -> String {
        let mut out = String::new();
        // A string takes everything.
        let _ = self.write(state, &mut out);
        out
    }

    fn write(&self, state: &State, out: &mut String) -> std::fmt::Result {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let families = [
            ("requests_total", "HTTP requests by endpoint and status", &counted.requests),
            ("answers_total", "Answers by size and outcome", &counted.answers),
            ("new_tokens_total", "New tokens by size", &counted.new_tokens),
        ];
        for (name, help, values) in families {
            writeln!(out, "# HELP matformer_{name} {help}\n# TYPE matformer_{name} counter")?;
            for (labels, value) in values {
                writeln!(out, "matformer_{name}{{{labels}}} {value}")?;
            }
        }
        let load = &state.worker.load;
        let free = state.admission.available_permits();
        let taken = (state.slots + state.limits.queue).saturating_sub(free);
        for (name, help, kind, value) in [
            ("prompt_tokens_total", "Tokens of prompts", "counter", counted.prompt_tokens),
            ("drafted_tokens_total", "Tokens that were drafted", "counter", counted.drafted),
            ("kept_tokens_total", "Drafted tokens that were kept", "counter", counted.kept),
            ("requests_active", "Requests that run or wait", "gauge", taken as u64),
            (
                "texts_running",
                "Texts in a slot",
                "gauge",
                load.running.load(Ordering::Relaxed) as u64,
            ),
            (
                "texts_waiting",
                "Texts without one",
                "gauge",
                load.waiting.load(Ordering::Relaxed) as u64,
            ),
            ("slots", "Texts that run at the same time at most", "gauge", state.slots as u64),
        ] {
            writeln!(out, "# HELP matformer_{name} {help}\n# TYPE matformer_{name} {kind}")?;
            writeln!(out, "matformer_{name} {value}")?;
        }
        let first = "Seconds from a request to its first token";
        counted.first_token.write("matformer_first_token_seconds", first, out)?;
        let next = "Seconds from one piece of text to the next";
        counted.between_tokens.write("matformer_between_tokens_seconds", next, out)
    }
}
