//! Prepares files, folders or hub names and prints what came of it:
//! `cargo run --release -p matformer-data --example prepare -- docs crates`

use std::path::Path;
use std::time::Instant;

use matformer_data::{BatchShape, Batches, DataConfig, Error, Progress, prepare};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sources: Vec<String> = std::env::args().skip(1).collect();
    let config = match sources.as_slice() {
        [] => return Err("usage: prepare PATHS: files, folders and hub names".into()),
        sources => DataConfig {
            paths: sources.iter().map(|source| source.parse()).collect::<Result<_, _>>()?,
            ..DataConfig::default()
        },
    };
    let start = Instant::now();
    let mut stage = None;
    let mut report = |progress: Progress| {
        if stage.replace(progress.stage) != Some(progress.stage) {
            eprintln!("{:5.1} s  {:?}", start.elapsed().as_secs_f64(), progress.stage);
        }
    };
    let prepared = match prepare(&config, Path::new("target/data"), &mut report) {
        Ok(prepared) => prepared,
        Err(error) => return Err(explain(&error).into()),
    };
    eprintln!("{:5.1} s  done", start.elapsed().as_secs_f64());
    println!("{}{}", prepared.dir().display(), if prepared.reused { " (reused)" } else { "" });
    println!("data {}  vocabulary {}", prepared.data_hash().short(), prepared.summary.vocab_size);
    println!("train     {:?}", prepared.summary.train);
    println!("held out  {:?}", prepared.summary.held_out);
    println!("{:?}", prepared.summary.dropped);
    let held_out = prepared.held_out_part(Some(200_000))?;
    println!(
        "measured on {} tokens of {} documents",
        held_out.tokens(),
        held_out.documents().len()
    );
    let baselines = prepared.baselines(&held_out)?;
    println!(
        "bits per byte: byte unigram {:.3}, gzip -9 {:.3}",
        baselines.byte_unigram, baselines.gzip
    );
    let batches = Batches::new(prepared.train()?, BatchShape { rows: 1, seq_len: 64 }, 0)?;
    println!("a window: {:?}", prepared.tokenizer()?.decode(&batches.at(0, 0, 1).inputs)?);
    Ok(())
}

fn explain(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}
