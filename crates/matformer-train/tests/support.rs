//! A small model, a source of batches, and runs in temporary folders.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use burn::{module::Module, tensor::Device};
use matformer_core::{Draw, Manifest, Provenance, Space};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, Folder, params};
use matformer_train::{
    Batch, Batches, BoxError, Interrupter, Outcome, Progress, Result, RunOptions, TrainConfig, run,
};
use matformer_vit::{MatVit, MatVitConfig};

pub const ROWS: usize = 2;
pub const SEQ: usize = 8;

pub fn config() -> MatLmConfig {
    MatLmConfig {
        vocab_size: 20,
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 32,
        granularities: Some(vec![4, 8, 16, 32]),
        width_multiple: 4,
        context: SEQ,
        ..MatLmConfig::default()
    }
}

/// The device that `MATFORMER_DEVICE` names.
pub fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap()
}

pub fn model() -> MatLm {
    MatLm::fresh(&device().autodiff())
}

pub fn train_config() -> TrainConfig {
    TrainConfig {
        steps: 12,
        tokens_per_step: ROWS * SEQ,
        warmup: 2,
        learning_rate: 1e-2,
        eval_every: 5,
        checkpoint_every: 4,
        ..TrainConfig::default()
    }
}

/// Sequences that count up with a stride: easy to learn, and a pure function of the index.
pub struct Counting {
    pub rows: usize,
    /// Batches whose targets are wrong.
    pub wrong: Range<u64>,
    /// Stops the run when this batch is asked for.
    pub stop_at: Option<(u64, Interrupter)>,
}

/// A kind of model that the tests train.
pub trait Subject: Folder + 'static {
    /// Targets of a row.
    const TARGETS: usize;

    /// A small model.
    fn fresh(device: &Device) -> Self;

    /// The rows `part` of batch number `index`, which has `rows`; the targets of a `wrong` one
    /// contradict all others.
    fn batch(
        &self,
        rows: usize,
        part: Range<usize>,
        index: u64,
        wrong: bool,
    ) -> Result<Batch<Self>, BoxError>;
}

impl Subject for MatLm {
    const TARGETS: usize = SEQ;

    fn fresh(device: &Device) -> Self {
        Self::new(&config(), 3, device).unwrap()
    }

    fn batch(
        &self,
        rows: usize,
        part: Range<usize>,
        index: u64,
        wrong: bool,
    ) -> Result<Batch<Self>, BoxError> {
        let row = |r: usize| {
            let start = index as usize * rows + r;
            (0..=SEQ)
                .map(move |i| ((start * 5 + i * (1 + start % 3)) % 20) as u32)
                .collect::<Vec<_>>()
        };
        let n = part.len();
        let all: Vec<Vec<u32>> = part.map(row).collect();
        let ids = |from: usize, to: usize| -> Vec<u32> {
            all.iter().flat_map(|r| r[from..to].to_vec()).collect()
        };
        let off = if wrong { 7 } else { 0 };
        let targets: Vec<u32> = ids(1, SEQ + 1).iter().map(|t| (t + off) % 20).collect();
        Ok(Batch { input: self.tokens(n, &ids(0, SEQ))?, target: self.targets(n, &targets, None)? })
    }
}

/// With random drop-path.
pub fn vision() -> MatVitConfig {
    MatVitConfig {
        image_size: 4,
        patch_size: 2,
        classes: 4,
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        d_ff: 32,
        width_multiple: 4,
        drop_path: 0.3,
        ..MatVitConfig::default()
    }
}

impl Subject for MatVit {
    const TARGETS: usize = 1;

    fn fresh(device: &Device) -> Self {
        Self::new(&vision(), 3, device).unwrap()
    }

    /// The class is the bright quarter of the image.
    fn batch(
        &self,
        rows: usize,
        part: Range<usize>,
        index: u64,
        wrong: bool,
    ) -> Result<Batch<Self>, BoxError> {
        let class = |row: usize| (index as usize * rows + row) * 7 % 11 % 4;
        let pixel = |row: usize, at: usize| {
            let light = (at / 8 * 2 + at % 4 / 2) == class(row);
            let noise = ((row * 37 + at * 101 + index as usize * 13) % 61) as f32 / 61.0;
            noise - if light { 0.0 } else { 1.0 }
        };
        let pixels: Vec<f32> =
            part.clone().flat_map(|row| (0..16).map(move |at| pixel(row, at))).collect();
        let labels: Vec<usize> =
            part.clone().map(|row| (class(row) + usize::from(wrong)) % 4).collect();
        Ok(Batch { input: self.images(part.len(), &pixels)?, target: self.labels(&labels, 0.1)? })
    }
}

impl<M: Subject> Batches<M> for Counting {
    fn train(&self, model: &M, index: u64) -> Result<Batch<M>, BoxError> {
        self.train_rows(model, index, 0..self.rows)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn train_rows(&self, model: &M, index: u64, rows: Range<usize>) -> Result<Batch<M>, BoxError> {
        if let Some((at, interrupter)) = &self.stop_at
            && index >= *at
        {
            interrupter.stop(None);
        }
        model.batch(self.rows, rows, index, self.wrong.contains(&index))
    }

    fn targets_per_batch(&self) -> usize {
        self.rows * M::TARGETS
    }

    fn held_out_len(&self) -> usize {
        2
    }

    fn held_out(&self, model: &M, index: usize) -> Result<Batch<M>, BoxError> {
        model.batch(self.rows, 0..self.rows, 1_000_000 + index as u64, false)
    }
}

/// Starts or resumes a run in `dir`, which stops when batch `stop_at` is read.
pub fn train(dir: &Path, config: &TrainConfig, stop_at: Option<u64>) -> Result<Outcome> {
    train_model(model(), dir, config, stop_at)
}

/// As [`train`], with a given model, which may be on another device.
pub fn train_model<M: Subject>(
    model: M,
    dir: &Path,
    config: &TrainConfig,
    stop_at: Option<u64>,
) -> Result<Outcome> {
    let interrupter = Interrupter::new();
    let stop_at = stop_at.map(|at| (at, interrupter.clone()));
    let rows = config.tokens_per_step / M::TARGETS;
    train_on(Counting { rows, wrong: 0..0, stop_at }, interrupter, model, dir, config)
}

/// As [`train_model`], with given batches, which may hold the interrupter.
pub fn train_on<M: Subject>(
    batches: impl Batches<M> + 'static,
    interrupter: Interrupter,
    model: M,
    dir: &Path,
    config: &TrainConfig,
) -> Result<Outcome> {
    let options = RunOptions { interrupter, ..options::<M>(model.space(), dir, config) };
    run(model, Arc::new(batches), options)
}

/// The options of a run in `dir` that shows nothing.
pub fn options<M: Subject>(space: &Space, dir: &Path, config: &TrainConfig) -> RunOptions {
    let provenance = Provenance {
        version: "test".to_owned(),
        seed: config.seed,
        steps: 0,
        tokens: 0,
        data_hash: "0".repeat(64),
        parent: None,
    };
    let manifest = Manifest::new(M::KIND, space, config.draw.clone(), provenance);
    RunOptions {
        files: vec![("tokenizer.json".to_owned(), b"{}".to_vec())],
        progress: Progress::Silent,
        configured: serde_json::json!({ "seed": config.seed }),
        ..RunOptions::new(dir, config.clone(), manifest)
    }
}

/// Bits of every parameter, by path.
pub fn weights<M: Module>(model: &M) -> BTreeMap<String, Vec<u32>> {
    let mut found = BTreeMap::new();
    params::read(model, |path, data| {
        let values: Vec<f32> = data.try_into_vec().unwrap();
        found.insert(path.to_owned(), values.into_iter().map(f32::to_bits).collect());
        Ok(())
    })
    .unwrap();
    found
}

/// Every draw; only two of them on a device other than the CPU, where every shape is compiled.
pub fn draws() -> Vec<Draw> {
    let all = [
        "sampled",
        "joint",
        "sampled-xl-heavy",
        "joint-separate",
        "sandwich",
        "per-layer",
        "baseline:M",
    ];
    let on_flex = matches!(DeviceSpec::from_env(), Ok(DeviceSpec::Auto | DeviceSpec::Flex));
    let tried = if on_flex { &all[..] } else { &all[..2] };
    tried.iter().map(|name| name.parse().unwrap()).collect()
}

/// Whether element `i` of a nested parameter of [`model`] (d_model 16, d_ff 32) lies within a width.
pub fn within(path: &str, i: usize, width: usize) -> bool {
    let unit = if matformer_nn::nested_axis(path) == 1 { i % 32 } else { i / 16 };
    unit < width
}
