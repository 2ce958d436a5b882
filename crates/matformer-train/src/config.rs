//! The `[train]` table of a run file.

use std::path::PathBuf;

use burn::tensor::{Device, FloatDType};
use matformer_core::{Draw, Space};
use serde::{Deserialize, Serialize};

use crate::{Distill, Error, ExchangeRule, Result, Spike};

/// Length of training rows where `train.seq_len` is absent and the context allows it.
const SEQ_LEN: usize = 1024;

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine, down to `min_lr` times the peak.
    #[default]
    Cosine,
    /// Warm-up, stable, decay: constant, then linear over the last `decay` share of the steps.
    Wsd,
}

/// The rule by which matrices of the layers are updated. All other parameters take AdamW.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerRule {
    /// AdamW (Loshchilov and Hutter 2019).
    #[default]
    Adamw,
    /// Muon (Jordan et al. 2024), with updates as large as AdamW's (Liu et al. 2025, arXiv 2502.16982), so that it
    /// takes the same learning rate and weight decay. Of nested matrices only the drawn neurons make a step.
    Muon,
}

/// How the optimizer treats rows of the matrices beyond the widths drawn in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outer {
    /// Updates them with a zero gradient: the moments decay towards zero and weight decay is
    /// applied. The published MatFormer implementations do this.
    #[default]
    Decay,
    /// Rows, moments and step counts stay as they are.
    Skip,
}

/// Data type of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16, over weights, moments, residual stream and statistics in f32.
    Bf16,
}

impl Precision {
    /// The dtype of the products.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }
}

/// The `[train]` table: how a run trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Random seed of weights, draws and batches.
    pub seed: u64,
    /// Targets of one optimizer step: the batch size that the learning rate depends on. Its name
    /// for images is `images_per_step`.
    #[serde(alias = "images_per_step")]
    pub tokens_per_step: usize,
    /// Rows of one forward pass; gradients of several passes are accumulated. If absent: all rows
    /// of a step. Lower it when memory runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<usize>,
    /// Length of a training row in tokens, at most the model's context. If absent: the context or
    /// 1,024, whichever is less. Images have no such rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len: Option<usize>,
    /// What products of matrices are computed in: `f32`, or `bf16` where the device has it.
    pub dtype: Precision,
    /// The submodels that a step trains: `sampled`, `sampled-xl-heavy`, `joint`, `joint-separate`,
    /// `sandwich`, `per-layer`, `baseline:NAME`.
    pub draw: Draw,
    /// Rows beyond the drawn widths: `decay` or `skip`.
    pub outer: Outer,
    /// What several processes exchange: gradients in every step (`every-step`), or weights after a round of steps
    /// (a table): evaluations and checkpoints then wait for the end of a round.
    pub exchange: ExchangeRule,
    /// `adamw`, or `muon` for the matrices of the layers.
    pub optimizer: OptimizerRule,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// `cosine` or `wsd`.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Last learning rate as a share of the peak.
    pub min_lr: f64,
    /// Share of the steps during which `wsd` decays.
    pub decay: f64,
    /// Decoupled weight decay of matrices and embeddings; not applied to norms and biases.
    pub weight_decay: f64,
    /// Decay rates of AdamW's moments.
    pub betas: [f64; 2],
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Largest global norm of the gradient; 0: no clipping.
    pub clip: f64,
    /// Decay of the moving average of the weights, lower in the first steps. The average is what is
    /// evaluated and published. 0: no average.
    pub ema: f64,
    /// Factor on the learning rate from each layer to the one below, starting at the head:
    /// fine-tuning then changes early layers less (BEiT, arXiv 2106.08254, appendix H). 1: the same
    /// rate for all.
    pub layer_decay: f64,
    /// Parts of the model that stay as they are, by the path of their parameters: `embed` is the
    /// embedding (with the output head, where it is tied to it), `layers.0.ffn` a feed-forward block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Steps between two evaluations on held-out data.
    pub eval_every: u64,
    /// Held-out targets of such an evaluation. Its name for images is `eval_images`.
    #[serde(alias = "eval_images")]
    pub eval_tokens: usize,
    /// Steps between two checkpoints.
    pub checkpoint_every: u64,
    /// Number of newest checkpoints to keep, beside the best.
    pub keep: usize,
    /// Whether metrics are also written as TensorBoard's event files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// Model folder whose weights the run starts from. If absent, weights are drawn from `seed`.
    /// The caller of [`run`](crate::run) reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// When a step is skipped because of a loss spike: a number of nats (0: never), or a table.
    pub spike: Spike,
    /// Distillation: submodels also learn the outputs of a teacher. Off if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<Distill>,
    /// Sanity check: trains and evaluates on only the first so many batches, each processed in one forward pass. Off if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overfit: Option<u64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            seed: 0,
            tokens_per_step: 2048,
            batch_rows: None,
            seq_len: None,
            dtype: Precision::F32,
            draw: Draw::Sampled { probabilities: None },
            outer: Outer::Decay,
            exchange: ExchangeRule::EveryStep,
            optimizer: OptimizerRule::Adamw,
            learning_rate: 3e-3,
            schedule: Schedule::Cosine,
            warmup: 100,
            min_lr: 0.1,
            decay: 0.2,
            weight_decay: 0.1,
            betas: [0.9, 0.95],
            eps: 1e-8,
            clip: 1.0,
            ema: 0.0,
            layer_decay: 1.0,
            freeze: Vec::new(),
            eval_every: 200,
            eval_tokens: 16_384,
            checkpoint_every: 200,
            keep: 3,
            tensorboard: false,
            init: None,
            spike: Spike::default(),
            distill: None,
            overfit: None,
        }
    }
}

impl TrainConfig {
    /// Checks every setting, and the draw against the model's widths.
    ///
    /// # Errors
    /// [`Error::Config`] names the first invalid setting.
    pub fn validate(&self, space: &Space) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("tokens_per_step", self.tokens_per_step as u64),
            ("eval_every", self.eval_every),
            ("eval_tokens", self.eval_tokens as u64),
            ("checkpoint_every", self.checkpoint_every),
            ("keep", self.keep as u64),
            ("batch_rows", self.batch_rows.unwrap_or(1) as u64),
            ("spike.in_a_row", self.spike.in_a_row),
            ("overfit", self.overfit.unwrap_or(1)),
            ("exchange.every", self.exchange.rounds().map_or(1, |rounds| rounds.every)),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, n)| *n == 0) {
            return wrong(field, 0, "at least 1");
        }
        if self.steps.checked_mul(self.tokens_per_step as u64).is_none() {
            let expected = format!("at most {} tokens in all", u64::MAX);
            return wrong("steps", self.steps, &expected);
        }
        let shares = [("min_lr", self.min_lr), ("decay", self.decay)];
        if let Some((field, v)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return wrong(field, v, "a share from 0 to 1");
        }
        let amounts = [
            ("weight_decay", self.weight_decay),
            ("clip", self.clip),
            ("spike.nats", self.spike.nats),
            ("spike.deviations", self.spike.deviations),
        ];
        if let Some((field, v)) = amounts.into_iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
            return wrong(field, v, "0 or more");
        }
        self.validate_optimizer()?;
        self.draw.validate(space)?;
        self.distill.as_ref().map_or(Ok(()), |distill| validate_distill(distill, space))
    }

    /// Checks that a device can compute in [`dtype`](Self::dtype).
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate_device(&self, device: &Device) -> Result<()> {
        match device.supports_dtype(self.dtype.dtype()) {
            true => Ok(()),
            false => wrong("dtype", "bf16", "f32: this device has no arithmetic in bfloat16"),
        }
    }

    /// Checks the settings that could lead to NaN or infinite weights.
    fn validate_optimizer(&self) -> Result<()> {
        // AdamW moves a weight by up to the learning rate, however small its gradient is.
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return wrong("learning_rate", self.learning_rate, "above 0, at most 1");
        }
        if self.weight_decay * self.learning_rate >= 1.0 {
            let most = 1.0 / self.learning_rate;
            let expected = format!(
                "below {most}: `learning_rate` times it is the share of each weight that a step \
                 takes away"
            );
            return wrong("weight_decay", self.weight_decay, &expected);
        }
        if let Some(beta) = self.betas.iter().find(|b| !(0.0..1.0).contains(*b)) {
            return wrong("betas", beta, "two rates from 0 to below 1");
        }
        if !(0.0..1.0).contains(&self.ema) {
            return wrong("ema", self.ema, "from 0 to below 1");
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return wrong("layer_decay", self.layer_decay, "above 0, at most 1");
        }
        // Less is 0 in single precision: a weight without a gradient would become 0/0.
        if !(self.eps >= 1e-30 && self.eps <= 1.0) {
            return wrong("eps", self.eps, "from 1e-30 to 1");
        }
        let Some(rounds) = self.exchange.rounds() else {
            return Ok(());
        };
        let (rate, momentum) = (rounds.outer_learning_rate, rounds.outer_momentum);
        if !(rate > 0.0 && rate <= 2.0) {
            return wrong("exchange.outer_learning_rate", rate, "above 0, at most 2");
        }
        if !(0.0..1.0).contains(&momentum) {
            return wrong("exchange.outer_momentum", momentum, "from 0 to below 1");
        }
        Ok(())
    }

    /// Settings to change after the loss diverged: unusual values first.
    pub(crate) fn suspects(&self) -> String {
        let mut changes = Vec::new();
        let mut suspect = |far: bool, text: String| {
            if far {
                changes.push(text);
            }
        };
        suspect(self.clip == 0.0, "`train.clip` 1 (0 is no clipping)".to_owned());
        suspect(self.clip > 10.0, format!("a lower `train.clip` (it is {})", self.clip));
        suspect(self.eps < 1e-12, format!("a higher `train.eps` (it is {})", self.eps));
        let decay = self.weight_decay * self.learning_rate;
        suspect(
            decay > 0.01,
            format!("a lower `train.weight_decay` (it is {})", self.weight_decay),
        );
        suspect(self.betas[1] < 0.9, format!("a higher `train.betas` (they are {:?})", self.betas));
        let taught = self.distill.as_ref().map_or(0.0, |distill| distill.weight);
        suspect(taught > 10.0, format!("a lower `train.distill.weight` (it is {taught})"));
        let few = self.warmup < self.steps / 100;
        suspect(few, format!("a longer `train.warmup` (it is {})", self.warmup));
        changes.push(format!("a lower `train.learning_rate` (it is {})", self.learning_rate));
        changes.join(", ")
    }

    /// Length of the training rows of a model with this context.
    pub fn row_len(&self, context: usize) -> usize {
        self.seq_len.unwrap_or(context.min(SEQ_LEN))
    }

    /// Checks `seq_len` for a model with this context; `None` is a model that has none.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn validate_seq_len(&self, context: Option<usize>) -> Result<()> {
        let (Some(found), field) = (self.seq_len, "seq_len") else {
            return Ok(());
        };
        match context {
            None => wrong(field, found, "none: only a language model has rows of tokens"),
            Some(context) if (2..=context).contains(&found) => Ok(()),
            Some(context) => {
                wrong(field, found, &format!("from 2 to {context}, the model's context"))
            }
        }
    }

    /// Rows of one forward pass, where a row has `targets` targets.
    ///
    /// # Errors
    /// When `tokens_per_step` is not a whole number of batches.
    pub fn rows(&self, targets: usize) -> Result<usize> {
        let found = self.tokens_per_step;
        if targets > 1 && !found.is_multiple_of(targets) {
            let expected = format!(
                "a multiple of {targets}, the targets of one row: `train.seq_len`, or the model's \
                 context where that is absent"
            );
            return wrong("tokens_per_step", found, &expected);
        }
        let rows = self.batch_rows.unwrap_or_else(|| (found / targets).max(1));
        match rows.checked_mul(targets) {
            None => wrong("batch_rows", rows, "rows that fit a step"),
            Some(batch) if self.batch_rows.is_some() && !found.is_multiple_of(batch) => {
                let each = match targets {
                    1 => String::new(),
                    n => format!(" of {n} targets each"),
                };
                let expected = format!(
                    "a multiple of {batch}, the targets of one pass: `train.batch_rows` is {rows}{each}"
                );
                wrong("tokens_per_step", found, &expected)
            }
            Some(batch) => self.batches_per_step(batch).map(|_| rows),
        }
    }

    /// Forward passes of one step, where a batch has `targets` targets.
    ///
    /// # Errors
    /// When `tokens_per_step` is not a whole number of batches.
    pub fn batches_per_step(&self, targets: usize) -> Result<u64> {
        if self.tokens_per_step.is_multiple_of(targets) && self.tokens_per_step > 0 {
            return Ok((self.tokens_per_step / targets) as u64);
        }
        let expected = format!("a multiple of {targets}, the targets of one batch");
        wrong("tokens_per_step", self.tokens_per_step, &expected)
    }
}

fn validate_distill(distill: &Distill, space: &Space) -> Result<()> {
    if let Some(name) = &distill.from
        && space.granularities.get(name).is_none()
    {
        let expected = format!("one of {}", space.granularities.names().join(", "));
        return wrong("distill.from", name, &expected);
    }
    if let (Some(name), Some(_)) = (&distill.from, &distill.teacher) {
        return wrong("distill.from", name, "nothing: `distill.teacher` names another teacher");
    }
    let unknown = |name: &&String| space.granularities.get(name).is_none();
    if let Some(names) = &distill.students {
        let expected = format!("some of {}", space.granularities.names().join(", "));
        match names.iter().find(unknown) {
            Some(name) => return wrong("distill.students", name, &expected),
            None if names.is_empty() => return wrong("distill.students", "[]", &expected),
            None => {}
        }
    }
    let weights =
        [("distill.weight", distill.weight), ("distill.cross_entropy", distill.cross_entropy)];
    if let Some((field, v)) = weights.into_iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
        return wrong(field, v, "0 or more");
    }
    // Logits are divided by the temperature.
    if !(0.01..=100.0).contains(&distill.temperature) {
        return wrong("distill.temperature", distill.temperature, "from 0.01 to 100");
    }
    Ok(())
}

fn wrong<T>(field: &'static str, found: impl ToString, expected: &str) -> Result<T> {
    Err(Error::Config { field, found: found.to_string(), expected: expected.to_owned() })
}
