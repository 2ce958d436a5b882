//! The `matformer` command: arguments, glue and printing.

mod args;
mod commands;
mod failure;
mod folder;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    end_with_the_reader();
    let args = args::Args::parse();
    init_tracing(&args);
    match commands::run(args) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

/// Whoever reads standard output may go away early (`| head`): an end, not a failure.
fn end_with_the_reader() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("(os error 32)") {
            std::process::exit(0);
        }
        hook(info);
    }));
}

/// Logs go to standard error; `MATFORMER_LOG` sets the level (default: warn).
fn init_tracing(_: &args::Args) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MATFORMER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
