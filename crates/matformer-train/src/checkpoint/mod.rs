//! Checkpoints at any step: each is a model folder plus the state that training needs to resume.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use matformer_core::{Dtype, Manifest, fs};
use matformer_nn::{Folder, folder};
use serde::{Deserialize, Serialize};

use crate::{Error, Guard, Result, Trainer};

mod moments;
mod restore;

pub(crate) use restore::Restored;

/// The checkpoints of a run folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
}

/// A published checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its folder: a model folder with `train/` in it.
    pub dir: PathBuf,
    /// Steps made.
    pub step: u64,
}

/// `train/state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainState {
    /// [`VERSION`]; 0 in checkpoints that do not say.
    #[serde(default)]
    version: u32,
    step: u64,
    /// Mean held-out loss of the granularities when it was last measured.
    held_out: Option<f64>,
    /// Steps that the pieces of each parameter have made: (end, steps), counted as in the optimizer.
    pieces: BTreeMap<String, Vec<(usize, u64)>>,
    /// SHA-256 of `train/optimizer.safetensors`; absent in older checkpoints.
    #[serde(default)]
    optimizer_sha256: Option<String>,
    /// Absent in checkpoints from before the guard existed.
    #[serde(default)]
    guard: Guard,
    /// What the run was configured with; absent in older checkpoints.
    #[serde(default)]
    run: Option<serde_json::Value>,
}

/// What a checkpoint holds beside model, optimizer and guard.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Its `matformer.json`.
    pub manifest: &'a Manifest,
    /// Further files of the folder (tokenizer), as (name, bytes).
    pub files: &'a [(String, Vec<u8>)],
    /// Mean held-out loss of the granularities when it was last measured.
    pub held_out: Option<f64>,
    /// What the run was configured with, as [`Checkpoints::configured`] gives it back.
    pub run: &'a serde_json::Value,
}

/// Version of the state. Since 1 moments are those of matrices `[out, in]`; before, those of
/// attention's projections and of down were transposed.
const VERSION: u32 = 1;

const STATE: &str = "train/state.json";
const OPTIMIZER: &str = "train/optimizer.safetensors";

impl Checkpoints {
    /// The checkpoints of the run in `run`.
    pub fn of(run: &Path) -> Self {
        Self { dir: run.join("checkpoints") }
    }

    /// Removes files that a killed process had half written or half removed.
    ///
    /// # Errors
    /// When the folder cannot be listed or a file cannot be removed.
    pub fn sweep(&self) -> Result<()> {
        if self.dir.exists() {
            fs::sweep(&self.dir)?;
        }
        Ok(())
    }

    /// All published checkpoints, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn all(&self) -> Result<Vec<Checkpoint>> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let mut found: Vec<Checkpoint> = fs::read_dir(&self.dir)?
            .into_iter()
            .filter_map(|dir| {
                let step = dir.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some(Checkpoint { dir, step })
            })
            .collect();
        found.sort_by_key(|c| c.step);
        Ok(found)
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        Ok(self.all()?.pop())
    }

    /// The run's configuration in the newest checkpoint that can be read; `None` if there is none, or
    /// if it does not hold one.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn configured(&self) -> Result<Option<serde_json::Value>> {
        Ok(self.all()?.iter().rev().find_map(|c| c.state().ok()).and_then(|state| state.run))
    }

    /// Publishes a checkpoint with one rename, then removes all but the last `keep` and the best by
    /// held-out loss.
    ///
    /// # Errors
    /// When a file cannot be written or a tensor cannot be read from its device; [`Error::InRound`] where each
    /// rank has weights of its own.
    pub fn save<M: Folder>(
        &self,
        trainer: &Trainer<M>,
        saved: Saved<'_>,
        keep: usize,
    ) -> Result<Checkpoint> {
        let step = trainer.steps_done();
        if !trainer.is_between_rounds() {
            return Err(Error::InRound { step });
        }
        let target = self.dir.join(format!("step-{step:06}"));
        let scratch = fs::scratch_dir(&target)?;
        save_model(trainer.model(), saved.manifest, saved.files, scratch.path())?;
        let held_out = saved.held_out;
        fs::create_dir_all(scratch.path().join("train"))?;
        let moments = trainer.optimizer().save()?;
        let pieces = moments.iter().map(|(path, m)| (path.clone(), m.pieces.clone())).collect();
        let optimizer = scratch.path().join(OPTIMIZER);
        moments::write(&moments, &optimizer, &scratch.path().join(Manifest::FILE))?;
        let optimizer_sha256 = Some(fs::sha256_file(&optimizer)?);
        let guard = trainer.guard().clone();
        let run = Some(saved.run.clone());
        let version = VERSION;
        let state = TrainState { version, step, held_out, pieces, optimizer_sha256, guard, run };
        let state = serde_json::to_string_pretty(&state)
            .unwrap_or_else(|_| unreachable!("numbers and strings have a JSON form"));
        fs::write_atomic(scratch.path().join(STATE), state.as_bytes())?;
        fs::publish_dir(scratch.path(), &target)?;
        self.prune(keep)?;
        Ok(Checkpoint { dir: target, step })
    }

    fn prune(&self, keep: usize) -> Result<()> {
        let all = self.all()?;
        let losses: Vec<Option<f64>> =
            all.iter().map(|c| c.state().ok().and_then(|s| s.held_out)).collect();
        let best =
            (0..all.len()).filter(|i| losses[*i].is_some_and(f64::is_finite)).min_by(|a, b| {
                losses[*a].partial_cmp(&losses[*b]).unwrap_or(std::cmp::Ordering::Equal)
            });
        for (i, checkpoint) in all.iter().enumerate() {
            if i + keep < all.len() && Some(i) != best {
                fs::withdraw_dir(&checkpoint.dir)?;
            }
        }
        Ok(())
    }
}

/// Writes a model folder: the model's own files, its manifest, and `others`. What was trained is not
/// rounded to the dtype that it was read in.
pub(crate) fn save_model<M: Folder>(
    model: &M,
    manifest: &Manifest,
    others: &[(String, Vec<u8>)],
    dir: &Path,
) -> Result<Manifest> {
    fs::create_dir_all(dir)?;
    fs::write_files(dir, others)?;
    let manifest = Manifest { dtype: Dtype::F32, ..manifest.clone() };
    Ok(folder::save(model, &manifest, dir)?)
}

impl Checkpoint {
    fn state(&self) -> Result<TrainState> {
        let path = self.dir.join(STATE);
        serde_json::from_slice(&fs::read(&path)?).map_err(|e| Error::Checkpoint {
            path,
            found: e.to_string(),
            expected: "the state of a training run".to_owned(),
        })
    }
}
