//! How far submodels predict what the largest does, and whether models that were trained alone agree with theirs.

use matformer_core::Submodel;
use matformer_eval::{
    Consistency, Consistent, Continued, Likeness, Reads, Reference, SubmodelLosses,
};
use matformer_run::{Against, Kind, ModelFolder, Part, Result};

use crate::{
    Budget,
    alone::{Ended, ended},
    say_not_kept, store_with,
};

/// Compares submodels of a model with its largest one on its held-out data, and with them those of its baselines that
/// have ended, each with the largest that was trained alone as much. What was measured before is not measured again.
///
/// # Errors
/// When a model or the data cannot be read.
pub fn consistency<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    targets: Option<usize>,
) -> Result<Consistency> {
    let part = Part { targets, ..Part::default() };
    let largest = folder.submodel(None)?;
    let to = To { folder, submodel: &largest };
    let elastic = Compared::new(folder, prepared, submodels, &part, to)?;
    let mut results = elastic.results(folder, None)?;
    let mut baselines = ended(folder)?;
    baselines.retain(|one| submodels.contains(&one.submodel) || one.submodel == largest);
    for budget in Budget::ALL {
        let of_budget: Vec<&Ended> = baselines.iter().filter(|one| one.budget == budget).collect();
        let Some(widest) = of_budget.iter().find(|one| one.submodel == largest) else { continue };
        let load = |one: &Ended| -> Result<ModelFolder<K>> {
            ModelFolder::load(&one.dir, &folder.session)?.with_context(folder.context())
        };
        let reference = load(widest)?;
        for one in of_budget.iter().filter(|one| submodels.contains(&one.submodel)) {
            let to = To { folder: &reference, submodel: &largest };
            let (one, of) = (load(one)?, std::slice::from_ref(&one.submodel));
            let compared = Compared::new(&one, prepared, of, &part, to)?;
            results.extend(compared.results(&one, Some(budget))?);
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
) -> Result<Option<Consistency>> {
    let sizes = folder.trained();
    let prepared = prepared.filter(|_| sizes.len() > 1);
    prepared.map(|prepared| consistency(folder, prepared, &sizes, targets)).transpose()
}

/// A model that others are compared with.
struct To<'a, K: Kind> {
    folder: &'a ModelFolder<K>,
    submodel: &'a Submodel,
}

/// Submodels that were compared with one, on each kind of text.
struct Compared {
    held_out: Vec<SubmodelLosses>,
    written: Option<Vec<SubmodelLosses>>,
    own: Option<Vec<SubmodelLosses>>,
}

impl Compared {
    fn new<K: Kind>(
        folder: &ModelFolder<K>,
        prepared: &K::Prepared,
        submodels: &[Submodel],
        part: &Part,
        to: To<'_, K>,
    ) -> Result<Self> {
        let of = |continued: Option<Reads>| -> Result<Option<Vec<SubmodelLosses>>> {
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
        Ok(Self {
            held_out: of(None)?.unwrap_or_default(),
            written: of(Some(Reads::Reference))?,
            own: of(Some(Reads::Own))?,
        })
    }

    fn results<K: Kind>(
        &self,
        folder: &ModelFolder<K>,
        alone: Option<Budget>,
    ) -> Result<Vec<Consistent>> {
        let mut results = Vec::with_capacity(self.held_out.len());
        for (at, losses) in self.held_out.iter().enumerate() {
            let of = |all: &Option<Vec<SubmodelLosses>>| match all {
                Some(all) => Likeness::of(&all[at].documents),
                None => Ok(None),
            };
            let Some(held_out) = Likeness::of(&losses.documents)? else { continue };
            results.push(Consistent {
                submodel: folder.space().label(&losses.submodel),
                alone: alone.map(|budget| budget.name().to_owned()),
                held_out,
                written: of(&self.written)?,
                own: of(&self.own)?.map(|own| own.equal),
            });
        }
        Ok(results)
    }

    fn targets(&self) -> usize {
        let documents = self.held_out.first().map_or(&[][..], |of| &of.documents);
        documents.iter().map(|document| document.tokens).sum()
    }

    fn continued(&self) -> Option<Continued> {
        let documents = &self.own.as_ref()?.first()?.documents;
        Some(Continued { texts: documents.len(), tokens: documents.first()?.tokens })
    }
}

impl<K: Kind> To<'_, K> {
    /// What tells measurements beside this model from others on the same data.
    fn key(&self, continued: Option<Reads>) -> String {
        let text = match continued {
            None => "held-out",
            Some(Reads::Reference) => "written",
            Some(Reads::Own) => "own",
        };
        format!("beside {} {} {text}", self.folder.manifest.weights_sha256, self.submodel)
    }
}
