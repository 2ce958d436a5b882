//! How long each layer takes at each width, and whether that adds up.

use std::{collections::BTreeMap, path::Path, time::Instant};

use matformer_core::{CostTable, Plan, Resource, Submodel, fs};
use matformer_nn::{Elastic, Part, State, walk, walk_through};
use serde::{Deserialize, Serialize};

use crate::Result;

/// `latency.json` of a model folder: what `matformer bench layers` measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// What it was measured on: processor, instruction set, threads.
    pub machine: String,
    /// The device, as the program names it.
    pub device: String,
    /// Hash of the model's `config.json`: another shape takes other times.
    pub config: String,
    /// Times by workload: `decode`, `forward`, `train`.
    pub workloads: BTreeMap<String, LayerTimes>,
}

/// Milliseconds of one workload: a constant and one number per layer and width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerTimes {
    /// What is done, in a few words.
    pub what: String,
    /// What a submodel takes beyond its layers: stem, head, and what no part shows by itself.
    pub constant: f64,
    /// Ascending.
    pub widths: Vec<usize>,
    /// `[layer][width]`
    pub layers: Vec<Vec<f64>>,
    /// Whole submodels beside the sum of their layers.
    pub additivity: Additivity,
}

/// How far the time of a whole submodel is from the sum of its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Additivity {
    /// Whole submodels that were measured: measured and summed milliseconds, by label.
    pub submodels: BTreeMap<String, [f64; 2]>,
    /// Mean of the differences' sizes, in percent of what was measured.
    pub mean_percent: f64,
    /// The largest of them.
    pub worst_percent: f64,
}

impl Latency {
    /// The file's name in a model folder.
    pub const FILE: &str = "latency.json";

    /// What was measured in a model folder; nothing if nothing was, or another version wrote it.
    pub fn load(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(Self::FILE)).ok()?).ok()
    }

    /// Writes it into a model folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        Ok(fs::write_json(folder.join(Self::FILE), "latencies", self)?)
    }
}

impl LayerTimes {
    /// As costs of submodels.
    pub fn table(&self) -> CostTable {
        CostTable {
            resource: Resource::Millis,
            constant: self.constant,
            widths: self.widths.clone(),
            layers: self.layers.clone(),
        }
    }
}

impl Additivity {
    /// Of measured and summed milliseconds by label.
    pub fn of(submodels: BTreeMap<String, [f64; 2]>) -> Self {
        let percent = |[measured, summed]: &[f64; 2]| 100.0 * (summed - measured).abs() / measured;
        let all: Vec<f64> = submodels.values().map(percent).collect();
        Self {
            mean_percent: all.iter().sum::<f64>() / all.len().max(1) as f64,
            worst_percent: all.iter().copied().fold(0.0, f64::max),
            submodels,
        }
    }
}

/// Milliseconds of the parts of one forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct WalkParts {
    /// The mixing half of each layer.
    pub mix: Vec<f64>,
    /// The feed-forward half of each layer.
    pub ffn: Vec<f64>,
}

/// Walks `input` through the layers of one submodel and times each half, waiting for the device
/// behind each. A cache in `state` is put back to where it was.
///
/// # Errors
/// When the input does not fit the model, or the device fails.
pub fn timed_parts<M: Elastic>(
    model: &M,
    input: &M::Input,
    submodel: &Submodel,
    state: &mut State,
) -> Result<WalkParts> {
    model.space().check(submodel)?;
    let device = model.device();
    let mut last = Instant::now();
    let mut parts = WalkParts { mix: Vec::new(), ffn: Vec::new() };
    let mut lap = |_: usize, part: Part| -> Result<()> {
        device.sync().map_err(|error| unread(&error))?;
        let now = Instant::now();
        let millis = now.duration_since(std::mem::replace(&mut last, now)).as_secs_f64() * 1e3;
        match part {
            Part::Stem => {}
            Part::Mix => parts.mix.push(millis),
            Part::Ffn => parts.ffn.push(millis),
        }
        Ok(())
    };
    put_back(state, |state| {
        walk_through(model, input, &Plan::one(submodel), state, &mut lap).map(|_| ())
    })?;
    Ok(parts)
}

/// Milliseconds of the whole walk through one submodel, head included, as a caller sees them. A
/// cache in `state` is put back to where it was.
///
/// # Errors
/// As [`timed_parts`].
pub fn timed_walk<M: Elastic>(
    model: &M,
    input: &M::Input,
    submodel: &Submodel,
    state: &mut State,
) -> Result<f64> {
    let plan = Plan::one(submodel);
    put_back(state, |state| {
        let started = Instant::now();
        let walked = walk(model, input, &plan, state)?;
        let _logits = model.head(&walked.all());
        model.device().sync().map_err(|error| unread(&error))?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    })
}

/// Calls `work`, and has the cache forget what it added.
fn put_back<T>(state: &mut State, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
    let lens = state.cache().map(|cache| cache.lens().to_vec()).unwrap_or_default();
    let done = work(state);
    if let Some(cache) = state.cache_mut() {
        lens.iter().enumerate().for_each(|(slot, len)| cache.truncate(slot, *len));
    }
    done
}

fn unread(error: &dyn std::fmt::Display) -> matformer_nn::Error {
    matformer_nn::Error::read("the device's work", error)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use matformer_lm::{MatLm, MatLmConfig};

    use super::*;
    use crate::testing::tiny_config;

    #[test]
    fn parts_of_a_walk_are_timed_where_the_cache_stands() {
        let config = MatLmConfig { n_layers: 3, ..tiny_config(40) };
        let model = MatLm::new(&config, 1, &Device::flex()).unwrap();
        let submodel = Submodel::new(vec![4, 32, 16]);
        let mut state = State::with_cache(1, 16);
        let spans = state.cache().unwrap().spans(&[3]);
        let prompt = model.tokens_of(&spans, &[1, 2, 3]).unwrap();
        walk(&model, &prompt, &Plan::one(&submodel), &mut state).unwrap();
        let spans = state.cache().unwrap().spans(&[1]);
        let next = model.tokens_of(&spans, &[4]).unwrap();
        for _ in 0..3 {
            let parts = timed_parts(&model, &next, &submodel, &mut state).unwrap();
            assert_eq!((parts.mix.len(), parts.ffn.len()), (3, 3));
            assert!(parts.mix.iter().chain(&parts.ffn).all(|ms| *ms >= 0.0));
            assert!(timed_walk(&model, &next, &submodel, &mut state).unwrap() > 0.0);
            assert_eq!(state.cache().unwrap().lens(), [3]);
        }
        let wide = Submodel::new(vec![4, 64, 16]);
        assert!(timed_parts(&model, &next, &wide, &mut state).is_err());
    }

    #[test]
    fn differences_are_shares_of_what_was_measured() {
        let of = [("S".to_owned(), [2.0, 2.2]), ("M".to_owned(), [4.0, 3.0])];
        let found = Additivity::of(of.into());
        assert!((found.mean_percent - 17.5).abs() < 1e-9);
        assert!((found.worst_percent - 25.0).abs() < 1e-9);
    }
}
