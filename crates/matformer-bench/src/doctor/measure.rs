//! What is measured of a device.

use std::time::{Duration, Instant};

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use matformer_core::Draw;
use matformer_engine::{Engine, EngineModel, EngineOptions, Format, Request};
use matformer_lm::{MatLm, MatLmConfig, Preset};
use matformer_nn::{Elastic, ops::sum_of_squares};
use matformer_train::{TrainConfig, Trainer};
use serde::Serialize;

use super::Measured;
use matformer_run::synthetic::one_batch;

/// Sides of the matrices that are multiplied.
pub(super) const SIZES: [usize; 4] = [512, 1024, 2048, 4096];
/// If a matrix product takes longer than this many seconds, no larger one is tried.
pub(super) const LONG: f64 = 0.15;
/// Floats of the tensor that is summed: 256 MiB.
const FLOATS: usize = 1 << 26;
/// Steps that training is compared over.
const STEPS: usize = 20;
/// Tokens that are generated.
const GENERATED: usize = 32;

/// Training on a device beside the same training on the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Followed {
    /// Optimizer steps.
    pub steps: usize,
    /// The largest relative difference of a step's loss.
    pub error: f64,
    /// Loss of the first step, and of the last.
    pub losses: [f64; 2],
}

/// Multiplying two square matrices of f32.
#[derive(Clone, Debug, Serialize)]
pub struct MatrixRate {
    /// Their side.
    pub size: usize,
    /// Seconds of one product.
    pub seconds: f64,
    /// Floating point operations per second.
    pub flops_per_second: f64,
}

/// How fast a model trains and generates.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// `small`, `medium`.
    pub shape: &'static str,
    /// Its parameters.
    pub params: usize,
    /// Tokens of a training step.
    pub tokens_per_step: usize,
    /// Tokens per second of training, of the full width.
    pub training: f64,
    /// Tokens per second of generating one text, of the full width.
    pub generation: f64,
}

/// A model that is timed.
pub(super) struct Shape {
    pub(super) name: &'static str,
    config: MatLmConfig,
    rows: usize,
    row_len: usize,
}

/// A small model, and unless it must be `quick` a medium one, and larger batches; a graphics card gets larger batches
/// than the CPU.
pub(super) fn shapes(in_host_memory: bool, quick: bool) -> Vec<Shape> {
    let (rows, row_len) = if quick { (1, 64) } else { (8, 256) };
    let small = Shape { name: "small", config: Preset::Small.config(), rows, row_len };
    let config = MatLmConfig {
        vocab_size: 32_000,
        d_model: 768,
        n_layers: 12,
        n_heads: 12,
        n_kv_heads: 4,
        d_ff: 3072,
        context: 1024,
        ..MatLmConfig::default()
    };
    let (rows, row_len) = if in_host_memory { (2, 128) } else { (8, 1024) };
    let medium = Shape { name: "medium", config, rows, row_len };
    if quick { vec![small] } else { vec![small, medium] }
}

/// The losses of [`STEPS`] steps of a small model, here and on the CPU.
pub(super) fn followed(device: &Device, cpu: &Device) -> Measured<Followed> {
    let config = MatLmConfig {
        vocab_size: 301,
        d_model: 64,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        d_ff: 256,
        context: 64,
        ..MatLmConfig::default()
    };
    let losses = |device: &Device| -> Measured<Vec<f64>> {
        let model = MatLm::new(&config, 1, &device.clone().autodiff())?;
        let batch = one_batch(&model, 4, 64)?;
        let train = TrainConfig {
            tokens_per_step: batch.targets,
            warmup: 4,
            learning_rate: 3e-3,
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(model, &train, 1);
        let mut losses = Vec::new();
        for _ in 0..STEPS {
            let report = trainer.step(&batch)?;
            losses.push(report.terms.iter().map(|term| term.nats / term.count as f64).sum());
        }
        Ok(losses)
    };
    let (ours, theirs) = (losses(device)?, losses(cpu)?);
    let off = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b.abs());
    // A loss that is no number is as far off as can be.
    let error = off.map(|off| if off.is_nan() { f64::INFINITY } else { off }).fold(0.0, f64::max);
    Ok(Followed { steps: STEPS, error, losses: [ours[0], ours[STEPS - 1]] })
}

/// Times work on a device.
pub(super) struct Timer<'a> {
    device: &'a Device,
    /// How long one thing is timed.
    time: Duration,
}

impl<'a> Timer<'a> {
    pub(super) fn new(device: &'a Device, quick: bool) -> Self {
        Self { device, time: Duration::from_millis(if quick { 200 } else { 1500 }) }
    }

    /// Seconds of one `work`, which is repeated for as long as the timer times; the first does not count.
    fn seconds_of<T>(&self, mut work: impl FnMut() -> Measured<T>) -> Measured<f64> {
        work()?;
        self.device.sync()?;
        let (started, mut times) = (Instant::now(), 0);
        // A result that nobody holds need not be computed.
        let mut results = Vec::new();
        while times == 0 || started.elapsed() < self.time {
            results.push(work()?);
            times += 1;
            // Several are on their way where one takes no time.
            if times % 4 == 0 {
                self.device.sync()?;
                results.clear();
            }
        }
        self.device.sync()?;
        Ok(started.elapsed().as_secs_f64() / f64::from(times))
    }

    pub(super) fn matrix_rate(&self, size: usize) -> Measured<MatrixRate> {
        let full = |value: f64| Tensor::<2>::full([size, size], value, self.device);
        let (a, b) = (full(1.0), full(0.5));
        let seconds = self.seconds_of(|| Ok(a.clone().matmul(b.clone())))?;
        let flops = 2.0 * (size as f64).powi(3);
        Ok(MatrixRate { size, seconds, flops_per_second: flops / seconds })
    }

    pub(super) fn bytes_per_second(&self) -> Measured<f64> {
        let values = Tensor::<1>::ones([FLOATS], self.device);
        let seconds = self.seconds_of(|| Ok(sum_of_squares(values.clone())))?;
        Ok((FLOATS * size_of::<f32>()) as f64 / seconds)
    }

    pub(super) fn speed(&self, shape: &Shape) -> Measured<Speed> {
        let model = MatLm::new(&shape.config, 1, &self.device.clone().autodiff())?;
        let params = model.num_params();
        let widest = model.space().largest();
        let still = model.valid();
        let request = Request::new(vec![1; 16], widest, GENERATED);
        let still = EngineModel::of(&still, Format::F32)?;
        let mut engine = Engine::new(&still, &EngineOptions::default())?;
        let generation = self.seconds_of(|| {
            engine.submit(request.clone())?;
            while engine.is_busy() {
                engine.step()?;
            }
            Ok(())
        })?;
        drop(engine);
        drop(still);
        let batch = one_batch(&model, shape.rows, shape.row_len)?;
        let granularity = model.space().granularities.largest().name.clone();
        let train = TrainConfig {
            tokens_per_step: batch.targets,
            draw: Draw::Baseline { granularity },
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(model, &train, 1);
        let step = self.seconds_of(|| {
            trainer.step(&batch)?;
            Ok(())
        })?;
        Ok(Speed {
            shape: shape.name,
            params,
            tokens_per_step: batch.targets,
            training: batch.targets as f64 / step,
            generation: GENERATED as f64 / generation,
        })
    }
}
