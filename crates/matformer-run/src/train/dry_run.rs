//! What a run would cost. Nothing is written, downloaded or tokenised: of data that is not prepared yet,
//! less is known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use matformer_core::{CostTable, Plan, Resource, Space};
use matformer_nn::Elastic;
use matformer_runfile::RunFile;
use matformer_train::{Batches, TrainConfig, Trainer, TrainingMemory, run_flops, say, step_flops};
use serde::Serialize;

use super::{Need, Target, fitted, model, source};
use crate::{
    Session,
    cache::data_cache_of,
    error::Result,
    kind::{Facts, Kind},
};

/// Steps that are timed, and for how long.
const STEPS: u64 = 20;
const TIME: Duration = Duration::from_secs(10);

/// What a run would cost, as `train --dry-run --json` prints it.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// The trained sizes.
    pub granularities: Vec<Size>,
    /// Steps of the run.
    pub steps: u64,
    /// Training targets of all steps: tokens, or images.
    pub tokens: u64,
    /// Whether the data is prepared; if not, its size is not known, nor are vocabulary and classes.
    pub prepared: bool,
    /// Number of epochs; `null` if the data has not been tokenised yet.
    pub epochs: Option<f64>,
    /// Floating point operations of all steps, by formula.
    pub flops: f64,
    /// Seconds that the run takes by the steps that were timed; evaluations are in it if the data is
    /// prepared.
    pub seconds: f64,
    /// Steps that were timed.
    pub timed_steps: u64,
    /// Seconds of a step.
    pub seconds_per_step: f64,
    /// Memory of training.
    pub memory: Memory,
}

/// A trained size.
#[derive(Debug, Serialize)]
pub struct Size {
    /// Its name.
    pub name: String,
    /// Its feed-forward width.
    pub width: usize,
    /// All parameters.
    pub params: u64,
    /// All but the embeddings.
    pub non_embedding: u64,
}

/// Memory of training in bytes, expected.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// The most that is held at a time.
    pub peak: f64,
    /// By what it is for.
    #[serde(flatten)]
    pub parts: TrainingMemory,
    /// What this machine has left; `null` where it does not say.
    pub available: Option<u64>,
}

/// What a run would cost, and the run as far as it is known.
///
/// # Errors
/// When the data is there and cannot be read, or the run does not fit the memory.
pub fn dry_run<K: Kind>(target: &Target<K>, session: &Session) -> Result<(RunFile<K>, DryRun)> {
    let cache = data_cache_of(&target.dir);
    let prepared = K::prepared(&target.run_with_own_files(), &cache, session)?;
    let run = match &prepared {
        Some(prepared) => fitted(target, prepared)?,
        None => target.run.with_shape(target.expected()),
    };
    let need = Need::of(&run, &session.device)?;
    if let Some(close) = need.check(&run)? {
        say!("note: {close}");
    }
    let (data, batches, model) = match &prepared {
        Some(prepared) => {
            let model = model(&run, target.init.as_ref(), session)?;
            (Some(K::facts(prepared)), source(&run, prepared)?.batches, model)
        }
        // Steps take as long on any weights and any rows of the same shape.
        None => {
            let model = model::<K>(&run, None, session)?;
            let batch = K::synthetic(&model, &run.shape_in_training(), need.rows)?;
            (None, Arc::new(batch) as Arc<dyn Batches<K::Net>>, model)
        }
    };
    let found = measure(&run, data, model, batches.as_ref(), need)?;
    Ok((run, found))
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
            let cost =
                |resource| Ok::<_, matformer_core::Error>(table(resource)?.cost(&submodel)? as u64);
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
    let evaluations = train.steps.div_ceil(train.whole_rounds(train.eval_every)) as f64;
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
