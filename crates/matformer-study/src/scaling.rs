//! The scaling law of runs: what their sizes, and those trained alone, lost at how many parameters and tokens.

use std::path::{Path, PathBuf};

use matformer_core::{Draw, Manifest, units::counted};
use matformer_eval::scaling::{self, Fit, MIN_FOR_INTERVALS, Point};
use matformer_nn::ModelConfig;
use matformer_run::{
    Error, OrBadInput, Result,
    runs::{Recorded, Role},
};
use matformer_runfile::{self as run_file, Lm, RunFile};
use matformer_train::say;
use serde::Serialize;

use crate::{Budget, alone, budget::share};

/// A trained size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trained {
    /// The folder of its model.
    pub run: PathBuf,
    /// The size.
    pub size: String,
    /// Parameters, tokens and loss.
    #[serde(flatten)]
    pub point: Point,
}

/// Sizes that were trained in one way, and the law that fits their losses.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Group {
    /// The sizes.
    pub points: Vec<Trained>,
    /// The law; none where there is no way to fit one.
    pub fit: Option<Fit>,
    /// Why there is none.
    pub reason: Option<String>,
}

impl Group {
    /// What to know about the fit, or about its absence.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> =
            self.reason.iter().map(|reason| format!("no fit: {reason}")).collect();
        let Some(fit) = self.fit else { return notes };
        if fit.at_limit {
            notes.push(
                "the exponent is at the end of the range that was searched: these points do not \
                        determine it"
                    .to_owned(),
            );
        }
        match fit.intervals {
            Some(intervals) => notes.push(format!(
                "in brackets 95 % of {} of the points",
                counted(intervals.resamples, "bootstrap sample")
            )),
            None => notes.push(format!(
                "no intervals: {}, expected at least {MIN_FOR_INTERVALS}",
                counted(self.points.len(), "point")
            )),
        }
        notes
    }
}

/// The laws of elastic sizes and of those that were trained alone.
#[derive(Clone, Debug, Serialize)]
pub struct Scaling {
    /// What all losses were measured on.
    pub data: String,
    /// Sizes of elastic runs.
    pub elastic: Group,
    /// Sizes that were trained alone: runs of one width, and the baselines of elastic runs.
    pub alone: Group,
}

/// Fits a law to the recorded losses of some runs and of their baselines, with intervals from `resamples`
/// bootstrap samples, drawn by `seed`.
///
/// D is what the paper's fit takes: the tokens that a width was given. An elastic run divides its tokens between its
/// widths, so that a baseline at the budget `per-width` has the same D as the size in the run.
///
/// # Errors
/// When a folder is not that of a language model's run, was not measured, or was measured on other data than the rest.
pub fn scaling(dirs: &[PathBuf], resamples: usize, seed: u64) -> Result<Scaling> {
    let mut reader = Reader::default();
    for dir in dirs {
        reader.read(dir)?;
    }
    let Some((data, _)) = reader.data else {
        return Err(Error::refused("no run to fit a scaling law to"));
    };
    let fitted = |points: Vec<Trained>| {
        if points.is_empty() {
            return Group::default();
        }
        let numbers: Vec<Point> = points.iter().map(|trained| trained.point).collect();
        match scaling::fit(&numbers, resamples, seed) {
            Ok(fit) => Group { points, fit: Some(fit), reason: None },
            Err(error) => Group { points, fit: None, reason: Some(error.to_string()) },
        }
    };
    Ok(Scaling { data, elastic: fitted(reader.elastic), alone: fitted(reader.alone) })
}

#[derive(Default)]
struct Reader {
    elastic: Vec<Trained>,
    alone: Vec<Trained>,
    /// Data of the first loss, and whose it is.
    data: Option<(String, PathBuf)>,
}

impl Reader {
    /// A run, and the baselines in its folder.
    fn read(&mut self, dir: &Path) -> Result<()> {
        let recorded = Recorded::read(dir)?;
        if recorded.kind != "text" || recorded.role != Role::Run {
            return Err(Error::refused(format!(
                "{}: not the run of a language model; expected a folder that `train` wrote",
                dir.display()
            )));
        }
        let run = RunFile::<Lm>::load(&dir.join(run_file::FILE), &[]).bad_input()?;
        let alone = matches!(run.train.draw, Draw::Baseline { .. });
        let points = self.points(dir, &recorded, &run)?;
        if points.is_empty() {
            return Err(Error::refused(format!(
                "{}: no held-out loss of its trained sizes; `report` measures them, and those of its baselines",
                dir.display()
            )));
        }
        if alone {
            self.alone.extend(points);
            return Ok(());
        }
        self.elastic.extend(points);
        for budget in Budget::ALL {
            for size in &recorded.sizes {
                self.baseline(&alone::dir(dir, budget, &size.name))?;
            }
        }
        Ok(())
    }

    fn baseline(&mut self, dir: &Path) -> Result<()> {
        if !dir.join(Manifest::FILE).exists() {
            return Ok(());
        }
        let recorded = Recorded::read(dir)?;
        let run = RunFile::<Lm>::load(&dir.join(run_file::FILE), &[]).bad_input()?;
        let points = self.points(dir, &recorded, &run)?;
        if points.is_empty() {
            say!("note: {} is left out: its held-out loss was not measured", dir.display());
        }
        self.alone.extend(points);
        Ok(())
    }

    /// The sizes that a run trained, and whose loss is recorded.
    fn points(
        &mut self,
        dir: &Path,
        recorded: &Recorded,
        run: &RunFile<Lm>,
    ) -> Result<Vec<Trained>> {
        let mut train = run.train.clone();
        train.steps = recorded.steps;
        let steps = match &train.draw {
            Draw::Baseline { .. } => train.steps,
            _ => share(&train, &run.shape().space()?),
        };
        let tokens = (steps * train.tokens_per_step as u64) as f64;
        let mut points = Vec::new();
        for size in &recorded.sizes {
            let other =
                matches!(&train.draw, Draw::Baseline { granularity } if *granularity != size.name);
            let Some(found) = recorded.measurement(&size.name, "loss").filter(|_| !other) else {
                continue;
            };
            match &self.data {
                None => self.data = Some((found.data.clone(), dir.to_owned())),
                Some((data, _)) if *data == found.data => {}
                Some((data, first)) => {
                    return Err(Error::refused(format!(
                        "{}: {} was measured last on data {}, {} on {data}; expected the same held-out data",
                        dir.display(),
                        size.name,
                        found.data,
                        first.display()
                    )));
                }
            }
            let point = Point { params: size.non_embedding as f64, tokens, loss: found.value };
            points.push(Trained { run: dir.to_owned(), size: size.name.clone(), point });
        }
        Ok(points)
    }
}
