//! Progress of what takes long: bars on standard error.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use matformer::run::{Bar, Session, Watch};

use crate::logging::quiet;

/// A session whose progress a person sees.
pub fn watched(device: burn::tensor::Device) -> Session {
    Session::new(device).watched(Arc::new(Bars))
}

struct Bars;

impl Watch for Bars {
    fn bar(&self, what: &'static str) -> Box<dyn Bar> {
        Box::new(Shown(progress_bar(what)))
    }
}

struct Shown(ProgressBar);

impl Bar for Shown {
    fn at(&mut self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    fn stage(&mut self, what: String) {
        self.0.set_message(what);
    }

    fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn progress_bar(message: &'static str) -> ProgressBar {
    let bar = if quiet() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let bar = bar.with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{msg:22} {bar:30} {percent:>3} % {eta} left") {
        bar.set_style(style);
    }
    bar
}
