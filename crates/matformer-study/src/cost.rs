//! What an elastic run cost, and what its baselines cost together.

use std::path::Path;

use matformer_core::Resource;
use matformer_nn::ModelConfig;
use matformer_runfile::RunFile;
use matformer_train::{MetricsLine, MetricsLog, run_flops};
use serde::Serialize;

use crate::{Budget, alone, budget::baseline};
use matformer_run::{Kind, OrBadInput, Result, train::peak_bytes};

/// What a run, or several, took.
#[derive(Clone, Serialize)]
pub struct Cost {
    /// The run, or the runs.
    pub what: String,
    /// Their steps.
    pub steps: u64,
    /// Of all steps, by formula.
    pub flops: f64,
    /// Of all steps, as they were timed; evaluations and checkpoints are not in it.
    pub seconds: f64,
    /// The most memory that the process held; `null` where the system does not say.
    pub peak_bytes: Option<u64>,
}

/// The elastic run, its baselines, and these together: their FLOPs and seconds added, the most of
/// their memory.
pub(crate) fn costs<K: Kind>(
    run: &Path,
    elastic: &RunFile<K>,
    budget: Budget,
) -> Result<Vec<Cost>> {
    let mut costs = vec![cost("elastic", run, elastic)?];
    for name in elastic.shape().space()?.granularities.names() {
        let baseline = baseline(elastic, name, budget)?;
        let what = format!("{name} alone");
        costs.push(cost(&what, &alone::dir(run, budget, name), &baseline)?);
    }
    let alone = &costs[1..];
    costs.push(Cost {
        what: "all alone".to_owned(),
        steps: alone.iter().map(|c| c.steps).sum(),
        flops: alone.iter().map(|c| c.flops).sum(),
        seconds: alone.iter().map(|c| c.seconds).sum(),
        peak_bytes: alone.iter().filter_map(|c| c.peak_bytes).max(),
    });
    Ok(costs)
}

fn cost<K: Kind>(what: &str, dir: &Path, run: &RunFile<K>) -> Result<Cost> {
    let (shape, train) = (run.shape_in_training(), &run.train);
    let costs = K::costs(&shape);
    let mut seconds = 0.0;
    for line in MetricsLog::read(dir).bad_input()? {
        if let MetricsLine::Train(line) = line {
            seconds += train.tokens_per_step as f64 / line.tokens_per_second;
        }
    }
    Ok(Cost {
        what: what.to_owned(),
        steps: train.steps,
        flops: run_flops(train, &shape.space()?, costs.get(Resource::Flops)?)?,
        seconds,
        peak_bytes: peak_bytes(dir),
    })
}
