//! `matformer bench`: how long every layer takes at every width, here; and how fast a model generates.

mod decode;

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use burn::tensor::Device;
use indicatif::ProgressBar;
use matformer::{
    core::{StepDraw, Submodel, fs, rng},
    eval::latency::{Additivity, Latency, LayerTimes, WalkParts, timed_parts, timed_walk},
    nn::{Elastic, Folder, State, folder::CONFIG, walk},
    run_file::{Lm, RunKind, Vit},
    timing::{self, median},
    train::{TrainConfig, Trainer},
};

use super::{Context, print_json};
use crate::{
    args::{BenchArgs, BenchWhat, LayersArgs},
    failure::OrBadInput,
    folder::{ModelFolder, progress_bar},
    kind::{self, Kind},
    output::out,
};

/// Submodels of unequal widths that are measured whole.
const MIXED: u64 = 8;

pub fn run(args: &BenchArgs, context: &Context) -> Result<ExitCode> {
    let args = match &args.what {
        BenchWhat::Layers(args) => args,
        BenchWhat::Decode(args) => return decode::run(args, context),
    };
    match kind::of_folder(&args.model)? {
        RunKind::Lm => layers::<Lm>(args, context),
        RunKind::Vit => layers::<Vit>(args, context),
    }
}

fn layers<K: Kind>(args: &LayersArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::<K>::load(&args.model, &context.device)?;
    let bar = progress_bar("measuring layers");
    let mut workloads = BTreeMap::new();
    let one = K::synthetic(&folder.model, folder.model.config(), 1)?;
    let what = format!("one {}", K::ROW);
    let forward = Forward { folder: &folder, input: &one.input, state: State::new() };
    workloads.insert("forward".to_owned(), forward.measure(what, args.rounds, &bar)?);
    if let Some([prompt, next]) = K::prompt_and_next(&folder.model)? {
        let mut state = State::with_cache(1, K::targets_per_row(folder.model.config()));
        let plan = matformer::core::Plan::one(&folder.submodel(None)?);
        walk(&folder.model, &prompt, &plan, &mut state)?;
        let held = state.cache().map_or(0, |cache| cache.lens()[0]);
        let what = format!("one token behind {held}");
        let decode = Forward { folder: &folder, input: &next, state };
        workloads.insert("decode".to_owned(), decode.measure(what, args.rounds, &bar)?);
    }
    workloads.insert("train".to_owned(), train(&folder, args, &context.device, &bar)?);
    bar.finish_and_clear();
    let latency = Latency {
        machine: timing::describe(),
        device: format!("{:?}", context.device),
        config: fs::sha256_file(folder.dir.join(CONFIG)).bad_input()?,
        workloads,
    };
    // A folder that cannot be written to does not cost what a person reads.
    let kept = latency.save(&folder.dir);
    match context.json {
        true => drop(print_json(&latency)?),
        false => print(&folder, &latency)?,
    }
    kept.context("not kept")?;
    if !context.json {
        out!("budgets in ms are of `{}` from now on", K::MILLIS_OF)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Granularities, and random submodels between them.
fn whole<K: Kind>(folder: &ModelFolder<K>) -> Vec<Submodel> {
    let (trained, n) = (folder.trained(), folder.space().n_layers);
    let width = |rng: &mut _| trained[rng::index(rng, trained.len())].widths()[0];
    let mixed = |index| {
        let mut rng = rng::keyed(0, "bench layers", index);
        Submodel::new((0..n).map(|_| width(&mut rng)).collect())
    };
    let mut all: Vec<Submodel> = (0..MIXED).map(mixed).chain(trained.clone()).collect();
    all.sort();
    all.dedup();
    all
}

/// One input through the model, again and again.
struct Forward<'a, K: Kind> {
    folder: &'a ModelFolder<K>,
    input: &'a <K::Net as Elastic>::Input,
    state: State,
}

impl<K: Kind> Forward<'_, K> {
    /// Widths and whole submodels in turn, so that whatever changes over time meets all of them.
    fn measure(mut self, what: String, rounds: usize, bar: &ProgressBar) -> Result<LayerTimes> {
        let (trained, whole) = (self.folder.trained(), whole(self.folder));
        let mut parts: Vec<Vec<WalkParts>> = vec![Vec::new(); trained.len()];
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); whole.len()];
        bar.set_length(rounds as u64);
        for round in 0..=rounds {
            for (uniform, parts) in trained.iter().zip(&mut parts) {
                let model = &self.folder.model;
                let found = timed_parts(model, self.input, uniform, &mut self.state)?;
                // The first is for the device to get ready.
                if round > 0 {
                    parts.push(found);
                }
            }
            for (submodel, times) in whole.iter().zip(&mut times) {
                let model = &self.folder.model;
                let found = timed_walk(model, self.input, submodel, &mut self.state)?;
                if round > 0 {
                    times.push(found);
                }
            }
            bar.set_position(round as u64);
        }
        let n_layers = self.folder.space().n_layers;
        let of = |parts: &[WalkParts], part: &dyn Fn(&WalkParts) -> f64| {
            median(parts.iter().map(part).collect())
        };
        let all: Vec<WalkParts> = parts.iter().flatten().cloned().collect();
        let layers = (0..n_layers).map(|layer| {
            let mix = of(&all, &|p| p.mix[layer]);
            parts.iter().map(|parts| mix + of(parts, &|p| p.ffn[layer])).collect()
        });
        let found = LayerTimes {
            what,
            constant: 0.0,
            widths: trained.iter().map(|uniform| uniform.widths()[0]).collect(),
            layers: layers.collect(),
            additivity: Additivity::of(BTreeMap::new()),
        };
        let measured: Vec<(Submodel, f64)> =
            whole.into_iter().zip(times.into_iter().map(median)).collect();
        let mut found = with_constant(found, &measured)?;
        found.additivity = additivity(self.folder, &found, measured)?;
        Ok(found)
    }
}

/// Training steps at each width, cut into layers of equal shares, and at random widths per layer: one
/// trainer takes them in turn, at a learning rate that changes nothing.
fn train<K: Kind>(
    folder: &ModelFolder<K>,
    args: &LayersArgs,
    device: &Device,
    bar: &ProgressBar,
) -> Result<LayerTimes> {
    let ModelFolder { model, .. } =
        ModelFolder::<K>::load(&folder.dir, &device.clone().autodiff())?;
    let batch = K::synthetic(&model, model.config(), args.rows)?;
    let config = TrainConfig {
        tokens_per_step: batch.targets,
        learning_rate: 1e-9,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model, &config, 1);
    let whole = whole(folder);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); whole.len()];
    let rounds = args.rounds.div_ceil(4);
    bar.set_length(rounds as u64);
    for round in 0..=rounds {
        for (submodel, times) in whole.iter().zip(&mut times) {
            let draw = StepDraw { terms: vec![(submodel.clone(), 1.0)], separate_batches: false };
            let started = Instant::now();
            trainer.step_on(&draw, &batch)?;
            device.sync()?;
            // The first is for the device to get ready.
            if round > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        bar.set_position(round as u64);
    }
    let measured: Vec<(Submodel, f64)> =
        whole.into_iter().zip(times.into_iter().map(median)).collect();
    let n_layers = folder.space().n_layers;
    let trained = folder.trained();
    let steps = trained.iter().filter_map(|t| measured.iter().find(|(s, _)| s == t));
    let shares: Vec<f64> = steps.map(|(_, step)| step / n_layers as f64).collect();
    let mut found = LayerTimes {
        what: format!("a step on {} {}", args.rows, K::ROWS),
        constant: 0.0,
        widths: trained.iter().map(|uniform| uniform.widths()[0]).collect(),
        layers: vec![shares; n_layers],
        additivity: Additivity::of(BTreeMap::new()),
    };
    found.additivity = additivity(folder, &found, measured)?;
    Ok(found)
}

/// Times of layers with the constant by which whole uniform submodels exceed the sums of their layers: parts
/// by themselves find their weights in caches, and miss what is between them.
fn with_constant(times: LayerTimes, measured: &[(Submodel, f64)]) -> Result<LayerTimes> {
    let table = times.table();
    let uniform = measured.iter().filter(|(submodel, _)| submodel.uniform_width().is_some());
    let beyond = uniform.map(|(submodel, whole)| Ok(whole - table.cost(submodel)?));
    let constant = median(beyond.collect::<matformer::core::Result<_>>()?).max(0.0);
    Ok(LayerTimes { constant, ..times })
}

/// Submodels of unequal widths, measured whole, beside the sums of their layers: of uniform ones the sums were
/// made.
fn additivity<K: Kind>(
    folder: &ModelFolder<K>,
    times: &LayerTimes,
    measured: Vec<(Submodel, f64)>,
) -> Result<Additivity> {
    let mixed = measured.into_iter().filter(|(submodel, _)| submodel.uniform_width().is_none());
    let table = times.table();
    let pair = |(submodel, measured): (Submodel, f64)| {
        Ok((folder.space().label(&submodel), [measured, table.cost(&submodel)?]))
    };
    Ok(Additivity::of(mixed.map(pair).collect::<Result<_>>().bad_input()?))
}

fn print<K: Kind>(folder: &ModelFolder<K>, latency: &Latency) -> Result<()> {
    out!("{}, {}", latency.machine, latency.device)?;
    for (workload, times) in &latency.workloads {
        let mut lines = comfy_table::Table::new();
        lines.load_style(comfy_table::presets::NOTHING);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_is_what_whole_submodels_take_beyond_their_layers() {
        let times = LayerTimes {
            what: String::new(),
            constant: 0.0,
            widths: vec![8, 16],
            layers: vec![vec![1.0, 2.0], vec![1.5, 2.5]],
            additivity: Additivity::of(BTreeMap::new()),
        };
        let whole = |widths: [usize; 2], millis| (Submodel::new(widths.to_vec()), millis);
        let (s, m) = (whole([8, 8], 3.0), whole([16, 16], 5.5));
        // By 0.5 and 1 ms more than 2.5 and 4.5; what is not uniform is to be compared, not fitted.
        let constant =
            |measured: &[(Submodel, f64)]| with_constant(times.clone(), measured).unwrap().constant;
        assert_eq!(constant(&[s.clone(), m, s, whole([8, 16], 99.0)]), 0.5);
        // A sum that is more than the whole takes nothing away.
        assert_eq!(constant(&[whole([8, 8], 1.0)]), 0.0);
    }
}
