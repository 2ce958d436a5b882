//! The `matformer` command: arguments, glue and printing.

mod args;
mod commands;
mod failure;
mod hints;
mod input;
mod interrupt;
mod logging;
mod output;
mod progress;
mod ranks;
mod terminal;
mod typed;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use matformer::exchange::Launch;

use failure::OrBadInput;

fn main() -> ExitCode {
    matformer::memory::keep();
    matformer::core::quiet_guarded();
    let result = match args::Args::try_parse() {
        Ok(args) => started(args),
        Err(error) if error.use_stderr() => error.exit(),
        // Help, or the version.
        Err(text) => output::checked(text.print()).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}

fn started(args: args::Args) -> Result<ExitCode> {
    let launch = Launch::from_env();
    let rank = launch.as_ref().ok().and_then(Option::as_ref).map_or(0, |launch| launch.rank);
    logging::init(&args, rank)?;
    run(args, launch.bad_input()?)
}

fn run(args: args::Args, launch: Option<Launch>) -> Result<ExitCode> {
    tracing::debug!("matformer {}: {args:?}", env!("CARGO_PKG_VERSION"));
    let code = commands::run(args, launch.as_ref())?;
    output::checked(std::io::stdout().flush())?;
    Ok(code)
}
