//! Submodels on held-out data, beside what their granularities reach alone: what `matformer eval` prints.

use matformer_core::SubmodelSpec;
use matformer_eval::{Consistency, EvalResults};
use matformer_run::{Kind, ModelFolder, Result};
use serde::Serialize;

use crate::{
    alone::{Alone, beside, ended},
    consistency::consistency,
    measure, results,
};

/// What is measured.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The submodels; every granularity if none.
    pub submodels: Option<Vec<SubmodelSpec>>,
    /// The submodel that they are compared with; the largest if none.
    pub paired_to: Option<SubmodelSpec>,
    /// Held-out targets; all if none.
    pub tokens: Option<usize>,
    /// Whether predictions are compared as well, with those of the largest.
    pub consistency: bool,
}

/// What was found. Its JSON is stable.
#[derive(Serialize)]
pub struct Evaluated {
    /// The submodels, in the order in which they were asked for.
    #[serde(flatten)]
    pub results: EvalResults,
    /// Baselines of the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alone: Vec<Alone>,
    /// How far they predict what the largest does, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
}

/// Measures submodels of a model, and those of its baselines that are of these sizes, on what `data` gives once all
/// submodels are known. What was measured before is not measured again.
///
/// # Errors
/// A submodel that the model does not have; a model or data that cannot be read.
pub fn evaluate<K: Kind>(
    folder: &ModelFolder<K>,
    question: &Question,
    data: impl FnOnce() -> Result<K::Prepared>,
) -> Result<Evaluated> {
    let tokens = question.tokens;
    let mut submodels = folder.submodels(question.submodels.as_deref())?;
    let reference = folder.submodel(question.paired_to.as_ref())?;
    let shown = submodels.len();
    // The reference is measured with the others, and shown if it was asked for.
    if !submodels.contains(&reference) {
        submodels.push(reference.clone());
    }
    let prepared = data()?;
    let evaluation = measure(folder, &prepared, &submodels, tokens)?;
    let mut results = results(folder, &prepared, &evaluation, Some(&reference))?;
    results.results.truncate(shown);
    submodels.truncate(shown);
    let ended = ended(folder)?;
    let alone = beside(folder, &ended, &prepared, &evaluation, &submodels, tokens)?;
    let consistency = question
        .consistency
        .then(|| consistency(folder, &prepared, &submodels, tokens, &ended))
        .transpose()?;
    Ok(Evaluated { results, alone, consistency })
}
