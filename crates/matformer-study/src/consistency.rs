//! How far submodels predict what the largest does, and whether models that were trained alone agree with theirs.

use matformer_core::Submodel;
use matformer_eval::{
    Consistency, Consistent, Continued, Likeness, Reference, SubmodelLosses, stats,
};
use matformer_run::{Against, Kind, ModelFolder, Part, Result};

use crate::{Budget, alone::Ended, say_not_kept, store_with};

/// Compares submodels of a model with its largest one on its held-out data, and those of its `baselines` that are of
/// these sizes, each with the largest that was trained alone as much. What was measured before is not measured again.
///
/// # Errors
/// When a model or the data cannot be read.
pub fn consistency<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    targets: Option<usize>,
    baselines: &[Ended],
) -> Result<Consistency> {
    let part = Part { targets, ..Part::default() };
    let largest = folder.submodel(None)?;
    let to = To { folder, submodel: &largest };
    let elastic = Compared::new(folder, prepared, submodels, &part, to)?;
    let mut results = elastic.results(folder, None)?;
    let load = |one: &Ended| -> Result<ModelFolder<K>> {
        ModelFolder::load(&one.dir, &folder.session)?.with_context(folder.context())
    };
    for budget in Budget::ALL {
        let of_budget = || baselines.iter().filter(|one| one.budget == budget);
        let Some(widest) = of_budget().find(|one| one.submodel == largest) else { continue };
        let reference = load(widest)?;
        for one in of_budget().filter(|one| submodels.contains(&one.submodel)) {
            let to = To { folder: &reference, submodel: &largest };
            let of = std::slice::from_ref(&one.submodel);
            let other = (one.submodel != largest).then(|| load(one)).transpose()?;
            let model = other.as_ref().unwrap_or(&reference);
            let compared = Compared::new(model, prepared, of, &part, to)?;
            results.extend(compared.results(model, Some(budget))?);
        }
    }
    Ok(Consistency {
        to: folder.space().label(&largest),
        targets: elastic.targets(),
        continued: elastic.continued(),
        results,
    })
}

/// The same of a run's granularities, for its report; nothing of a single size, or without the data.
///
/// # Errors
/// As [`consistency`].
pub fn of_trained<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: Option<&K::Prepared>,
    targets: Option<usize>,
    baselines: &[Ended],
) -> Result<Option<Consistency>> {
    let sizes = folder.trained();
    let prepared = prepared.filter(|_| sizes.len() > 1);
    prepared.map(|prepared| consistency(folder, prepared, &sizes, targets, baselines)).transpose()
}

/// A model that others are compared with.
struct To<'a, K: Kind> {
    folder: &'a ModelFolder<K>,
    submodel: &'a Submodel,
}

/// Submodels that were compared with one, on held-out data and on texts that continue it.
struct Compared {
    held_out: Vec<SubmodelLosses>,
    continued: Option<Vec<SubmodelLosses>>,
}

impl Compared {
    fn new<K: Kind>(
        folder: &ModelFolder<K>,
        prepared: &K::Prepared,
        submodels: &[Submodel],
        part: &Part,
        to: To<'_, K>,
    ) -> Result<Self> {
        let of = |continued: bool| -> Result<Option<Vec<SubmodelLosses>>> {
            let mut store = store_with(folder, prepared, &to.key(continued))?;
            let reference = Reference { model: &to.folder.model, submodel: to.submodel };
            let against = Against { reference, continued };
            let mut bar = folder.session.bar("comparing");
            let mut progress = |done, total| bar.at(done as u64, total as u64);
            let found =
                K::beside(folder, prepared, &mut store, submodels, part, against, &mut progress);
            drop(bar);
            say_not_kept(&store);
            Ok(found?.map(|studied| studied.evaluation.submodels))
        };
        Ok(Self { held_out: of(false)?.unwrap_or_default(), continued: of(true)? })
    }

    fn results<K: Kind>(
        &self,
        folder: &ModelFolder<K>,
        alone: Option<Budget>,
    ) -> Result<Vec<Consistent>> {
        let mut results = Vec::with_capacity(self.held_out.len());
        for (at, losses) in self.held_out.iter().enumerate() {
            let Some(held_out) = Likeness::of(&losses.documents)? else { continue };
            let continued = self.continued.as_ref().map_or(&[][..], |all| &all[at].documents);
            let (written, own) = if continued.is_empty() {
                (None, None)
            } else {
                let own = stats::per_target(continued, |d| Some(d.beside?.own? as f64))?;
                (Likeness::of(continued)?, own)
            };
            results.push(Consistent {
                submodel: folder.space().label(&losses.submodel),
                alone: alone.map(|budget| budget.name().to_owned()),
                held_out,
                written,
                own,
            });
        }
        Ok(results)
    }

    fn targets(&self) -> usize {
        let documents = self.held_out.first().map_or(&[][..], |of| &of.documents);
        documents.iter().map(|document| document.tokens).sum()
    }

    fn continued(&self) -> Option<Continued> {
        let documents = &self.continued.as_ref()?.first()?.documents;
        Some(Continued { texts: documents.len(), tokens: documents.first()?.tokens })
    }
}

impl<K: Kind> To<'_, K> {
    /// What tells measurements beside this model from others on the same data.
    fn key(&self, continued: bool) -> String {
        let text = if continued { "continued" } else { "held-out" };
        format!("beside {} {} {text}", self.folder.manifest.weights_sha256, self.submodel)
    }
}
