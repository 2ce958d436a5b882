//! The training step: one for every draw.

use std::collections::BTreeMap;

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};
use matformer_core::{Plan, Space, StepDraw, Submodel};
use matformer_nn::{Elastic, Noise, State, row_losses, walk};

use crate::{
    AdamW, Batches, Error, Guard, Outlier, Result, TrainConfig, distill::Pass, learning_rate,
    optimizer::global_norm,
};

/// What one step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step, from 0.
    pub step: u64,
    /// Each drawn submodel's label, sum of nats and count of targets.
    pub terms: Vec<(String, f64, usize)>,
    /// Of each of them that learnt from a teacher: label, sum of temperature²·KL, count of targets.
    pub distilled: Vec<(String, f64, usize)>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// What kept the step from being applied, where it was left out.
    pub outlier: Option<Outlier>,
}

impl StepReport {
    /// Nats per target of each label, in the order of the labels.
    pub fn losses(&self) -> Vec<(String, f64)> {
        means(self.terms.iter().map(|(label, nats, count)| (label.as_str(), *nats, *count)))
    }

    /// The same of temperature²·KL to the teacher, of labels that learnt from it.
    pub fn divergences(&self) -> Vec<(String, f64)> {
        means(self.distilled.iter().map(|(label, sum, count)| (label.as_str(), *sum, *count)))
    }
}

/// A model in training: it, its optimizer, and how many steps they have made.
pub struct Trainer<M> {
    // `None` only while a step owns it.
    model: Option<M>,
    optimizer: AdamW,
    guard: Guard,
    config: TrainConfig,
    space: Space,
    step: u64,
    batches_per_step: u64,
}

impl<M: Elastic> Trainer<M> {
    /// A trainer at step 0. The model must be on a device with gradients.
    pub fn new(model: M, config: &TrainConfig, batches_per_step: u64) -> Self {
        Self {
            space: model.space().clone(),
            model: Some(model),
            optimizer: AdamW::new(config),
            guard: Guard::default(),
            config: config.clone(),
            step: 0,
            batches_per_step,
        }
    }

    /// Goes on from a state that was saved after `step` steps.
    pub(crate) fn restore(&mut self, model: M, optimizer: AdamW, guard: Guard, step: u64) {
        self.model = Some(model);
        self.optimizer = optimizer;
        self.guard = guard;
        self.step = step;
    }

    /// Steps made so far.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The model as it stands.
    pub fn model(&self) -> &M {
        match &self.model {
            Some(model) => model,
            None => unreachable!("a step gives the model back"),
        }
    }

    /// The model that is evaluated and published, without gradients: its moving average where one is
    /// kept.
    pub fn evaluated(&self) -> M {
        self.optimizer.averaged(self.model().valid())
    }

    /// The optimizer as it stands.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// The guard as it stands.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// One optimizer step on the draw of this step: gradients of all its batches, clip, AdamW.
    ///
    /// A step whose loss is a spike, or whose gradient norm is not finite, is left out: it counts,
    /// and changes nothing.
    ///
    /// # Errors
    /// When a batch cannot be had, or the loss is not finite (without a guard: or the gradient
    /// norm): the step is then not applied.
    pub fn step(&mut self, batches: &dyn Batches<M>) -> Result<StepReport> {
        let draw = self.config.draw.at(&self.space, self.config.seed, self.step);
        self.step_on(&draw, batches)
    }

    /// The same on another draw than this step's.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_on(&mut self, draw: &StepDraw, batches: &dyn Batches<M>) -> Result<StepReport> {
        let (grads, sums) = self.gradients(draw, batches)?;
        let grad_norm = global_norm(self.model(), &grads)?;
        let drawn: Vec<Submodel> = draw.terms.iter().map(|(s, _)| s.clone()).collect();
        let labels = || drawn.iter().map(|submodel| self.space.label(submodel)).zip(&sums);
        let distilled = |(label, sums): (String, &Sums)| Some((label, sums.distill?, sums.count));
        let mut report = StepReport {
            step: self.step,
            terms: labels().map(|(label, sums)| (label, sums.nats, sums.count)).collect(),
            distilled: labels().filter_map(distilled).collect(),
            grad_norm,
            learning_rate: learning_rate(&self.config, self.step),
            outlier: None,
        };
        report.outlier = self.judge(&report)?;
        match report.outlier {
            Some(_) => self.guard.left_out(),
            None => {
                self.guard.applied(&self.space, &report.losses());
                let rate = report.learning_rate;
                self.model = self
                    .model
                    .take()
                    .map(|model| self.optimizer.step(model, grads, grad_norm, rate, &drawn));
            }
        }
        self.step += 1;
        Ok(report)
    }

    /// Whether a step may be applied; what speaks against it, if anything.
    fn judge(&self, report: &StepReport) -> Result<Option<Outlier>> {
        let spike = &self.config.spike;
        let loss: f64 = report.terms.iter().map(|(_, nats, _)| nats).sum();
        let norm = report.grad_norm;
        if loss.is_finite() && !norm.is_finite() && spike.nats > 0.0 {
            return Ok(Some(Outlier {
                what: "gradient norm".to_owned(),
                value: norm,
                limit: None,
            }));
        }
        for (what, value) in [("loss", loss), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(Error::NonFinite {
                    what,
                    value,
                    step: self.step + 1,
                    checkpoint: "none".to_owned(),
                    suspects: self.config.suspects(),
                });
            }
        }
        match self.step < self.config.warmup {
            true => Ok(None),
            false => Ok(self.guard.spike(spike, &self.space, &report.losses())),
        }
    }

    /// Gradient of the draw's weighted mean loss over all batches of the step, with each term's
    /// sums.
    fn gradients(
        &self,
        draw: &StepDraw,
        batches: &dyn Batches<M>,
    ) -> Result<(GradientsParams, Vec<Sums>)> {
        let n_terms = draw.terms.len();
        let per_step = self.batches_per_step;
        let mut accumulator = GradientsAccumulator::new();
        let mut totals = vec![Sums::default(); n_terms];
        for micro in 0..per_step {
            // Which terms run on which batch: all on one, or each on one of its own.
            let passes: Vec<(u64, Vec<usize>)> = match draw.separate_batches {
                false => vec![(self.step * per_step + micro, (0..n_terms).collect())],
                true => (0..n_terms)
                    .map(|t| ((self.step * per_step + micro) * n_terms as u64 + t as u64, vec![t]))
                    .collect(),
            };
            for (index, terms) in passes {
                let (grads, sums) = self.pass(draw, &terms, index, batches)?;
                accumulator.accumulate(self.model(), grads);
                for (term, sums) in terms.into_iter().zip(sums) {
                    totals[term].add(&sums);
                }
            }
        }
        Ok((accumulator.grads(), totals))
    }

    /// One forward and backward pass of some terms of a draw over one batch.
    fn pass(
        &self,
        draw: &StepDraw,
        terms: &[usize],
        index: u64,
        batches: &dyn Batches<M>,
    ) -> Result<(GradientsParams, Vec<Sums>)> {
        let model = self.model();
        let batch = batches.train(model, index).map_err(|source| Error::Batch { index, source })?;
        let submodels: Vec<Submodel> = terms.iter().map(|t| draw.terms[*t].0.clone()).collect();
        let plan = match &submodels[..] {
            [one] => Plan::one(one),
            many => Plan::merged(many)?,
        };
        let noise = Noise { seed: self.config.seed, index };
        let walked = walk(model, &batch.input, &plan, &mut State::with_noise(noise))?;
        let losses = row_losses(model, &walked, &batch.target);
        let nats: Vec<Tensor<1>> = losses.iter().map(|l| l.nats.clone().sum()).collect();
        // Nats over all targets of the step: divided once.
        let total = (batches.targets_per_batch() as u64 * self.batches_per_step) as f64;
        let factors: Vec<f64> = terms.iter().map(|t| draw.terms[*t].1 / total).collect();
        let mut loss = nats
            .iter()
            .zip(&factors)
            .map(|(nats, factor)| nats.clone() * *factor)
            .reduce(|a, b| a + b)
            .unwrap_or_else(|| unreachable!("a draw has at least one term"));
        let distilled = match self.config.distill.as_ref().filter(|d| d.weight > 0.0) {
            None => None,
            Some(distill) => {
                let (batch, submodels, walked) = (&batch, &submodels[..], &walked);
                let pass = Pass { model, batch, index, submodels, walked, factors };
                pass.distill(distill, batches)?
            }
        };
        let mut sums: Vec<Sums> = losses
            .iter()
            .map(|l| Sums { count: l.counts.iter().sum(), ..Sums::default() })
            .collect();
        let mut grads = None;
        if let Some(distilled) = distilled {
            loss = loss + distilled.surrogate;
            grads = Some(distilled.grads);
            for (student, divergence) in distilled.sums {
                sums[student].distill = Some(divergence);
            }
        }
        let of_loss = GradientsParams::from_grads(loss.backward(), model);
        let grads = match grads {
            None => of_loss,
            Some(of_head) => {
                let mut accumulator = GradientsAccumulator::new();
                accumulator.accumulate(model, of_head);
                accumulator.accumulate(model, of_loss);
                accumulator.grads()
            }
        };
        let values: Vec<f32> = Tensor::cat(nats.into_iter().map(Tensor::inner).collect(), 0)
            .try_into_vec_as()
            .map_err(|e| matformer_nn::Error::read("loss", e))?;
        sums.iter_mut().zip(values).for_each(|(sums, nats)| sums.nats = f64::from(nats));
        Ok((grads, sums))
    }
}

/// What a term of a draw came to.
#[derive(Clone, Debug, Default)]
struct Sums {
    nats: f64,
    count: usize,
    /// Sum of temperature²·KL, of a student.
    distill: Option<f64>,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.nats += other.nats;
        self.count += other.count;
        if let Some(sum) = other.distill {
            *self.distill.get_or_insert(0.0) += sum;
        }
    }
}

/// Sums (label, sum, targets) as means, labels in their order.
fn means<'a>(sums: impl Iterator<Item = (&'a str, f64, usize)>) -> Vec<(String, f64)> {
    let mut by_label: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for (label, sum, count) in sums {
        let so_far = by_label.entry(label).or_default();
        *so_far = (so_far.0 + sum, so_far.1 + count);
    }
    let counted = by_label.into_iter().filter(|(_, (_, n))| *n > 0);
    counted.map(|(label, (sum, n))| (label.to_owned(), sum / n as f64)).collect()
}
