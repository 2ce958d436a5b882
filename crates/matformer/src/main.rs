//! The `matformer` command: arguments, glue and printing.

mod args;
mod commands;
mod failure;
mod folder;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    init_tracing(&args);
    match commands::run(args) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

/// Logs go to standard error; `MATFORMER_LOG` sets the level (default: warn).
fn init_tracing(_: &args::Args) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MATFORMER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
