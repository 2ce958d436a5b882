//! Sweeps: losses of any number of submodels, each measured once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use matformer_core::{Measurements, Space, Submodel};

use crate::{Error, Estimate, Evaluation, Result, evaluate::MANY, measurements, stats};

/// Losses of one model's submodels on one part of the held-out data: those that `measurements.jsonl` of
/// its folder has, and those that are measured now and added there, a chunk at a time, so that whatever
/// ends a sweep loses no more than a chunk.
#[derive(Debug)]
pub struct Sweep {
    folder: PathBuf,
    weights: String,
    data: String,
    known: HashMap<Submodel, Estimate>,
    measured: usize,
    not_kept: Option<Error>,
}

impl Sweep {
    /// What was measured before, with the weights of this hash on `data`.
    ///
    /// # Errors
    /// When the folder's measurements cannot be read.
    pub fn open(folder: &Path, weights: &str, data: &str) -> Result<Self> {
        let mut sweep = Self {
            folder: folder.to_owned(),
            weights: weights.to_owned(),
            data: data.to_owned(),
            known: HashMap::new(),
            measured: 0,
            not_kept: None,
        };
        sweep.refresh()?;
        Ok(sweep)
    }

    /// Adds what others have measured since.
    ///
    /// # Errors
    /// When the folder's measurements cannot be read.
    pub fn refresh(&mut self) -> Result<()> {
        // Of several the last counts.
        for m in Measurements::read_all(&self.folder)?.entries.into_iter().rev() {
            if m.weights == self.weights && m.data == self.data && m.metric == "loss" {
                let loss = Estimate { value: m.value, stderr: m.stderr };
                self.known.entry(Submodel::new(m.widths)).or_insert(loss);
            }
        }
        Ok(())
    }

    /// Those that are not measured yet, each once, sorted: neighbours share their first layers.
    pub fn open_among(&self, submodels: &[Submodel]) -> Vec<Submodel> {
        let mut open: Vec<Submodel> =
            submodels.iter().filter(|s| !self.known.contains_key(*s)).cloned().collect();
        open.sort();
        open.dedup();
        open
    }

    /// Held-out losses of `submodels`, in their order. `evaluate` measures a chunk of those that are not
    /// known ([`evaluate`](crate::evaluate()) or [`evaluate_images`](crate::evaluate_images) with
    /// [`Walks::within`](crate::Walks::within)).
    ///
    /// # Errors
    /// What `evaluate` says; [`Error::NotEvaluated`] for a submodel that it left out.
    pub fn losses<E: From<Error>>(
        &mut self,
        space: &Space,
        submodels: &[Submodel],
        mut evaluate: impl FnMut(&[Submodel]) -> Result<Evaluation, E>,
    ) -> Result<Vec<Estimate>, E> {
        for chunk in self.open_among(submodels).chunks(MANY) {
            let evaluation = evaluate(chunk)?;
            self.take(space, &evaluation)?;
        }
        let of = |submodel: &Submodel| {
            self.known.get(submodel).copied().ok_or_else(|| Error::NotEvaluated {
                submodel: submodel.to_string(),
                evaluated: Vec::new(),
            })
        };
        Ok(submodels.iter().map(of).collect::<Result<_>>()?)
    }

    fn take(&mut self, space: &Space, evaluation: &Evaluation) -> Result<()> {
        for losses in &evaluation.submodels {
            let loss = stats::loss(&losses.documents)?;
            self.known.insert(losses.submodel.clone(), loss);
            self.measured += 1;
        }
        let lines = measurements(evaluation, space, &self.weights, &self.data)?;
        if self.not_kept.is_none()
            && let Err(error) = Measurements::append(&self.folder, &lines)
        {
            self.not_kept = Some(error.into());
        }
        Ok(())
    }

    /// What is known, measured now or before: submodels and their losses.
    pub fn known(&self) -> impl Iterator<Item = (&Submodel, f64)> {
        self.known.iter().map(|(submodel, loss)| (submodel, loss.value))
    }

    /// How many were measured now.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// Why what was measured now is not in the folder, if it is not.
    pub fn not_kept(&self) -> Option<&Error> {
        self.not_kept.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Granularities;

    use super::*;
    use crate::{DocumentLoss, SubmodelLosses};

    fn space() -> Space {
        Space::new(2, 64, 8, Granularities::default_for(64).unwrap()).unwrap()
    }

    fn evaluated(submodels: &[Submodel]) -> Evaluation {
        let losses = |submodel: &Submodel| SubmodelLosses {
            submodel: submodel.clone(),
            documents: vec![
                DocumentLoss {
                    nats: 100.0 / submodel.widths()[0] as f64,
                    tokens: 2,
                    bytes: 8,
                    ..DocumentLoss::default()
                };
                2
            ],
        };
        Evaluation {
            submodels: submodels.iter().map(losses).collect(),
            whole: false,
            context: None,
        }
    }

    #[test]
    fn nothing_is_measured_twice() {
        let folder = tempfile::tempdir().unwrap();
        let open = |weights, data| Sweep::open(folder.path(), weights, data).unwrap();
        let submodels = [[8, 16], [64, 64], [8, 16], [16, 8]].map(|w| Submodel::new(w.to_vec()));
        let mut asked = Vec::new();
        let mut losses = |sweep: &mut Sweep, submodels: &[Submodel]| -> Result<Vec<f64>> {
            let found = sweep.losses(&space(), submodels, |chunk| -> Result<Evaluation> {
                asked.push(chunk.to_vec());
                Ok(evaluated(chunk))
            })?;
            Ok(found.iter().map(|loss| loss.value).collect())
        };
        let mut sweep = open("w", "d/a");
        let found = losses(&mut sweep, &submodels[..3]).unwrap();
        assert_eq!((found, sweep.measured()), (vec![6.25, 0.78125, 6.25], 2));
        // Again, in another order, with one more, by another process.
        let mut sweep = open("w", "d/a");
        assert_eq!(losses(&mut sweep, &submodels).unwrap(), [6.25, 0.78125, 6.25, 3.125]);
        assert_eq!((sweep.measured(), sweep.not_kept().is_none()), (1, true));
        assert_eq!(sweep.known().map(|(_, loss)| loss).fold(f64::INFINITY, f64::min), 0.78125);
        // Of other weights or data nothing is known.
        for (weights, data) in [("v", "d/a"), ("w", "d/b")] {
            assert_eq!(open(weights, data).open_among(&submodels).len(), 3);
        }
        let sorted = [submodels[0].clone(), submodels[1].clone()];
        assert_eq!(asked, [sorted.to_vec(), vec![submodels[3].clone()]]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_does_not_cost_the_losses() {
        let mut sweep = Sweep::open(Path::new("/no/such/folder"), "w", "d").unwrap();
        let submodels = [space().largest()];
        let evaluate = |chunk: &[Submodel]| -> Result<Evaluation> { Ok(evaluated(chunk)) };
        assert_eq!(sweep.losses(&space(), &submodels, evaluate).unwrap().len(), 1);
        assert!(sweep.not_kept().is_some());
        // What fails is said, what is left out too.
        let fails =
            |_: &[Submodel]| -> Result<Evaluation> { Err(Error::Nothing { unit: "tokens" }) };
        assert!(sweep.losses(&space(), &[space().smallest()], fails).is_err());
        let nothing = |_: &[Submodel]| -> Result<Evaluation> { Ok(evaluated(&[])) };
        let error = sweep.losses(&space(), &[space().smallest()], nothing).unwrap_err();
        assert!(matches!(error, Error::NotEvaluated { .. }));
    }
}
