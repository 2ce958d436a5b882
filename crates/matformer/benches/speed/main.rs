//! How long things take: `cargo xtask bench <what>`. Numbers are of this machine and this run.

mod joint;
mod memory;
mod ops;
mod peer;
mod search;
mod sweep;
mod train;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "speed", about = "Timings, beside what the arithmetic predicts")]
struct Args {
    #[command(subcommand)]
    what: What,
    /// One JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    // What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A joint pass over four granularities against four passes of one granularity each
    Joint(joint::JointArgs),
    /// A training step at every width, beside the limit of the matrix products and PyTorch
    Train(train::TrainArgs),
    /// Peak memory of a training step, beside PyTorch's
    Memory(memory::MemoryArgs),
    /// Exact search of a gallery of vectors, beside the products alone and faiss
    Search(search::SearchArgs),
    /// A sweep over all submodels against measuring one by one
    Sweep(sweep::SweepArgs),
}

fn main() -> Result<()> {
    // As the command does.
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
