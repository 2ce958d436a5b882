//! Distillation: submodels learn the outputs of a teacher, which is a wide submodel in the same step
//! (in place, US-Nets, arXiv 1903.05134) or another model that does not change.

use std::path::{Path, PathBuf};

use burn::{module::Module, tensor::FloatDType};
use matformer_core::{Plan, Space, Submodel};
use matformer_nn::{
    Elastic, Output, State, Walked,
    ops::{Direction, DistillationWeights, Divergence},
    walk,
};
use serde::{Deserialize, Serialize};

use crate::{Batches, Error, Result, ranks::Pass};

/// `train.distill`: drawn submodels, all but the teacher or those that are named, learn the teacher's
/// distribution. The loss of one per target is `cross_entropy` times the cross-entropy with the data, plus
/// `weight · temperature² · KL(softmax(teacher / temperature) ‖ softmax(student / temperature))`; with
/// `reverse`, KL is taken the other way round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// The teacher: a granularity's name; the widest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A model folder instead: its full width teaches all drawn submodels, and does not change. The
    /// caller of [`run_taught`](crate::run_taught) reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Names of the granularities that learn from the teacher: the others learn from the data alone.
    /// If absent, all but the teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub students: Option<Vec<String>>,
    /// Weight of the distillation loss; 0 disables it.
    pub weight: f64,
    /// Weight of the cross-entropy with the data, of submodels that learn from the teacher.
    pub cross_entropy: f64,
    /// Softens both distributions.
    pub temperature: f64,
    /// KL(student ‖ teacher) in place of KL(teacher ‖ student).
    pub reverse: bool,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            from: None,
            teacher: None,
            students: None,
            weight: 0.5,
            cross_entropy: 1.0,
            temperature: 1.0,
            reverse: false,
        }
    }
}

impl Distill {
    /// The teacher among a model's own submodels; none where a folder has it.
    ///
    /// # Errors
    /// When `from` names no granularity.
    pub fn own_teacher(&self, space: &Space) -> Result<Option<Submodel>> {
        match (&self.teacher, &self.from) {
            (Some(_), _) => Ok(None),
            (None, None) => Ok(Some(space.largest())),
            (None, Some(name)) => Ok(Some(space.uniform(name)?)),
        }
    }

    /// The folder of the model that teaches, if one does.
    pub fn folder(&self) -> Option<&Path> {
        self.teacher.as_deref().filter(|_| self.weight > 0.0)
    }

    /// Those of some drawn submodels that learn from the teacher, by index.
    ///
    /// # Errors
    /// When `from` or `students` name no granularity.
    pub(crate) fn students(&self, space: &Space, drawn: &[Submodel]) -> Result<Vec<usize>> {
        let own = self.own_teacher(space)?;
        let named = |names: &Vec<String>| names.iter().map(|name| space.uniform(name)).collect();
        let named: Option<Vec<Submodel>> = self.students.as_ref().map(named).transpose()?;
        let learns = |submodel: &Submodel| {
            own.as_ref() != Some(submodel)
                && named.as_ref().is_none_or(|named| named.contains(submodel))
        };
        Ok((0..drawn.len()).filter(|i| learns(&drawn[*i])).collect())
    }

    /// The error of a run whose teacher was not read.
    pub(crate) fn no_teacher(&self) -> Error {
        let found = self.teacher.as_deref().unwrap_or(Path::new("")).display().to_string();
        let expected = "a folder whose model is passed to `run_taught`".to_owned();
        Error::Config { field: "distill.teacher", found, expected }
    }

    /// Weights of what students learn from.
    pub(crate) fn weights(&self) -> DistillationWeights {
        let Self { cross_entropy, weight: divergence, .. } = *self;
        DistillationWeights { cross_entropy, divergence }
    }

    /// How students are compared with the teacher.
    pub(crate) fn rule(&self) -> Divergence {
        let direction = if self.reverse { Direction::Reverse } else { Direction::Forward };
        Divergence { temperature: self.temperature, direction }
    }
}

/// Output of a teacher at its submodel `teacher` for the rows of `pass`, detached, computed in `dtype` without
/// drop-path.
pub(crate) fn taught<M: Elastic + Module>(
    model: &M,
    batches: &dyn Batches<M>,
    pass: &Pass,
    teacher: &Submodel,
    dtype: FloatDType,
) -> Result<Output> {
    let model = model.valid();
    let batch = pass.read(&model, batches)?;
    let mut state = State::new().computing_in(dtype);
    let output = walk(&model, &batch.input, &Plan::one(teacher), &mut state)?.of(0);
    let hidden = output.hidden.clone().autodiff();
    Ok(output.with_hidden(hidden))
}

/// The same of a teacher that this step's forward pass went through.
pub(crate) fn taught_by_drawn(walked: &Walked, drawn: usize) -> Output {
    let output = walked.of(drawn);
    let hidden = output.hidden.clone().detach();
    output.with_hidden(hidden)
}
