//! `matformer bench`: how long every layer takes at every width, here; and how fast a model generates.

mod decode;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use matformer::{
    bench::layers::{self, Effort},
    eval::latency::{Additivity, Latency},
    run::{Kind, ModelFolder, kind},
    run_file::visit,
};

use super::{Context, show, table};
use crate::{
    args::{BenchArgs, BenchWhat, LayersArgs},
    output::out,
};

pub fn run(args: &BenchArgs, context: &Context) -> Result<ExitCode> {
    match &args.what {
        BenchWhat::Layers(args) => {
            visit!(kind::of_folder(&args.model)?, run_kind(args, context))
        }
        BenchWhat::Decode(args) => decode::run(args, context),
    }
}

fn run_kind<K: Kind>(args: &LayersArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::<K>::load(&args.model, &context.session)?;
    let effort = Effort { rounds: args.rounds, rows: args.rows };
    let latency = layers::measure(&folder, effort)?;
    // A folder that cannot be written to does not cost what a person reads.
    let kept = latency.save(&folder.dir);
    let shown = show(context.json, &latency, |latency| print(&folder, latency))?;
    kept.context("not kept")?;
    if !context.json {
        out!("budgets in ms are of `{}` from now on", K::MILLIS_OF)?;
    }
    Ok(shown)
}

fn print<K: Kind>(folder: &ModelFolder<K>, latency: &Latency) -> Result<()> {
    out!("{}, {}", latency.machine, latency.device)?;
    for (workload, times) in &latency.workloads {
        let mut lines = table::plain();
        let labels = folder.trained().into_iter().map(|uniform| folder.space().label(&uniform));
        lines.set_header(std::iter::once("ms".to_owned()).chain(labels));
        for (layer, row) in times.layers.iter().enumerate() {
            let cells = row.iter().map(|ms| format!("{ms:.3}"));
            lines.add_row(std::iter::once(format!("layer {layer}")).chain(cells));
        }
        let whole = (0..times.widths.len()).map(|at| {
            let layers: f64 = times.layers.iter().map(|row| row[at]).sum();
            format!("{:.3}", times.constant + layers)
        });
        lines.add_row(std::iter::once("all".to_owned()).chain(whole));
        let Additivity { submodels, mean_percent, worst_percent } = &times.additivity;
        out!("{workload}: {} (beside its layers {:.3} ms)", times.what, times.constant)?;
        out!("{lines}")?;
        if !submodels.is_empty() {
            out!(
                "{} whole submodels are {mean_percent:.1} % from the sums of their layers in the mean, \
                 {worst_percent:.1} % at most",
                submodels.len()
            )?;
        }
    }
    Ok(())
}
