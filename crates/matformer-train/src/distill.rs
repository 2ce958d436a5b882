//! In-place distillation: narrow submodels learn the outputs of a wide one, in the same step
//! (US-Nets, arXiv 1903.05134).

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Tensor, activation::log_softmax},
};
use matformer_core::{Plan, Space, Submodel};
use matformer_nn::{Elastic, State, Walked, walk};
use serde::{Deserialize, Serialize};

use crate::{Batch, Batches, Error, Result};

/// `train.distill`: every drawn submodel but the teacher also learns the teacher's distribution:
/// `weight · temperature² · KL(softmax(teacher / temperature) ‖ softmax(student / temperature))`
/// per target is added to its loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// The teacher: a granularity's name; the widest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the term is multiplied by; 0: as if there were none.
    pub weight: f64,
    /// Softens both distributions.
    pub temperature: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Self { from: None, weight: 0.5, temperature: 1.0 }
    }
}

/// Logits held at a time, in elements.
const CHUNK_ELEMENTS: usize = 1 << 21;

impl Distill {
    /// The teacher among a model's granularities.
    ///
    /// # Errors
    /// When it has none of that name.
    pub fn teacher(&self, space: &Space) -> Result<Submodel> {
        match &self.from {
            None => Ok(space.largest()),
            Some(name) => Ok(space.uniform(name)?),
        }
    }
}

/// A pass whose outputs are distilled: the model, its batch, what was drawn and where it came out.
pub(crate) struct Pass<'a, M: Elastic> {
    pub(crate) model: &'a M,
    pub(crate) batch: &'a Batch<M>,
    /// The batch's number, to have it again where there are no gradients.
    pub(crate) index: u64,
    pub(crate) submodels: &'a [Submodel],
    pub(crate) walked: &'a Walked,
    /// What the sum of each submodel's divergences is multiplied by, weight and temperature apart.
    pub(crate) factors: Vec<f64>,
}

/// What distillation adds to a pass.
pub(crate) struct Distilled {
    /// A scalar whose gradient with respect to the walked outputs is that of the term.
    pub(crate) surrogate: Tensor<1>,
    /// The term's gradient with respect to the head's own parameters.
    pub(crate) grads: GradientsParams,
    /// Of each student: its place among the submodels, and its sum of temperature²·KL.
    pub(crate) sums: Vec<(usize, f64)>,
}

impl<M: Elastic> Pass<'_, M> {
    /// The distillation term of every submodel but the teacher; none if only the teacher was drawn.
    ///
    /// Each chunk of rows goes backward through the head at once, so the logits of one chunk are
    /// all that is ever held; the rest of the way back is one with the losses'.
    pub(crate) fn distill(
        &self,
        distill: &Distill,
        batches: &dyn Batches<M>,
    ) -> Result<Option<Distilled>> {
        let (model, teacher) = (self.model, distill.teacher(self.model.space())?);
        let students: Vec<usize> =
            (0..self.submodels.len()).filter(|i| self.submodels[*i] != teacher).collect();
        if students.is_empty() {
            return Ok(None);
        }
        let without_gradients = model.valid();
        let taught = self.teacher_hidden(&teacher, &without_gradients, batches)?;
        let [rows, d_model] = taught.dims();
        let [_, classes] = without_gradients.head(taught.clone().slice([0..1, 0..d_model])).dims();
        let chunk = (CHUNK_ELEMENTS / classes.max(1)).max(16);
        let counted = model.counted(&self.batch.target);

        let mut accumulator = GradientsAccumulator::new();
        let (mut sums, mut surrogate) = (Vec::new(), None);
        for student in students {
            let hidden = self.walked.of(student);
            let scale = distill.temperature.powi(2);
            let (mut total, mut gradients) = (0.0, Vec::new());
            for start in (0..rows).step_by(chunk) {
                let range = [start..(start + chunk).min(rows), 0..d_model];
                let logits = without_gradients.head(taught.clone().slice(range.clone()));
                let leaf = hidden.clone().inner().slice(range.clone()).autodiff().require_grad();
                let mut divergence =
                    divergence(logits, model.head(leaf.clone()), distill.temperature);
                if let Some(counted) = &counted {
                    divergence = divergence * counted.clone().slice([range[0].clone()]);
                }
                let sum = divergence.sum() * scale;
                let factor = self.factors[student] * distill.weight;
                let grads = (sum.clone() * factor).backward();
                gradients.push(leaf.grad(&grads).unwrap_or_else(|| leaf.clone().inner() * 0.0));
                accumulator.accumulate(model, GradientsParams::from_grads(grads, model));
                total += f64::from(read(sum.inner())?);
            }
            let term = (hidden * Tensor::cat(gradients, 0).autodiff()).sum();
            surrogate = Some(match surrogate {
                None => term,
                Some(sum) => sum + term,
            });
            sums.push((student, total));
        }
        let grads = accumulator.grads();
        Ok(surrogate.map(|surrogate| Distilled { surrogate, grads, sums }))
    }

    /// The teacher's hidden states without gradients, `[rows·seq, d_model]`: as walked if it was
    /// drawn, else by a walk of its own.
    fn teacher_hidden(
        &self,
        teacher: &Submodel,
        model: &M,
        batches: &dyn Batches<M>,
    ) -> Result<Tensor<2>> {
        if let Some(drawn) = self.submodels.iter().position(|submodel| submodel == teacher) {
            return Ok(self.walked.of(drawn).inner());
        }
        let index = self.index;
        let batch = batches.train(model, index).map_err(|source| Error::Batch { index, source })?;
        Ok(walk(model, &batch.input, &Plan::one(teacher), &mut State::new())?.of(0))
    }
}

/// `KL(softmax(teacher / t) ‖ softmax(student / t))` of each row, in nats.
///
/// # Shapes
/// - teacher: `[n, classes]`, without gradients
/// - student: `[n, classes]`
/// - output: `[n]`
fn divergence(teacher: Tensor<2>, student: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = student.dims();
    let teacher = log_softmax(teacher / temperature, 1);
    let student = log_softmax(student / temperature, 1);
    let probabilities = teacher.clone().exp().autodiff();
    (probabilities * (teacher.autodiff() - student)).sum_dim(1).reshape([n])
}

fn read(scalar: Tensor<1>) -> Result<f32> {
    let values: Vec<f32> =
        scalar.try_into_vec_as().map_err(|e| matformer_nn::Error::read("distillation loss", e))?;
    Ok(values.into_iter().sum())
}
