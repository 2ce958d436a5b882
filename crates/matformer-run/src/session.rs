//! What the calls of a program have in common: the device, the other processes, and who follows their
//! progress.

use std::{fmt, sync::Arc};

use burn::tensor::Device;
use matformer_exchange::Exchange;

/// The device that is computed on, the other processes of the run, and who follows what takes long.
#[derive(Clone)]
pub struct Session {
    /// The device, without gradients.
    pub device: Device,
    /// The other processes that train or measure with this one.
    pub exchange: Exchange,
    /// Whether they help to measure.
    helped: bool,
    watch: Arc<dyn Watch>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Session {
    /// A session whose progress nobody follows.
    pub fn new(device: Device) -> Self {
        Self { device, exchange: Exchange::local(), helped: false, watch: Arc::new(Unwatched) }
    }

    /// The same session on another device.
    pub fn on(&self, device: Device) -> Self {
        Self { device, ..self.clone() }
    }

    /// The same session, as a rank of `exchange`.
    pub fn among(self, exchange: Exchange) -> Self {
        Self { exchange, ..self }
    }

    /// The same session, in which the other ranks help to measure.
    pub fn helped(&self) -> Self {
        Self { helped: true, ..self.clone() }
    }

    /// The same session, without the other ranks.
    pub fn alone(&self) -> Self {
        Self { exchange: Exchange::local(), helped: false, ..self.clone() }
    }

    /// The other ranks, where they help to measure.
    pub fn helpers(&self) -> Option<&Exchange> {
        (self.helped && !self.exchange.is_alone()).then_some(&self.exchange)
    }

    /// The same session, followed by `watch`.
    pub fn watched(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Begins something that takes long, called `what`; it ends when the bar is dropped.
    pub fn bar(&self, what: &'static str) -> Box<dyn Bar> {
        self.watch.bar(what)
    }
}

/// Follows what takes long.
pub trait Watch: Send + Sync {
    /// Something begins.
    fn bar(&self, what: &'static str) -> Box<dyn Bar>;
}

/// Something that takes long; it ends when this is dropped.
pub trait Bar {
    /// So much of it is done.
    fn at(&mut self, done: u64, total: u64);

    /// Another part of it begins.
    fn stage(&mut self, what: String);

    /// Whether a person sees the bar.
    fn is_shown(&self) -> bool;
}

/// Follows nothing.
struct Unwatched;

impl Watch for Unwatched {
    fn bar(&self, _: &'static str) -> Box<dyn Bar> {
        Box::new(Self)
    }
}

impl Bar for Unwatched {
    fn at(&mut self, _: u64, _: u64) {}

    fn stage(&mut self, _: String) {}

    fn is_shown(&self) -> bool {
        false
    }
}
