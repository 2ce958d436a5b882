//! `train --dry-run`: what a run would be, with nothing written.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use matformer::{
    core::{CostTable, Plan, Resource, Space, fs},
    nn::Elastic,
    run_file::RunFile,
    train::{TrainConfig, Trainer, TrainingMemory, duration, run_flops, step_flops},
};
use serde::Serialize;

use super::{
    fit::{Need, bytes},
    fitted, model, source,
    target::Target,
};
use crate::{
    commands::{Context, count, print_json},
    kind::{Facts, Kind, Source},
    output::out,
};

/// Steps that are timed, and for how long.
const STEPS: u64 = 20;
const TIME: Duration = Duration::from_secs(10);

/// What `train --dry-run --json` prints.
#[derive(Serialize)]
struct DryRun {
    granularities: Vec<Size>,
    steps: u64,
    tokens: u64,
    /// How often each training token is seen.
    epochs: f64,
    flops: f64,
    /// Seconds that the run takes by the steps that were timed.
    seconds: f64,
    timed_steps: u64,
    seconds_per_step: f64,
    memory: Memory,
}

#[derive(Serialize)]
struct Size {
    name: String,
    width: usize,
    params: f64,
    non_embedding: f64,
}

/// Bytes, expected.
#[derive(Serialize)]
struct Memory {
    peak: f64,
    #[serde(flatten)]
    parts: TrainingMemory,
    /// In this machine; `null` where it does not say.
    available: Option<u64>,
}

pub fn run<K: Kind>(target: &Target<K>, context: &Context) -> Result<ExitCode> {
    // Removed at the end: what is not prepared yet stays so.
    let scratch = fs::scratch_dir(std::env::temp_dir().join("matformer"))?;
    let prepared = K::prepare(&target.run, scratch.path())?;
    let run = fitted(target, &prepared)?;
    let need = Need::of(&run, context)?;
    need.check(&run)?;
    let batches = source(&run, &prepared)?;
    let model = model(&run, target.init.as_ref(), context)?;
    let found = measure(&run, &K::facts(&prepared), model, &batches, need)?;
    match context.json {
        true => print_json(&found),
        false => print(&run, &found),
    }
}

fn measure<K: Kind>(
    run: &RunFile<K>,
    data: &Facts,
    model: K::Net,
    source: &Source<K>,
    need: Need,
) -> Result<DryRun> {
    let (train, space) = (&run.train, model.space().clone());
    let costs = K::costs(run.shape());
    let table = |resource| costs.get(resource);
    let granularities = space
        .granularities
        .iter()
        .map(|g| {
            let submodel = space.uniform(&g.name)?;
            let cost = |resource| table(resource)?.cost(&submodel);
            Ok(Size {
                name: g.name.clone(),
                width: g.width,
                params: cost(Resource::Params)?,
                non_embedding: cost(Resource::NonEmbedding)?,
            })
        })
        .collect::<Result<_>>()?;
    // Training rows may be shorter than those of an evaluation.
    let in_training = K::costs(&run.shape_in_training());
    let trained = in_training.get(Resource::Flops)?;
    let flops = run_flops(train, &space, trained)?;
    let pace = pace(run, &space, trained, model, source)?;
    let evaluations = train.steps.div_ceil(train.eval_every) as f64;
    let held_out = data.held_out.min(train.eval_tokens) as f64;
    let evaluation = table(Resource::Flops)?.plan(&Plan::merged(&space.uniforms())?)? * held_out;
    let seen = data.train.max(1) as f64;
    let tokens = train.steps * train.tokens_per_step as u64;
    Ok(DryRun {
        granularities,
        steps: train.steps,
        tokens,
        epochs: tokens as f64 / seen,
        flops,
        seconds: (flops + evaluations * evaluation) / pace.flops_per_second,
        timed_steps: pace.steps,
        seconds_per_step: flops / pace.flops_per_second / train.steps as f64,
        memory: Memory { peak: need.peak, parts: need.memory, available: need.available },
    })
}

/// How fast the first steps were.
struct Pace {
    steps: u64,
    flops_per_second: f64,
}

/// Times a few of the run's own steps; the first, which warms up, does not count.
fn pace<K: Kind>(
    run: &RunFile<K>,
    space: &Space,
    forward: &CostTable,
    model: K::Net,
    source: &Source<K>,
) -> Result<Pace> {
    // What is left out, or learnt, does not matter here.
    let train = TrainConfig { overfit: None, ..run.train.clone() };
    let batches = source.batches.as_ref();
    let per_step = train.batches_per_step(batches.targets_per_batch())?;
    let mut trainer = Trainer::new(model, &train, per_step);
    trainer.step(batches)?;
    let (started, mut steps, mut flops) = (Instant::now(), 0, 0.0);
    while steps < STEPS && (steps == 0 || started.elapsed() < TIME) {
        let report = trainer.step(batches)?;
        flops += step_flops(&train, space, forward, report.step)?;
        steps += 1;
    }
    Ok(Pace { steps, flops_per_second: flops / started.elapsed().as_secs_f64() })
}

fn print<K: Kind>(run: &RunFile<K>, found: &DryRun) -> Result<ExitCode> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "width", "params", "non-embedding"]);
    for size in &found.granularities {
        let numbers = [size.width.to_string(), count(size.params), count(size.non_embedding)];
        table.add_row([vec![size.name.clone()], numbers.to_vec()].concat());
    }
    out!("{table}")?;
    let DryRun { memory, .. } = found;
    let parts = [
        ("program", memory.parts.program),
        ("weights", memory.parts.weights),
        ("gradients", memory.parts.gradients),
        ("moments", memory.parts.moments),
        ("moving average", memory.parts.average),
        ("activations", memory.parts.activations),
        ("logits", memory.parts.logits),
    ];
    let parts = parts.iter().filter(|(_, n)| *n > 0.0);
    let parts: Vec<String> = parts.map(|(name, n)| format!("{name} {}", bytes(*n))).collect();
    let available = match memory.available {
        Some(n) => format!("; {} are available", bytes(n as f64)),
        None => String::new(),
    };
    out!(
        "{:<8} {} in {}, {:.2} epochs",
        K::TARGETS,
        count(found.tokens as f64),
        super::outcome::steps(found.steps),
        found.epochs
    )?;
    out!("FLOPs    {} with draw {}", count(found.flops), run.train.draw)?;
    out!(
        "time     about {}: {:.3} s a step, by {} timed, and evaluations",
        duration(found.seconds),
        found.seconds_per_step,
        found.timed_steps
    )?;
    out!("memory   about {}: {}{available}", bytes(memory.peak), parts.join(", "))?;
    out!("nothing was written")?;
    Ok(ExitCode::SUCCESS)
}
