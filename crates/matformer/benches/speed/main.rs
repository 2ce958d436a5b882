//! Speed benchmarks, run by `cargo xtask bench <what>`. The numbers hold for this machine and this run.

mod joint;
mod memory;
mod ops;
mod peer;
mod rates;
mod search;
mod shapes;
mod sweep;
mod train;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "speed", about = "Measure speed and compare it with what the FLOPs predict")]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Print one JSON document to standard output
    #[arg(long, global = true)]
    json: bool,
    // `cargo bench` adds this argument.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compare a joint pass over four granularities with four passes of one granularity each
    Joint(joint::JointArgs),
    /// Time a training step at every width; compare it with its matrix products and with PyTorch
    Train(train::TrainArgs),
    /// Measure the peak memory of a training step; compare it with PyTorch
    Memory(memory::MemoryArgs),
    /// Time exact search in a gallery of vectors; compare it with its products and with faiss
    Search(search::SearchArgs),
    /// Compare a sweep over all submodels with measuring them one by one
    Sweep(sweep::SweepArgs),
}

fn main() -> Result<()> {
    // The `matformer` command does the same.
    matformer::memory::keep();
    let args = Args::parse();
    match args.what {
        What::Joint(joint) => joint::run(&joint, args.json),
        What::Train(train) => train::run(&train, args.json),
        What::Memory(memory) => memory::run(&memory, args.json),
        What::Search(search) => search::run(&search, args.json),
        What::Sweep(sweep) => sweep::run(&sweep, args.json),
    }
}
