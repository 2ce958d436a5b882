//! What is recorded in the folders of runs and models, without reading weights or measuring.

mod compare;
mod find;

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    path::{Path, PathBuf},
    time::SystemTime,
};

use matformer_core::{Costs, Manifest, Measurements, Resource, Space, fs};
use matformer_nn::{ConfigFile, Folder, ModelConfig, weights::WeightFiles};
use matformer_train::{Checkpoints, MetricsLine, MetricsLog, TrainLine};
use serde::Serialize;
use serde_json::Value;
use toml::Table;

use matformer_core::units;
use matformer_runfile::{self as run_file, RunFile, RunKind, Tables, visit};

use crate::{
    error::{Error, Result, chain},
    kind::Model,
};

pub use compare::{Comparison, compare};
pub use find::{Found, find};

/// What a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The folder of a run, complete or not.
    Run,
    /// A submodel that was cut out of another model.
    Slice,
    /// Another program's model.
    Import,
    /// A model without its run, such as a checkpoint.
    Model,
}

/// A size of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// Held-out losses of an evaluation in training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Steps made.
    pub step: u64,
    /// Nats per target, by size.
    pub loss: BTreeMap<String, f64>,
}

/// The last measurement of a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The size.
    pub submodel: String,
    /// `loss`, `bits_per_byte`, `top1`, `top5`.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
    /// Hash of the data, and which part of it.
    pub data: String,
}

/// What is recorded in a folder.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// `text` or `images`.
    pub kind: &'static str,
    /// What the folder is.
    pub role: Role,
    /// Its sizes, ascending.
    pub sizes: Vec<Size>,
    /// Steps made.
    pub steps: u64,
    /// Steps that the run is to make, of a run.
    pub total_steps: Option<u64>,
    /// Whether the model of the last step is there.
    pub finished: bool,
    /// Training targets seen: tokens, or images.
    pub tokens: u64,
    /// Hash of the data; none before the first checkpoint, or of an imported model.
    pub data: Option<String>,
    /// Length of the windows that held-out text is measured in while training.
    pub window: Option<usize>,
    /// Training loss of each size: mean over the last 50 steps that trained it.
    pub train_loss: BTreeMap<String, f64>,
    /// The last evaluation in training.
    pub held_out: Option<HeldOut>,
    /// What was measured of its sizes since, the last of each metric.
    pub measured: Vec<Measured>,
    /// Median training speed, in targets per second.
    pub tokens_per_second: Option<f64>,
    /// Seconds of all training steps, without evaluations.
    pub seconds: Option<f64>,
    /// When it was last changed by a step or a save, in UTC.
    pub date: Option<String>,
    /// Damaged files in an otherwise readable folder.
    pub problems: Vec<String>,
    /// Settings of the run, or the shape of a model without one, by key.
    #[serde(skip)]
    pub settings: BTreeMap<String, String>,
}

impl Recorded {
    /// Reads what the folder says.
    ///
    /// # Errors
    /// When it is no folder of a run or a model, or what makes it one is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let manifest_path = dir.join(Manifest::FILE);
        let file = dir.join(run_file::FILE);
        let (is_model, is_run) = (manifest_path.is_file(), file.is_file());
        if !is_model && !is_run {
            return Err(Error::refused(format!(
                "{}: neither a run nor a model; expected a folder that `train`, `slice` or `import` wrote",
                dir.display()
            )));
        }
        let kind = if is_model {
            let found = Manifest::load(dir)?.kind;
            RunKind::named(&found).ok_or_else(|| {
                let path = manifest_path.display();
                Error::refused(format!("{path}: kind `{found}`; expected `matlm` or `matvit`"))
            })?
        } else {
            RunKind::of(&file, &[], None)?
        };
        visit!(kind, read(dir))
    }

    /// What is known of a folder that cannot be read: nothing, under the names of what is known of others.
    pub fn unknown() -> serde_json::Map<String, Value> {
        let nothing = Self {
            kind: "",
            role: Role::Model,
            sizes: Vec::new(),
            steps: 0,
            total_steps: None,
            finished: false,
            tokens: 0,
            data: None,
            window: None,
            train_loss: BTreeMap::new(),
            held_out: None,
            measured: Vec::new(),
            tokens_per_second: None,
            seconds: None,
            date: None,
            problems: Vec::new(),
            settings: BTreeMap::new(),
        };
        let names = match serde_json::to_value(nothing) {
            Ok(Value::Object(names)) => names,
            _ => serde_json::Map::new(),
        };
        names.into_iter().map(|(name, _)| (name, Value::Null)).collect()
    }

    /// The largest size.
    pub fn largest(&self) -> Option<&Size> {
        self.sizes.last()
    }

    /// The last measurement of a size.
    pub fn measurement(&self, submodel: &str, metric: &str) -> Option<&Measured> {
        self.measured.iter().find(|m| m.submodel == submodel && m.metric == metric)
    }
}

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
            kind: K::KIND.data(),
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
