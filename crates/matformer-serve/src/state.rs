//! What all requests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use matformer_core::{Space, Submodel};
use matformer_data::Tokenizer;
use tokio::sync::{Semaphore, watch};

use crate::{Limits, Log, ServedModel, metrics::Metrics, worker::Worker};

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It was asked to stop: what runs goes on, what is new is refused.
    Draining,
    /// What still runs is cut off.
    Cut,
}

pub(crate) struct State {
    pub(crate) model: ServedModel,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) space: Space,
    /// Tokens of a request at most.
    pub(crate) context: usize,
    pub(crate) vocab_size: usize,
    pub(crate) worker: Worker,
    pub(crate) slots: usize,
    pub(crate) limits: Limits,
    pub(crate) api_keys: Vec<String>,
    pub(crate) narrow_when_busy: bool,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    /// A permit for each request that runs or waits.
    pub(crate) admission: Arc<Semaphore>,
    /// Each running request holds a receiver.
    pub(crate) alive: watch::Sender<()>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) counter: AtomicU64,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl State {
    pub(crate) fn label(&self, submodel: &Submodel) -> String {
        self.space.label(submodel)
    }

    /// New tokens that a request may ask for.
    pub(crate) fn most_tokens(&self) -> usize {
        self.limits.max_tokens.unwrap_or(self.context).min(self.context)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// The size of a request that names none: the default, or, while texts wait and it is asked for, a narrower one; one
    /// step for as many waiting texts as there are slots.
    pub(crate) fn narrowed(&self) -> Submodel {
        let waiting = self.worker.load.waiting.load(Ordering::Relaxed);
        let default = &self.model.default;
        if !self.narrow_when_busy || waiting == 0 {
            return default.clone();
        }
        let at = self.model.trained.iter().position(|size| size == default);
        let steps = waiting.div_ceil(self.slots);
        at.map_or(default, |at| &self.model.trained[at.saturating_sub(steps)]).clone()
    }

    /// A number for a request, which no other has.
    pub(crate) fn number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}
