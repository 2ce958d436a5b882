//! The training step: one for every draw.

mod exchanged;

use std::collections::BTreeMap;

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};
use matformer_core::{Plan, Space, StepDraw, Submodel};
use matformer_exchange::Exchange;
use matformer_nn::{Elastic, Noise, Output, RowLoss, State, Taught, TaughtLoss, Walked, walk};

use crate::{
    Batches, Distill, Error, ExchangeRule, Guard, Optimizer, Outlier, Result, TrainConfig,
    distill::{taught, taught_by_drawn},
    learning_rate,
    ranks::{Pass, passes, share},
    step::exchanged::{Exchanged, Found},
};

/// What one step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step, counted from 0 (log lines and errors count from 1).
    pub step: u64,
    /// Loss of each drawn submodel.
    pub terms: Vec<Term>,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Why the step was skipped, if it was.
    pub outlier: Option<Outlier>,
}

/// Loss of one drawn submodel in a step: sums over its targets; divide by `count` for means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    /// The submodel's label.
    pub label: String,
    /// Sum of nats.
    pub nats: f64,
    /// Targets.
    pub count: usize,
    /// Sum of temperature²·KL to the teacher, if it learned from one.
    pub divergence: Option<f64>,
}

impl StepReport {
    /// Nats per target of each label, in the order of the labels.
    pub fn losses(&self) -> Vec<(String, f64)> {
        self.means(|term| Some(term.nats))
    }

    /// The same of temperature²·KL to the teacher, of labels that learned from it.
    pub fn divergences(&self) -> Vec<(String, f64)> {
        self.means(|term| term.divergence)
    }

    /// Means of sums over targets by label, labels in their order.
    fn means(&self, sum: impl Fn(&Term) -> Option<f64>) -> Vec<(String, f64)> {
        let mut by_label: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
        for term in &self.terms {
            if let Some(sum) = sum(term) {
                let (total, count) = by_label.entry(&term.label).or_default();
                *total += sum;
                *count += term.count;
            }
        }
        let counted = by_label.into_iter().filter(|(_, (_, n))| *n > 0);
        counted.map(|(label, (sum, n))| (label.to_owned(), sum / n as f64)).collect()
    }
}

/// What one submodel learns from one batch, still on the device: sums over its targets, `[1]` each.
struct Learnt {
    /// The loss, with its gradient.
    total: Tensor<1>,
    nats: Tensor<1>,
    divergence: Option<Tensor<1>>,
    targets: usize,
}

impl Learnt {
    fn plain(RowLoss { nats, counts }: RowLoss) -> Self {
        let total = nats.sum();
        let nats = total.clone().inner();
        Self { total, nats, divergence: None, targets: counts.iter().sum() }
    }

    fn taught(loss: TaughtLoss) -> Self {
        Self {
            total: loss.total.sum(),
            nats: loss.nats.sum().inner(),
            divergence: Some(loss.divergence.sum().inner()),
            targets: loss.counts.iter().sum(),
        }
    }

    /// Its sums, to be read.
    fn sums(&self) -> impl Iterator<Item = Tensor<1>> {
        [Some(self.nats.clone()), self.divergence.clone()].into_iter().flatten()
    }

    /// Adds its sums, read in their order, to what the term came to so far.
    fn add_to(&self, term: &mut Term, mut sums: impl Iterator<Item = f32>) {
        let mut next = || f64::from(sums.next().unwrap_or(f32::NAN));
        term.nats += next();
        term.count += self.targets;
        if self.divergence.is_some() {
            *term.divergence.get_or_insert(0.0) += next();
        }
    }
}

/// A model in training: it, its optimizer, and how many steps they have made.
pub struct Trainer<M> {
    // `None` only while a step owns it.
    model: Option<M>,
    // Of a run that learns from a model that does not change.
    teacher: Option<M>,
    optimizer: Optimizer,
    guard: Guard,
    config: TrainConfig,
    space: Space,
    step: u64,
    /// The step in front of which the round of steps began, where ranks make rounds.
    round_from: u64,
    batches_per_step: u64,
    exchange: Exchange,
}

impl<M: Elastic + Module> Trainer<M> {
    /// A trainer at step 0. The model must be on a device with gradients; parts that
    /// [`freeze`](field@TrainConfig::freeze) names get none.
    pub fn new(model: M, config: &TrainConfig, batches_per_step: u64) -> Self {
        Self {
            space: model.space().clone(),
            model: Some(config.freeze(model)),
            teacher: None,
            optimizer: Optimizer::new(config),
            guard: Guard::default(),
            config: config.clone(),
            step: 0,
            round_from: 0,
            batches_per_step,
            exchange: Exchange::local(),
        }
    }

    /// As a rank of `exchange`: a step is made by all ranks together, each on its share of the rows.
    /// Draws and batches do not depend on their number.
    pub fn with_exchange(self, exchange: Exchange) -> Self {
        Self { exchange, ..self }
    }

    /// With the model that `distill.teacher` names, on the same device.
    pub fn with_teacher(self, teacher: M) -> Self {
        Self { teacher: Some(teacher.no_grad()), ..self }
    }

    /// Goes on from a state that was saved after `step` steps.
    pub(crate) fn restore(&mut self, model: M, optimizer: Optimizer, guard: Guard, step: u64) {
        self.model = Some(self.config.freeze(model));
        self.optimizer = optimizer;
        self.guard = guard;
        // Checkpoints are written between rounds.
        (self.step, self.round_from) = (step, step);
    }

    /// Whether all ranks have the same weights.
    pub(crate) fn is_between_rounds(&self) -> bool {
        self.optimizer.is_between_rounds()
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
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The guard as it stands.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// One optimizer step on the draw of this step: gradients of all its batches, clip, AdamW.
    ///
    /// A step with a loss spike or a non-finite gradient norm is skipped: the step counter
    /// advances, but weights and optimizer state do not change.
    ///
    /// # Errors
    /// When a batch cannot be read, or the loss is NaN or infinite; without the spike guard
    /// (`spike.nats` = 0) also when the gradient norm is. The step is then not applied.
    pub fn step(&mut self, batches: &dyn Batches<M>) -> Result<StepReport> {
        let draw = self.config.draw.at(&self.space, self.config.seed, self.step);
        self.step_on(&draw, batches)
    }

    /// The same on another draw than this step's.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_on(&mut self, draw: &StepDraw, batches: &dyn Batches<M>) -> Result<StepReport> {
        let own = self.gradients(draw, batches);
        let Exchanged { grads, terms, norm, grad_norm } = match self.config.exchange {
            ExchangeRule::EveryStep => self.exchange_gradients(draw, own)?,
            ExchangeRule::Rounds(_) => self.exchange_losses(draw, own)?,
        };
        let drawn: Vec<Submodel> = draw.terms.iter().map(|(s, _)| s.clone()).collect();
        let mut report = StepReport {
            step: self.step,
            terms,
            grad_norm,
            learning_rate: learning_rate(&self.config, self.step),
            outlier: None,
        };
        // All ranks judge the same.
        let failed = |error| self.exchange.agree(Err(error), Error::whole);
        report.outlier = self.judge(&report).or_else(failed)?;
        match report.outlier {
            Some(_) => self.guard.left_out(),
            None => {
                self.guard.applied(&self.space, &report.losses());
                let rate = report.learning_rate;
                self.model = self
                    .model
                    .take()
                    .map(|model| self.optimizer.step(model, grads, norm, rate, &drawn));
            }
        }
        self.step += 1;
        self.outer_step()?;
        Ok(report)
    }

    /// The outlier because of which the step must be skipped, if there is one.
    fn judge(&self, report: &StepReport) -> Result<Option<Outlier>> {
        let spike = &self.config.spike;
        let loss: f64 = report.terms.iter().map(|term| term.nats).sum();
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
        if self.step < self.config.warmup {
            return Ok(None);
        }
        Ok(self.guard.spike(spike, &self.space, &report.losses()))
    }

    /// Gradient of the draw's weighted mean loss over this rank's share of the step's batches, with what
    /// each term came to there.
    fn gradients(&self, draw: &StepDraw, batches: &dyn Batches<M>) -> Result<Found> {
        let n_terms = draw.terms.len();
        let per_step = self.batches_per_step;
        let mut accumulator = GradientsAccumulator::new();
        let label = |(submodel, _): &(Submodel, f64)| self.space.label(submodel);
        let mut totals: Vec<Term> =
            draw.terms.iter().map(|term| Term { label: label(term), ..Term::default() }).collect();
        // Terms that run on the same rows: all of them, or each on rows of its own. However many rows a
        // pass has, those of a step go to the same terms.
        let together: Vec<Vec<usize>> = if draw.separate_batches {
            (0..n_terms).map(|term| vec![term]).collect()
        } else {
            vec![(0..n_terms).collect()]
        };
        let first = self.step * together.len() as u64 * per_step;
        for (terms, first) in together.iter().zip((first..).step_by(per_step as usize)) {
            for pass in passes(&self.exchange, first, per_step, batches.rows()) {
                let grads = self.pass(draw, terms, &pass, batches, &mut totals)?;
                accumulator.accumulate(self.model(), grads);
            }
        }
        Ok((accumulator.grads(), totals))
    }

    /// The teacher and its output on the rows of `pass`, after the model has taken them through `submodels`.
    fn taught(
        &self,
        distill: &Distill,
        batches: &dyn Batches<M>,
        pass: &Pass,
        submodels: &[Submodel],
        walked: &Walked,
    ) -> Result<(&M, Output)> {
        let dtype = self.config.dtype.dtype();
        let Some(own) = distill.own_teacher(&self.space)? else {
            let teacher = self.teacher.as_ref().ok_or_else(|| distill.no_teacher())?;
            let widest = teacher.space().largest();
            return Ok((teacher, taught(teacher, batches, pass, &widest, dtype)?));
        };
        let model = self.model();
        let output = match submodels.iter().position(|submodel| *submodel == own) {
            Some(drawn) => taught_by_drawn(walked, drawn),
            None => taught(model, batches, pass, &own, dtype)?,
        };
        Ok((model, output))
    }

    /// What each of `submodels` learns from the rows of `pass`, which have been taken through all of them.
    fn learnt(
        &self,
        target: &M::Target,
        batches: &dyn Batches<M>,
        pass: &Pass,
        submodels: &[Submodel],
        walked: &Walked,
    ) -> Result<Vec<Learnt>> {
        let model = self.model();
        let plain = |i: usize| Learnt::plain(model.loss(&walked.of(i), target));
        let distill = self.config.distill.as_ref().filter(|distill| distill.weight > 0.0);
        let students = match distill {
            Some(distill) => distill.students(&self.space, submodels)?,
            None => Vec::new(),
        };
        let Some(distill) = distill.filter(|_| !students.is_empty()) else {
            return Ok((0..submodels.len()).map(plain).collect());
        };
        let (teacher, output) = self.taught(distill, batches, pass, submodels, walked)?;
        let taught = |i: usize| {
            let taught = Taught { model: teacher, output: &output };
            let (rule, weights) = (distill.rule(), distill.weights());
            Learnt::taught(model.taught_loss(&walked.of(i), taught, target, rule, weights))
        };
        let learnt = |i| if students.contains(&i) { taught(i) } else { plain(i) };
        Ok((0..submodels.len()).map(learnt).collect())
    }

    /// One forward and backward pass of some terms of a draw; adds what they come to to `totals`.
    fn pass(
        &self,
        draw: &StepDraw,
        terms: &[usize],
        pass: &Pass,
        batches: &dyn Batches<M>,
        totals: &mut [Term],
    ) -> Result<GradientsParams> {
        let model = self.model();
        let batch = pass.read(model, batches)?;
        let submodels: Vec<Submodel> = terms.iter().map(|t| draw.terms[*t].0.clone()).collect();
        let plan = match &submodels[..] {
            [one] => Plan::one(one),
            many => Plan::merged(many)?,
        };
        let noise = Noise { seed: self.config.seed, index: pass.index, part: pass.part() };
        let mut state = State::with_noise(noise).computing_in(self.config.dtype.dtype());
        let walked = walk(model, &batch.input, &plan, &mut state)?;
        // Nats over all targets of the step: divided once. A rank that makes the step by itself divides by its own.
        let share = match self.config.exchange {
            ExchangeRule::EveryStep => 1.0,
            ExchangeRule::Rounds(_) => share(&self.exchange, self.batches_per_step, batches.rows()),
        };
        let targets = batches.learnt_per_batch() * self.batches_per_step as f64 * share;
        let factor = |term: usize| draw.terms[term].1 / targets;

        let learnt = self.learnt(&batch.target, batches, pass, &submodels, &walked)?;
        let loss = learnt
            .iter()
            .zip(terms)
            .map(|(learnt, term)| learnt.total.clone() * factor(*term))
            .reduce(|a, b| a + b)
            .unwrap_or_else(|| unreachable!("a draw has at least one term"));
        let grads = GradientsParams::from_grads(loss.backward(), model);
        // One read for all of them.
        let sums = Tensor::cat(learnt.iter().flat_map(Learnt::sums).collect(), 0);
        let sums: Vec<f32> =
            sums.try_into_vec_as().map_err(|e| matformer_nn::Error::read("loss", e))?;
        let mut sums = sums.into_iter();
        for (term, learnt) in terms.iter().zip(&learnt) {
            learnt.add_to(&mut totals[*term], &mut sums);
        }
        Ok(grads)
    }
}
