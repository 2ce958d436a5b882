//! From an error to what a person reads and the exit code.

use std::{
    fmt,
    io::{ErrorKind, Write},
    process::ExitCode,
};

use matformer::{run, train::SAID};

pub use crate::hints::Hinted;
use crate::{hints::hint, logging::rank_prefix};

/// Exit code of input that cannot be worked with.
const BAD_INPUT: u8 = 2;
/// Exit code of everything else that fails.
pub const FAILURE: u8 = 1;
/// Exit code of a run that was interrupted and saved.
pub const INTERRUPTED: u8 = 130;

/// Marks an error as bad input: nothing was written, and the same call will fail again.
#[derive(Debug)]
pub struct BadInput(anyhow::Error);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BadInput {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Marks errors of a result as bad input.
pub trait OrBadInput<T> {
    /// The same result, whose error makes the process exit with 2.
    fn bad_input(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrBadInput<T> for Result<T, E> {
    fn bad_input(self) -> anyhow::Result<T> {
        self.map_err(bad_input)
    }
}

/// An error that makes the process exit with 2.
pub fn bad_input(error: impl Into<anyhow::Error>) -> anyhow::Error {
    BadInput(error.into()).into()
}

/// An error, its causes and its hint.
pub fn said(error: &anyhow::Error) -> String {
    match error.chain().find_map(hint) {
        Some(hint) => format!("{}\nhint: {hint}", message(error)),
        None => message(error),
    }
}

/// Says an error, its causes and its hint; returns the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    say(error);
    ExitCode::from(code(error))
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    let is_input = |cause: &run::Error| cause.is_input();
    let inner = unmarked(error);
    let marked = error.is::<BadInput>();
    let bad_input = marked || inner.downcast_ref::<run::Error>().is_some_and(is_input);
    if bad_input && !out_of_space(inner) { BAD_INPUT } else { FAILURE }
}

fn unmarked(error: &anyhow::Error) -> &anyhow::Error {
    error.downcast_ref::<BadInput>().map_or(error, |marked| &marked.0)
}

/// Says an error, its causes and its hint.
pub fn say(error: &anyhow::Error) {
    let text = format!("{}error: {}", rank_prefix(), said(unmarked(error)));
    if tracing::enabled!(target: SAID, tracing::Level::ERROR) {
        tracing::error!(target: SAID, "{text}");
    } else {
        // Before anything else was set up.
        drop(writeln!(std::io::stderr(), "{text}"));
    }
}

/// A full disk is not the input's fault, whatever was being done.
fn out_of_space(error: &anyhow::Error) -> bool {
    kinds(error).any(|kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

fn kinds(error: &anyhow::Error) -> impl Iterator<Item = ErrorKind> + '_ {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.map(std::io::Error::kind)
}

/// The error and its causes, each said once: some errors say their cause themselves.
pub fn message(error: &anyhow::Error) -> String {
    run::chain(error.as_ref())
}
