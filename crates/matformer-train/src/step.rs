//! The training step: one for every draw.

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};
use matformer_core::{Plan, Space, StepDraw, Submodel};
use matformer_nn::{Elastic, State, row_losses, walk};

use crate::{
    AdamW, Batches, Error, Result, TrainConfig, batches::Batch, learning_rate,
    optimizer::global_norm,
};

/// What one step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step, from 0.
    pub step: u64,
    /// Each drawn submodel's label, sum of nats and count of targets.
    pub terms: Vec<(String, f64, usize)>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// A model in training: it, its optimizer, and how many steps they have made.
pub struct Trainer<M> {
    // `None` only while a step owns it.
    model: Option<M>,
    optimizer: AdamW,
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
            config: config.clone(),
            step: 0,
            batches_per_step,
        }
    }

    /// Goes on from a state that was saved after `step` steps.
    pub(crate) fn restore(&mut self, model: M, optimizer: AdamW, step: u64) {
        self.model = Some(model);
        self.optimizer = optimizer;
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

    /// The optimizer as it stands.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// One optimizer step on the draw of this step: gradients of all its batches, clip, AdamW.
    ///
    /// # Errors
    /// When a batch cannot be had, or loss or gradient norm is not finite: the step is then not
    /// applied.
    pub fn step(&mut self, batches: &dyn Batches<M>) -> Result<StepReport> {
        let draw = self.config.draw.at(&self.space, self.config.seed, self.step);
        let (grads, nats, counts) = self.gradients(&draw, batches)?;
        let grad_norm = global_norm(self.model(), &grads)?;
        let loss: f64 = nats.iter().sum();
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                let checkpoint = String::new();
                return Err(Error::NonFinite { what, value, step: self.step + 1, checkpoint });
            }
        }
        let rate = learning_rate(&self.config, self.step);
        let drawn: Vec<Submodel> = draw.terms.iter().map(|(s, _)| s.clone()).collect();
        self.model = self
            .model
            .take()
            .map(|model| self.optimizer.step(model, grads, grad_norm, rate, &drawn));
        let terms = drawn.iter().zip(nats.iter().zip(&counts));
        let report = StepReport {
            step: self.step,
            terms: terms.map(|(s, (nats, n))| (self.space.label(s), *nats, *n)).collect(),
            grad_norm,
            learning_rate: rate,
        };
        self.step += 1;
        Ok(report)
    }

    /// Gradient of the draw's weighted mean loss over all batches of the step, with each term's
    /// sum of nats and count of targets.
    fn gradients(
        &self,
        draw: &StepDraw,
        batches: &dyn Batches<M>,
    ) -> Result<(GradientsParams, Vec<f64>, Vec<usize>)> {
        let n_terms = draw.terms.len();
        let per_step = self.batches_per_step;
        let mut accumulator = GradientsAccumulator::new();
        let (mut nats, mut counts) = (vec![0.0; n_terms], vec![0; n_terms]);
        for micro in 0..per_step {
            // Which terms run on which batch: all on one, or each on one of its own.
            let passes: Vec<(u64, Vec<usize>)> = match draw.separate_batches {
                false => vec![(self.step * per_step + micro, (0..n_terms).collect())],
                true => (0..n_terms)
                    .map(|t| ((self.step * per_step + micro) * n_terms as u64 + t as u64, vec![t]))
                    .collect(),
            };
            for (index, terms) in passes {
                let batch = batches
                    .train(self.model(), index)
                    .map_err(|source| Error::Batch { index, source })?;
                let (grads, sums) = self.pass(draw, &terms, &batch, batches.targets_per_batch())?;
                accumulator.accumulate(self.model(), grads);
                for (term, (sum, count)) in terms.into_iter().zip(sums) {
                    nats[term] += sum;
                    counts[term] += count;
                }
            }
        }
        Ok((accumulator.grads(), nats, counts))
    }

    /// One forward and backward pass of some terms of a draw over one batch.
    fn pass(
        &self,
        draw: &StepDraw,
        terms: &[usize],
        batch: &Batch<M>,
        targets: usize,
    ) -> Result<(GradientsParams, Vec<(f64, usize)>)> {
        let model = self.model();
        let submodels: Vec<Submodel> = terms.iter().map(|t| draw.terms[*t].0.clone()).collect();
        let plan = match &submodels[..] {
            [one] => Plan::one(one),
            many => Plan::merged(many)?,
        };
        let walked = walk(model, &batch.input, &plan, &mut State::new())?;
        let losses = row_losses(model, &walked, &batch.target);
        let sums: Vec<Tensor<1>> = losses.iter().map(|l| l.nats.clone().sum()).collect();
        // Nats over all targets of the step: divided once.
        let total = (targets as u64 * self.batches_per_step) as f64;
        let loss = terms
            .iter()
            .zip(&sums)
            .map(|(t, sum)| sum.clone() * (draw.terms[*t].1 / total))
            .reduce(|a, b| a + b)
            .unwrap_or_else(|| unreachable!("a draw has at least one term"));
        let grads = GradientsParams::from_grads(loss.backward(), model);
        let values: Vec<f32> = Tensor::cat(sums.into_iter().map(Tensor::inner).collect(), 0)
            .try_into_vec_as()
            .map_err(|e| matformer_nn::Error::Read {
                tensor: "loss".into(),
                message: e.to_string(),
            })?;
        let counts = losses.iter().map(|l| l.counts.iter().sum());
        Ok((grads, values.into_iter().map(f64::from).zip(counts).collect()))
    }
}
