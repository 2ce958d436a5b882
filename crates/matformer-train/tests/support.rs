//! A small model, a source of batches, and runs in temporary folders.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use burn::tensor::Device;
use matformer_core::{Draw, Manifest, Provenance};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, Elastic, Folder, params};
use matformer_train::{
    Batch, Batches, BoxError, Interrupter, Outcome, Progress, Result, RunOptions, TrainConfig, run,
};

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

/// The device that the environment names.
pub fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap()
}

pub fn model() -> MatLm {
    MatLm::new(&config(), 3, &device().autodiff()).unwrap()
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

/// Sequences that count up by a stride: easy to learn, a pure function of the index.
pub struct Counting {
    pub rows: usize,
    /// Batches whose targets are wrong: nothing could have taught them.
    pub wrong: Range<u64>,
    /// Stops the run when this batch is asked for.
    pub stop_at: Option<(u64, Interrupter)>,
}

impl Counting {
    fn batch(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        let row = |r: usize| {
            let start = index as usize * self.rows + r;
            (0..=SEQ)
                .map(move |i| ((start * 5 + i * (1 + start % 3)) % 20) as u32)
                .collect::<Vec<_>>()
        };
        let rows: Vec<Vec<u32>> = (0..self.rows).map(row).collect();
        let part = |from: usize, to: usize| -> Vec<u32> {
            rows.iter().flat_map(|r| r[from..to].to_vec()).collect()
        };
        let off = if self.wrong.contains(&index) { 7 } else { 0 };
        let targets: Vec<u32> = part(1, SEQ + 1).iter().map(|t| (t + off) % 20).collect();
        Ok(Batch {
            input: model.tokens(self.rows, &part(0, SEQ))?,
            target: model.targets(self.rows, &targets, None)?,
        })
    }
}

impl Batches<MatLm> for Counting {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        if let Some((at, interrupter)) = &self.stop_at
            && index >= *at
        {
            interrupter.stop(None);
        }
        self.batch(model, index)
    }

    fn targets_per_batch(&self) -> usize {
        self.rows * SEQ
    }

    fn held_out_len(&self) -> usize {
        2
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        self.batch(model, 1_000_000 + index as u64)
    }
}

/// Runs, or goes on, in `dir`; stops when batch `stop_at` is asked for.
pub fn train(dir: &Path, config: &TrainConfig, stop_at: Option<u64>) -> Result<Outcome> {
    train_model(model(), dir, config, stop_at)
}

/// The same with a model that may lie on another device.
pub fn train_model(
    model: MatLm,
    dir: &Path,
    config: &TrainConfig,
    stop_at: Option<u64>,
) -> Result<Outcome> {
    let interrupter = Interrupter::new();
    let stop_at = stop_at.map(|at| (at, interrupter.clone()));
    train_on(Counting { rows: ROWS, wrong: 0..0, stop_at }, interrupter, model, dir, config)
}

/// The same on given batches, which may have the interrupter.
pub fn train_on(
    batches: Counting,
    interrupter: Interrupter,
    model: MatLm,
    dir: &Path,
    config: &TrainConfig,
) -> Result<Outcome> {
    let space = model.space().clone();
    let provenance = Provenance {
        version: "test".to_owned(),
        seed: config.seed,
        steps: 0,
        tokens: 0,
        data_hash: "0".repeat(64),
        parent: None,
    };
    let options = RunOptions {
        dir: dir.to_owned(),
        config: config.clone(),
        manifest: Manifest::new(MatLm::KIND, &space, config.draw.clone(), provenance),
        files: vec![("tokenizer.json".to_owned(), b"{}".to_vec())],
        progress: Progress::Silent,
        interrupter,
        configured: serde_json::json!({ "seed": config.seed }),
        lock: None,
    };
    run(model, Arc::new(batches), options)
}

/// Bits of every parameter, by path.
pub fn weights(model: &MatLm) -> BTreeMap<String, Vec<u32>> {
    let mut found = BTreeMap::new();
    params::read(model, |path, data| {
        let values: Vec<f32> = data.try_into_vec().unwrap();
        found.insert(path.to_owned(), values.into_iter().map(f32::to_bits).collect());
        Ok(())
    })
    .unwrap();
    found
}

/// Every way to draw submodels; on another device than the CPU, where every shape is compiled, two
/// of them.
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
