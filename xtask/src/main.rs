//! The project's workflows: `cargo xtask <command>`.
//!
//! Depends on no crate of the project: it builds the `matformer` binary and runs it.

mod build;
mod check;
mod demo;
mod parity;
#[cfg(test)]
mod repository;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's workflows")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train an elastic language model on Rust sources, measure every size, draw the curve
    Demo {
        /// Start over instead of reusing what is complete
        #[arg(long)]
        fresh: bool,
    },
    /// Run all tests, doctests included
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Everything that must hold before a change lands, cheapest first
    Ci,
    /// Compare with another runtime on the same weights
    Parity {
        #[command(subcommand)]
        peer: Peer,
    },
}

#[derive(Debug, Subcommand)]
enum Peer {
    /// Load the run and a slice of it in Hugging Face transformers and compare log-probabilities
    Transformers {
        /// Python that has torch and transformers
        #[arg(long, default_value = "python3")]
        python: String,
        /// Trained run
        #[arg(long, default_value = "runs/demo")]
        run: String,
        /// Submodel to slice
        #[arg(long, default_value = "S")]
        submodel: String,
    },
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Demo { fresh } => demo::run(fresh),
        Command::Test { filter } => check::test(filter.as_deref()),
        Command::Ci => check::ci(),
        Command::Parity { peer: Peer::Transformers { python, run, submodel } } => {
            parity::transformers(&python, &run, &submodel)
        }
    }
}
