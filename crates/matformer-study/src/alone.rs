//! Baselines of a run that are there, measured beside it.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, Submodel};
use matformer_eval::{Estimate, Evaluation, SubmodelResult, report::AlonePoint, stats};
use matformer_runfile::{self as run_file, RunFile};
use serde::{Deserialize, Serialize};

use crate::{Budget, Curve, Keep, budget::baseline, measured_baseline, results, walked};
use matformer_core::units::{counted, short};
use matformer_run::{Kind, ModelFolder, OrBadInput, Part, Result};
use matformer_train::say;

/// A granularity that was trained alone, measured on what its elastic run was measured on.
#[derive(Clone, Serialize, Deserialize)]
pub struct Alone {
    /// How much it was trained.
    pub budget: Budget,
    /// What was measured of it.
    pub result: SubmodelResult,
    /// Loss of the elastic size minus this one's, or its accuracy minus this one's, paired.
    pub elastic_above: Estimate,
}

impl Alone {
    /// As a page has it.
    pub(crate) fn on_page(&self) -> AlonePoint {
        AlonePoint {
            name: format!("{} alone", self.result.submodel),
            budget: self.budget.name().to_owned(),
            result: self.result.clone(),
            elastic_above: self.elastic_above,
        }
    }
}

/// Where a run's baseline is.
pub fn dir(run: &Path, budget: Budget, name: &str) -> PathBuf {
    run.join("baselines").join(budget.name()).join(name)
}

/// A granularity that was trained alone to its end.
pub struct Ended {
    /// How much it was trained.
    pub budget: Budget,
    /// Its size.
    pub submodel: Submodel,
    /// Its folder.
    pub dir: PathBuf,
}

/// Each of a run's granularities that was trained alone on the data that the run was trained on, for the
/// steps that its budget gives it; says which others are left out.
pub fn ended<K: Kind>(folder: &ModelFolder<K>) -> Result<Vec<Ended>> {
    let mut found = Vec::new();
    if !folder.dir.join("baselines").exists() || folder.only_trained().is_some() {
        return Ok(found);
    }
    let mut elastic = RunFile::<K>::load(&folder.dir.join(run_file::FILE), &[]).bad_input()?;
    // What is compared is the model that is there, whatever its run file asks for by now.
    elastic.train.steps = folder.manifest.provenance.steps;
    for budget in Budget::ALL {
        for submodel in folder.trained() {
            let name = folder.space().label(&submodel);
            let dir = dir(&folder.dir, budget, &name);
            if !dir.join(Manifest::FILE).exists() {
                continue;
            }
            let steps = baseline(&elastic, &name, budget)?.train.steps;
            match other_than(&folder.manifest, &Manifest::load(&dir).bad_input()?, steps) {
                None => found.push(Ended { budget, submodel, dir }),
                Some(why) => {
                    let again = match budget {
                        Budget::PerWidth => String::new(),
                        Budget::Total => format!(" --budget {}", budget.name()),
                    };
                    say!(
                        "note: {} is left out: {why}; matformer baselines {}{again}",
                        dir.display(),
                        folder.dir.display()
                    );
                }
            }
        }
    }
    Ok(found)
}

/// Why a baseline cannot be compared with its elastic run, where it cannot.
fn other_than(elastic: &Manifest, alone: &Manifest, steps: u64) -> Option<String> {
    let (ours, theirs) = (&elastic.provenance, &alone.provenance);
    if ours.data_hash != theirs.data_hash {
        let [theirs, ours] = [&theirs.data_hash, &ours.data_hash].map(|hash| short(hash));
        return Some(format!("trained on data {theirs}, the run on {ours}"));
    }
    if elastic.tokenizer_sha256 != alone.tokenizer_sha256 {
        return Some("trained with another tokenizer than the run".to_owned());
    }
    let made = theirs.steps;
    (made != steps).then(|| format!("trained {}, expected {steps}", counted(made as usize, "step")))
}

/// The `baselines` of a run, as they and the run were measured for a report.
pub fn alone<K: Kind>(
    folder: &ModelFolder<K>,
    baselines: &[Ended],
    elastic: &Curve<K>,
    tokens: Option<usize>,
    keep: Keep,
) -> Result<Vec<Alone>> {
    let mut found = Vec::new();
    for Ended { budget, submodel, dir } in baselines {
        let name = folder.space().label(submodel);
        let baseline = ModelFolder::<K>::load(dir, &folder.session.alone())?;
        let baseline = baseline.with_context(folder.context())?;
        let Some(measured) = measured_baseline(&baseline, elastic.data.as_ref(), tokens, keep)?
        else {
            say!("note: {} is left out: its data cannot be read", dir.display());
            continue;
        };
        let elastic = &elastic.measured;
        let same = measured.results.data == elastic.results.data;
        let documents = (elastic.documents.get(&name), measured.documents.get(&name));
        if let ((Some(ours), Some(theirs)), true) = (documents, same) {
            let elastic_above = stats::judged_difference(ours, theirs)?;
            let result = measured.results.results.into_iter().find(|r| r.submodel == name);
            found.extend(result.map(|result| Alone { budget: *budget, result, elastic_above }));
        } else {
            say!("note: {} is left out: it was measured on other data than the run", dir.display());
        }
    }
    Ok(found)
}

/// Those `baselines` of a run that are of the `submodels`, measured on the data that the run was measured on.
pub fn beside<K: Kind>(
    folder: &ModelFolder<K>,
    baselines: &[Ended],
    prepared: &K::Prepared,
    elastic: &Evaluation,
    submodels: &[Submodel],
    tokens: Option<usize>,
) -> Result<Vec<Alone>> {
    let mut found = Vec::new();
    for Ended { budget, submodel, dir } in baselines {
        if !submodels.contains(submodel) {
            continue;
        }
        let baseline = ModelFolder::<K>::load(dir, &folder.session.alone())?;
        let baseline = baseline.with_context(folder.context())?;
        let part = Part { targets: tokens, ..Part::default() };
        let theirs = walked(&baseline, prepared, &baseline.trained(), &part)?;
        let results = results(&baseline, prepared, &theirs, None)?;
        let losses = theirs.losses(&baseline.trained()[0])?;
        let elastic_above = stats::judged_difference(elastic.losses(submodel)?, losses)?;
        let result = results.results.into_iter().next();
        found.extend(result.map(|result| Alone { budget: *budget, result, elastic_above }));
    }
    Ok(found)
}
