//! `train --dry-run`: what a run would be. Nothing is written, downloaded or tokenised: of data that is not
//! prepared yet, less is known.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use matformer::{
    core::{CostTable, Plan, Resource, Space},
    nn::Elastic,
    run_file::RunFile,
    train::{Batches, TrainConfig, Trainer, TrainingMemory, duration, run_flops, step_flops},
};
use serde::Serialize;

use super::{
    fit::{Need, bytes},
    fitted, model, source,
    target::Target,
};
use crate::{
    commands::{Context, count, operations, print_json},
    folder::data_cache_of,
    kind::{Facts, Kind},
    logging::say,
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
    /// Whether the data is prepared; if not, its size is not known, nor are vocabulary and classes.
    prepared: bool,
    /// How often each training token is seen; `null` before the data is prepared.
    epochs: Option<f64>,
    flops: f64,
    /// Seconds that the run takes by the steps that were timed; evaluations are in it if the data is
    /// prepared.
    seconds: f64,
    timed_steps: u64,
    seconds_per_step: f64,
    memory: Memory,
}

#[derive(Serialize)]
struct Size {
    name: String,
    width: usize,
    params: u64,
    non_embedding: u64,
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
    let prepared = K::prepared(&target.run_with_own_files(), &data_cache_of(&target.dir))?;
    let run = match &prepared {
        Some(prepared) => fitted(target, prepared)?,
        None => target.run.with_shape(target.expected()),
    };
    let need = Need::of(&run, context)?;
    if let Some(close) = need.check(&run)? {
        say!("note: {close}");
    }
    let (data, batches, model) = match &prepared {
        Some(prepared) => {
            let model = model(&run, target.init.as_ref(), context)?;
            (Some(K::facts(prepared)), source(&run, prepared)?.batches, model)
        }
        // Steps take as long on any weights and any rows of the same shape.
        None => {
            let model = model::<K>(&run, None, context)?;
            let batch = K::synthetic(&model, &run.shape_in_training(), need.rows)?;
            (None, Arc::new(batch) as Arc<dyn Batches<K::Net>>, model)
        }
    };
    let found = measure(&run, data, model, batches.as_ref(), need)?;
    match context.json {
        true => print_json(&found),
        false => print(&run, &found),
    }
}

fn measure<K: Kind>(
    run: &RunFile<K>,
    data: Option<Facts>,
    model: K::Net,
    batches: &dyn Batches<K::Net>,
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
            let cost = |resource| {
                Ok::<_, matformer::core::Error>(table(resource)?.cost(&submodel)? as u64)
            };
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
    let pace = pace(run, &space, trained, model, batches)?;
    let evaluations = train.steps.div_ceil(train.eval_every) as f64;
    let held_out = data.as_ref().map_or(0, |data| data.held_out.min(train.eval_tokens));
    let evaluation = table(Resource::Flops)?.plan(&Plan::merged(&space.uniforms())?)?;
    let tokens = train.steps * train.tokens_per_step as u64;
    Ok(DryRun {
        granularities,
        steps: train.steps,
        tokens,
        prepared: data.is_some(),
        epochs: data.map(|data| tokens as f64 / data.train.max(1) as f64),
        flops,
        seconds: (flops + evaluations * evaluation * held_out as f64) / pace.flops_per_second,
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
    batches: &dyn Batches<K::Net>,
) -> Result<Pace> {
    // What is left out, or learnt, does not matter here.
    let train = TrainConfig { overfit: None, ..run.train.clone() };
    let per_step = train.batches_per_step(batches.targets_per_batch())?;
    // A teacher of another folder takes as long as one like this model.
    let frozen = train.distill.as_ref().is_some_and(|distill| distill.folder().is_some());
    let teacher = frozen.then(|| model.clone());
    let mut trainer = Trainer::new(model, &train, per_step);
    if let Some(teacher) = teacher {
        trainer = trainer.with_teacher(teacher);
    }
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
        let numbers =
            [size.width.to_string(), count(size.params as f64), count(size.non_embedding as f64)];
        table.add_row([vec![size.name.clone()], numbers.to_vec()].concat());
    }
    out!("{table}")?;
    let DryRun { memory, .. } = found;
    let parts = [
        ("program", memory.parts.program),
        ("weights", memory.parts.weights),
        ("gradients", memory.parts.gradients),
        ("moments", memory.parts.moments),
        ("teacher", memory.parts.teacher),
        ("moving average", memory.parts.average),
        ("activations", memory.parts.activations),
        ("logits", memory.parts.logits),
    ];
    let parts = parts.iter().filter(|(_, n)| *n > 0.0);
    let parts: Vec<String> = parts.map(|(name, n)| format!("{name} {}", bytes(*n))).collect();
    let epochs = match found.epochs {
        Some(epochs) => format!(", {epochs:.2} epochs"),
        None => String::new(),
    };
    let available = match memory.available {
        Some(n) => format!("; {} are available", bytes(n as f64)),
        None => String::new(),
    };
    out!(
        "{:<8} {} in {}{epochs}",
        K::TARGETS,
        count(found.tokens as f64),
        super::outcome::steps(found.steps),
    )?;
    if !found.prepared {
        out!("data     {}", K::not_prepared(run))?;
    }
    out!("FLOPs    {} with draw {}", operations(found.flops), run.train.draw)?;
    out!(
        "time     about {}: {:.3} s a step, by {} timed, {} evaluations",
        duration(found.seconds),
        found.seconds_per_step,
        found.timed_steps,
        if found.prepared { "and" } else { "without" }
    )?;
    out!("memory   about {}: {}{available}", bytes(memory.peak), parts.join(", "))?;
    out!("nothing was written")?;
    Ok(ExitCode::SUCCESS)
}
