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
mod terminal;
mod typed;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::Parser;

fn main() -> ExitCode {
    matformer::memory::keep();
    let result = match args::Args::try_parse() {
        Ok(args) => logging::init(&args).and_then(|()| run(args)),
        Err(error) if error.use_stderr() => error.exit(),
        // Help, or the version.
        Err(text) => output::checked(text.print()).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}

fn run(args: args::Args) -> Result<ExitCode> {
    tracing::debug!("matformer {}: {args:?}", env!("CARGO_PKG_VERSION"));
    let code = commands::run(args)?;
    output::checked(std::io::stdout().flush())?;
    Ok(code)
}
