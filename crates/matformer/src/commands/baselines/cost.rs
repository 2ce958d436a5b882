//! What an elastic run cost, and what its baselines cost together.

use std::path::Path;

use anyhow::Result;
use matformer::{
    core::Resource,
    nn::ModelConfig,
    run_file::RunFile,
    train::{MetricsLine, MetricsLog, duration, run_flops},
};
use serde::Serialize;

use super::budget::baseline;
use crate::{
    args::Budget,
    commands::{alone, operations, train},
    failure::OrBadInput,
    kind::Kind,
    output::out,
};

/// What a run, or several, took.
#[derive(Clone, Serialize)]
pub struct Cost {
    pub what: String,
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
pub fn of<K: Kind>(run: &Path, elastic: &RunFile<K>, budget: Budget) -> Result<Vec<Cost>> {
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
        peak_bytes: train::peak_bytes(dir),
    })
}

/// A table of them.
pub fn print(costs: &[Cost]) -> Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "steps", "FLOPs", "time of the steps", "peak memory"]);
    for cost in costs {
        table.add_row([
            cost.what.clone(),
            cost.steps.to_string(),
            operations(cost.flops),
            duration(cost.seconds),
            cost.peak_bytes.map_or("-".to_owned(), |bytes| train::bytes(bytes as f64)),
        ]);
    }
    out!("{table}")
}
