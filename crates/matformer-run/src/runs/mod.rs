//! What is recorded in the folders of runs and models, without reading weights or measuring.

mod compare;
mod find;
mod recorded;

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    path::{Path, PathBuf},
    time::SystemTime,
};

use matformer_core::{Costs, Manifest, Measurements, Resource, Space, fs, units};
use matformer_nn::{ConfigFile, Folder, ModelConfig, weights::WeightFiles};
use matformer_train::{Checkpoints, MetricsLine, MetricsLog, TrainLine};
use toml::Table;

use matformer_runfile::{self as run_file, RunFile, Tables};

use crate::{
    error::{Error, Result, chain},
    kind::Model,
};

pub use compare::{Comparison, compare};
pub use find::{Found, find};
pub use recorded::{HeldOut, Loss, Measured, Recorded, Role, Size};

/// Reads a folder of a kind of model.
fn read<K: Model>(dir: &Path) -> Result<Recorded> {
    Reader::<K> { dir, kind: PhantomData }.read()
}

struct Reader<'a, K> {
    dir: &'a Path,
    kind: PhantomData<K>,
}

impl<K: Model> Reader<'_, K> {
    fn read(&self) -> Result<Recorded> {
        let complete = self.dir.join(Manifest::FILE).is_file();
        let file = self.dir.join(run_file::FILE);
        let run = file.is_file().then(|| RunFile::<K>::load(&file, &[])).transpose()?;
        let checkpoint = Checkpoints::of(self.dir).latest()?;
        let model = if complete { Some(self.dir.to_owned()) } else { checkpoint.map(|c| c.dir) };
        let manifest = model.as_deref().map(Manifest::load).transpose()?;
        let shape = match (&model, &run) {
            (Some(dir), _) => Some(K::Net::read_config(&ConfigFile::read(dir)?)?),
            (None, Some(run)) => Some(run.shape().clone()),
            (None, None) => None,
        };
        let space = match (&manifest, &shape) {
            (Some(manifest), _) => Some(manifest.space()?),
            (None, Some(shape)) => shape.space().ok(),
            (None, None) => None,
        };
        let sizes = match (&shape, &space) {
            (Some(shape), Some(space)) => sizes(&K::costs(shape), space)?,
            _ => Vec::new(),
        };
        let mut problems = Vec::new();
        if let Some(dir) = &model {
            problems.extend(weights_problem(dir));
        }
        let log = self.log(&mut problems);
        let provenance = manifest.as_ref().map(|manifest| &manifest.provenance);
        let total_steps = run.as_ref().map(|run| run.train.steps);
        let steps = provenance.map_or(0, |provenance| provenance.steps);
        let logged = log.iter().map(step_of).max().unwrap_or(0);
        if run.is_some() && problems.is_empty() && logged < steps {
            let path = self.dir.join(MetricsLog::FILE);
            problems.push(format!(
                "{}: ends at step {logged}; the model was trained {steps} steps",
                path.display()
            ));
        }
        Ok(Recorded {
            kind: K::CALLED.data,
            role: match &manifest {
                _ if run.is_some() => Role::Run,
                Some(manifest) if manifest.slice.is_some() => Role::Slice,
                Some(manifest) if manifest.provenance.data_hash.is_empty() => Role::Import,
                _ => Role::Model,
            },
            steps,
            finished: complete && total_steps.is_none_or(|total| steps >= total),
            total_steps,
            tokens: provenance.map_or(0, |provenance| provenance.tokens),
            data: provenance.map(|p| p.data_hash.clone()).filter(|hash| !hash.is_empty()),
            window: run.as_ref().and_then(RunFile::seq_len),
            train_loss: train_loss(&log),
            held_out: log.iter().rev().find_map(|line| match line {
                MetricsLine::HeldOut(found) => {
                    Some(HeldOut { step: found.step, loss: found.held_out.clone() })
                }
                _ => None,
            }),
            measured: self.measured(manifest.as_ref(), &sizes, &mut problems),
            tokens_per_second: speed(&log),
            seconds: seconds(&log),
            date: self.date(),
            settings: settings::<K>(run.as_ref(), shape.as_ref()),
            sizes,
            problems,
        })
    }

    fn log(&self, problems: &mut Vec<String>) -> Vec<MetricsLine> {
        if !self.dir.join(MetricsLog::FILE).exists() {
            return Vec::new();
        }
        MetricsLog::read(self.dir).unwrap_or_else(|error| {
            problems.push(error.to_string());
            Vec::new()
        })
    }

    /// The last measurement of each size and metric, of these weights.
    fn measured(
        &self,
        manifest: Option<&Manifest>,
        sizes: &[Size],
        problems: &mut Vec<String>,
    ) -> Vec<Measured> {
        let Some(manifest) = manifest else { return Vec::new() };
        let all = Measurements::read_all(self.dir).unwrap_or_else(|error| {
            problems.push(error.to_string());
            Measurements::default()
        });
        let mut found: Vec<Measured> = Vec::new();
        // Halves that a search chose by are no measurements of a model.
        let of_these = all.entries.iter().rev().filter(|entry| {
            entry.weights == manifest.weights_sha256
                && !entry.data.contains('/')
                && sizes.iter().any(|size| size.name == entry.submodel)
        });
        for entry in of_these {
            if found.iter().any(|f| f.submodel == entry.submodel && f.metric == entry.metric) {
                continue;
            }
            found.push(Measured {
                submodel: entry.submodel.clone(),
                metric: entry.metric.clone(),
                value: entry.value,
                stderr: entry.stderr,
                data: entry.data.clone(),
            });
        }
        found
    }

    fn date(&self) -> Option<String> {
        let changed = |name| std::fs::metadata(self.dir.join(name)).ok()?.modified().ok();
        let times: Vec<SystemTime> = [Manifest::FILE, MetricsLog::FILE, run_file::FILE]
            .into_iter()
            .filter_map(changed)
            .collect();
        times.into_iter().max().map(units::utc)
    }
}

fn sizes(costs: &Costs, space: &Space) -> Result<Vec<Size>> {
    let size = |g: &matformer_core::Granularity| {
        let submodel = space.uniform(&g.name)?;
        let cost = |resource| Ok::<_, Error>(costs.get(resource)?.cost(&submodel)? as u64);
        Ok(Size {
            name: g.name.clone(),
            width: g.width,
            params: cost(Resource::Params)?,
            non_embedding: cost(Resource::NonEmbedding)?,
        })
    };
    space.granularities.iter().map(size).collect()
}

fn steps_of(log: &[MetricsLine]) -> impl DoubleEndedIterator<Item = &TrainLine> {
    log.iter().filter_map(|line| match line {
        MetricsLine::Train(line) => Some(line),
        _ => None,
    })
}

fn train_loss(log: &[MetricsLine]) -> BTreeMap<String, f64> {
    /// Losses of single steps say little.
    const STEPS: usize = 50;
    let mut last: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, loss) in steps_of(log).rev().flat_map(|line| &line.loss) {
        let losses = last.entry(name).or_default();
        if losses.len() < STEPS {
            losses.push(*loss);
        }
    }
    let mean = |losses: Vec<f64>| losses.iter().sum::<f64>() / losses.len() as f64;
    last.into_iter().map(|(name, losses)| (name.to_owned(), mean(losses))).collect()
}

fn speed(log: &[MetricsLine]) -> Option<f64> {
    let speeds: Vec<f64> = steps_of(log).map(|line| line.tokens_per_second).collect();
    (!speeds.is_empty()).then(|| matformer_eval::stats::median(speeds))
}

/// Seconds of the steps that a log has.
pub fn seconds(log: &[MetricsLine]) -> Option<f64> {
    let of = |line: &TrainLine| {
        line.tokens as f64 / line.step.max(1) as f64 / line.tokens_per_second.max(f64::MIN_POSITIVE)
    };
    steps_of(log).map(of).reduce(|a, b| a + b)
}

/// The keys of a run file, or of a model's shape, as text.
fn settings<T: Tables>(
    run: Option<&RunFile<T>>,
    shape: Option<&T::Shape>,
) -> BTreeMap<String, String> {
    let (prefix, table) = match (run, shape) {
        // A run file has the vocabulary, or the classes, of its preset; the model has the data's.
        (Some(run), Some(shape)) => {
            (String::new(), Table::try_from(run.with_shape(shape.clone()).explicit()))
        }
        (Some(run), None) => (String::new(), Table::try_from(run.explicit())),
        (None, Some(shape)) => (format!("model.{}.", T::NAME), Table::try_from(shape)),
        (None, None) => return BTreeMap::new(),
    };
    let mut flat = BTreeMap::new();
    flatten(&prefix, &table.unwrap_or_default(), &mut flat);
    flat.into_iter().map(|(key, value)| (typed_key::<T>(key), value)).collect()
}

/// A key as a person writes it for this kind of model.
fn typed_key<T: Tables>(key: String) -> String {
    let known = ["tokens_per_step", "eval_tokens"].into_iter();
    let found = known
        .map(|name| (name, T::train_key(name)))
        .find(|(name, typed)| name != typed && key.strip_prefix("train.") == Some(*name));
    found.map_or(key, |(_, typed)| format!("train.{typed}"))
}

/// What is wrong with the weights of a model, as far as that is seen without reading them.
fn weights_problem(dir: &Path) -> Option<String> {
    let files = match WeightFiles::open(dir) {
        Ok(files) => files,
        Err(error) => return Some(chain(&error)),
    };
    files.tensors().err().map(|error| chain(&error))
}

/// The step that a line of a log is about.
fn step_of(line: &MetricsLine) -> u64 {
    match line {
        MetricsLine::Train(line) => line.step,
        MetricsLine::HeldOut(line) => line.step,
        MetricsLine::Skipped(line) => line.step,
    }
}

fn flatten(prefix: &str, table: &Table, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(table) => flatten(&format!("{prefix}{key}."), table, flat),
            value => drop(flat.insert(format!("{prefix}{key}"), value.to_string())),
        }
    }
}

/// Whether a folder is of a run or a model, by its files.
fn is_one(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).exists();
    has(Manifest::FILE)
        || has(run_file::FILE)
            && [MetricsLog::FILE, "train.log", "checkpoints"].into_iter().any(has)
}

/// The folders below one, or why they cannot be listed.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut below = fs::read_dir(dir)?;
    below.retain(|path| path.is_dir());
    Ok(below)
}
