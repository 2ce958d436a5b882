//! How long every layer takes at every width, here: what milliseconds as a budget mean.

use std::{collections::BTreeMap, time::Instant};

use burn::tensor::Device;
use matformer_core::{Plan, StepDraw, Submodel, fs, rng};
use matformer_eval::{
    latency::{Additivity, Latency, LayerTimes, WalkParts, timed_parts, timed_walk},
    stats::median,
};
use matformer_nn::{Elastic, Folder, State, folder::CONFIG, machine, walk};
use matformer_run::{Bar, Error, Kind, ModelFolder, OrBadInput, Result};
use matformer_train::{TrainConfig, Trainer};

/// Submodels of unequal widths that are measured whole.
const MIXED: u64 = 8;

/// How often and on how much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Times that everything is measured, in turn; medians count.
    pub rounds: usize,
    /// Rows of the batch of a training step.
    pub rows: usize,
}

/// Measures the layers of a model in its workloads: a forward pass, decoding where the kind generates, and
/// a training step.
///
/// # Errors
/// When the model or the device fails.
pub fn measure<K: Kind>(folder: &ModelFolder<K>, effort: Effort) -> Result<Latency> {
    let device = &folder.session.device;
    let mut bar = folder.session.bar("measuring layers");
    let mut workloads = BTreeMap::new();
    let one = K::synthetic(&folder.model, folder.model.config(), 1)?;
    let what = format!("one {}", K::ROW);
    let forward = Forward { folder, input: &one.input, state: State::new() };
    workloads.insert("forward".to_owned(), forward.measure(what, effort.rounds, &mut *bar)?);
    if let Some([prompt, next]) = K::prompt_and_next(&folder.model)? {
        let mut state = State::with_cache(1, K::targets_per_row(folder.model.config()));
        let plan = Plan::one(&folder.submodel(None)?);
        walk(&folder.model, &prompt, &plan, &mut state)?;
        let held = state.cache().map_or(0, |cache| cache.lens()[0]);
        let what = format!("one token behind {held}");
        let decode = Forward { folder, input: &next, state };
        workloads.insert("decode".to_owned(), decode.measure(what, effort.rounds, &mut *bar)?);
    }
    workloads.insert("train".to_owned(), train(folder, effort, device, &mut *bar)?);
    drop(bar);
    Ok(Latency {
        machine: machine::describe(),
        device: format!("{device:?}"),
        config: fs::sha256_file(folder.dir.join(CONFIG)).bad_input()?,
        workloads,
    })
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
    fn measure(mut self, what: String, rounds: usize, bar: &mut dyn Bar) -> Result<LayerTimes> {
        let (trained, whole) = (self.folder.trained(), whole(self.folder));
        let mut parts: Vec<Vec<WalkParts>> = vec![Vec::new(); trained.len()];
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); whole.len()];
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
            bar.at(round as u64, rounds as u64);
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
    effort: Effort,
    device: &Device,
    bar: &mut dyn Bar,
) -> Result<LayerTimes> {
    let with_gradients = folder.session.on(device.clone().autodiff());
    let ModelFolder { model, .. } = ModelFolder::<K>::load(&folder.dir, &with_gradients)?;
    let batch = K::synthetic(&model, model.config(), effort.rows)?;
    let config = TrainConfig {
        tokens_per_step: batch.targets,
        learning_rate: 1e-9,
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(model, &config, 1);
    let whole = whole(folder);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); whole.len()];
    let rounds = effort.rounds.div_ceil(4);
    for round in 0..=rounds {
        for (submodel, times) in whole.iter().zip(&mut times) {
            let draw = StepDraw { terms: vec![(submodel.clone(), 1.0)], separate_batches: false };
            let started = Instant::now();
            trainer.step_on(&draw, &batch)?;
            device.sync().map_err(Error::failed)?;
            // The first is for the device to get ready.
            if round > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        bar.at(round as u64, rounds as u64);
    }
    let measured: Vec<(Submodel, f64)> =
        whole.into_iter().zip(times.into_iter().map(median)).collect();
    let n_layers = folder.space().n_layers;
    let trained = folder.trained();
    let steps = trained.iter().filter_map(|t| measured.iter().find(|(s, _)| s == t));
    let shares: Vec<f64> = steps.map(|(_, step)| step / n_layers as f64).collect();
    let mut found = LayerTimes {
        what: format!("a step on {} {}", effort.rows, K::ROWS),
        constant: 0.0,
        widths: trained.iter().map(|uniform| uniform.widths()[0]).collect(),
        layers: vec![shares; n_layers],
        additivity: Additivity::of(BTreeMap::new()),
    };
    found.additivity = additivity(folder, &found, measured)?;
    Ok(found)
}

/// Adds the constant by which whole uniform submodels exceed the sum of their layers: layers that are timed
/// alone find their weights in caches, and the work between layers is missing.
fn with_constant(times: LayerTimes, measured: &[(Submodel, f64)]) -> Result<LayerTimes> {
    let table = times.table();
    let uniform = measured.iter().filter(|(submodel, _)| submodel.uniform_width().is_some());
    let beyond = uniform.map(|(submodel, whole)| Ok(whole - table.cost(submodel)?));
    let constant = median(beyond.collect::<matformer_core::Result<_>>()?).max(0.0);
    Ok(LayerTimes { constant, ..times })
}

/// Measured times of submodels of unequal widths beside the sums over their layers (which are derived from
/// uniform submodels).
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
