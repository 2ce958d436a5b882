//! `matformer bench decode`: how fast a model generates, at each size, in each format, for one text and for several.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use matformer::{
    core::{Resource, Submodel},
    engine::{Engine, EngineOptions, Event, Format, Request},
    nn::{DeviceSpec, device::is_cpu},
    run_file::{Lm, RunKind},
    timing::{self, median},
};
use rayon::prelude::*;
use serde::Serialize;

use super::super::{Context, print_json};
use crate::{
    args::DecodeArgs,
    failure::OrBadInput,
    folder::{ModelFolder, progress_bar},
    kind,
    output::out,
};

/// Tokens of a prompt.
const PROMPT: usize = 16;
/// Floats that are read to learn how fast memory is: 256 MiB.
const FLOATS: usize = 1 << 26;

/// `bench decode --json`.
#[derive(Serialize)]
struct Found {
    machine: String,
    device: String,
    /// Bytes per second that all threads read together, in 10⁹; only of the CPU.
    bandwidth_gb_s: Option<f64>,
    /// New tokens of each text.
    tokens: usize,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    submodel: String,
    dtype: String,
    /// Texts that are generated at the same time.
    batch: usize,
    /// Of all texts together.
    tokens_per_second: f64,
    /// Bytes of the weights times passes per second, over the bandwidth.
    percent_of_bandwidth: Option<f64>,
    /// Until the first token of a prompt, in milliseconds.
    first_token_ms: f64,
}

pub(super) fn run(args: &DecodeArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "bench decode")?;
    let folder = ModelFolder::<Lm>::load(&args.model, &context.device)?;
    let on_cpu = is_cpu(&context.device);
    let formats =
        if on_cpu { &[Format::F32, Format::Bf16, Format::Q8_0][..] } else { &[Format::F32] };
    let bar = progress_bar("measuring generation");
    let bandwidth = on_cpu.then(bandwidth);
    let mut rows = Vec::new();
    for format in formats {
        for submodel in folder.trained() {
            for batch in &args.batch {
                let mut row = measure(&folder, &submodel, *format, *batch, args)?;
                row.percent_of_bandwidth = bandwidth.map(|bandwidth| {
                    let passes = row.tokens_per_second / *batch as f64;
                    100.0 * passes * bytes(&folder, &submodel, *format) / bandwidth
                });
                rows.push(row);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let found = Found {
        machine: timing::describe(),
        device: DeviceSpec::of(&context.device).unwrap_or(context.spec).to_string(),
        bandwidth_gb_s: bandwidth.map(|bytes| bytes / 1e9),
        tokens: args.tokens,
        rows,
    };
    if context.json {
        return print_json(&found);
    }
    print(&found)?;
    Ok(ExitCode::SUCCESS)
}

/// Medians over rounds of an engine with `batch` requests.
fn measure(
    folder: &ModelFolder<Lm>,
    submodel: &Submodel,
    format: Format,
    batch: usize,
    args: &DecodeArgs,
) -> Result<Row> {
    let capacity = Some(PROMPT + args.tokens);
    let options = EngineOptions { slots: batch, capacity, format, ..EngineOptions::default() };
    let mut engine = Engine::new(&folder.model, &options).bad_input()?;
    let vocab_size = folder.model.config().vocab_size;
    let prompt: Vec<u32> = (0..PROMPT).map(|i| (i * 31 % vocab_size) as u32).collect();
    let (mut rates, mut firsts) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for _ in 0..batch {
            engine
                .submit(Request::new(prompt.clone(), submodel.clone(), args.tokens))
                .bad_input()?;
        }
        let started = Instant::now();
        let (mut first, mut tokens) = (None, 0);
        while engine.is_busy() {
            for event in engine.step()? {
                if matches!(event, Event::Token { .. }) {
                    first.get_or_insert_with(|| started.elapsed().as_secs_f64());
                    tokens += 1;
                }
            }
        }
        let first = first.unwrap_or_default();
        // The first of each text comes with its prompt.
        let rest = (tokens - batch.min(tokens)) as f64;
        rates.push(rest / (started.elapsed().as_secs_f64() - first));
        firsts.push(first * 1e3);
    }
    Ok(Row {
        submodel: folder.space().label(submodel),
        dtype: format.to_string(),
        batch,
        tokens_per_second: median(rates),
        percent_of_bandwidth: None,
        first_token_ms: median(firsts),
    })
}

/// Bytes of the weights that a pass reads: of an embedding that is not the head too, one row.
fn bytes(folder: &ModelFolder<Lm>, submodel: &Submodel, format: Format) -> f64 {
    let c = folder.model.config();
    let costs = matformer::lm::costs(c);
    let non_embedding = costs.get(Resource::NonEmbedding).and_then(|table| table.cost(submodel));
    let params = non_embedding.unwrap_or_default() + (c.vocab_size * c.d_model) as f64;
    let per_value = match format {
        Format::F32 => 4.0,
        Format::Bf16 => 2.0,
        Format::Q8_0 => 34.0 / 32.0,
    };
    params * per_value
}

/// Bytes per second of reading memory on all threads; the fastest of some times.
fn bandwidth() -> f64 {
    let values = vec![1f32; FLOATS];
    let seconds = |_| {
        let started = Instant::now();
        let sum: f32 = values.par_chunks(1 << 16).map(lanes).sum();
        std::hint::black_box(sum);
        started.elapsed().as_secs_f64()
    };
    let best = (0..5).map(seconds).fold(f64::INFINITY, f64::min);
    (FLOATS * size_of::<f32>()) as f64 / best
}

/// A sum that keeps several loads on their way.
fn lanes(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 32];
    for part in values.as_chunks::<32>().0 {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane += value;
        }
    }
    lanes.iter().sum()
}

fn print(found: &Found) -> Result<()> {
    out!("{}, {}", found.device, found.machine)?;
    if let Some(rate) = found.bandwidth_gb_s {
        out!("memory is read at {rate:.1} GB/s")?;
    }
    out!("{} new tokens, {PROMPT} of prompt; medians", found.tokens)?;
    out!("submodel  format  texts  tokens/s  of bandwidth  first token")?;
    for row in &found.rows {
        let share = row.percent_of_bandwidth.map_or("-".to_owned(), |p| format!("{p:.0} %"));
        out!(
            "{:8}  {:6}  {:5}  {:8.1}  {:>12}  {:8.1} ms",
            row.submodel,
            row.dtype,
            row.batch,
            row.tokens_per_second,
            share,
            row.first_token_ms
        )?;
    }
    Ok(())
}
