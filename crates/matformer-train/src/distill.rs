//! In-place distillation: narrow submodels learn the outputs of a wide one, in the same step
//! (US-Nets, arXiv 1903.05134).

use burn::module::Module;
use matformer_core::{Plan, Space, Submodel};
use matformer_nn::{
    Elastic, Output, State, Walked,
    ops::{Direction, Divergence},
    walk,
};
use serde::{Deserialize, Serialize};

use crate::{Batches, Error, Result};

/// `train.distill`: every drawn submodel but the teacher also learns the teacher's distribution:
/// `weight · temperature² · KL(softmax(teacher / temperature) ‖ softmax(student / temperature))`
/// per target is added to its loss; with `reverse`, KL is taken the other way round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// The teacher: a granularity's name; the widest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Weight of the distillation loss; 0 disables it.
    pub weight: f64,
    /// Softens both distributions.
    pub temperature: f64,
    /// KL(student ‖ teacher) in place of KL(teacher ‖ student).
    pub reverse: bool,
}

impl Default for Distill {
    fn default() -> Self {
        Self { from: None, weight: 0.5, temperature: 1.0, reverse: false }
    }
}

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

    /// How students are compared with the teacher.
    pub(crate) fn rule(&self) -> Divergence {
        let direction = if self.reverse { Direction::Reverse } else { Direction::Forward };
        Divergence { temperature: self.temperature, direction }
    }
}

/// Output of the teacher for batch number `index`, detached. Reused from this step's walk if the
/// teacher was drawn, otherwise computed by a separate walk without drop-path.
pub(crate) fn taught<M: Elastic + Module>(
    model: &M,
    batches: &dyn Batches<M>,
    index: u64,
    teacher: &Submodel,
    (submodels, walked): (&[Submodel], &Walked),
) -> Result<Output> {
    if let Some(drawn) = submodels.iter().position(|submodel| submodel == teacher) {
        let output = walked.of(drawn);
        let hidden = output.hidden.clone().detach();
        return Ok(output.with_hidden(hidden));
    }
    let model = model.valid();
    let batch = batches.train(&model, index).map_err(|source| Error::Batch { index, source })?;
    let output = walk(&model, &batch.input, &Plan::one(teacher), &mut State::new())?.of(0);
    let hidden = output.hidden.clone().autodiff();
    Ok(output.with_hidden(hidden))
}
