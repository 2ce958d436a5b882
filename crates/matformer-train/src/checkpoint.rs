//! Step-level checkpoints: each a model folder plus what training needs to go on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use matformer_core::{Manifest, fs};
use matformer_nn::{Folder, folder, params};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{AdamW, Error, Result, Trainer, optimizer::SavedMoments};

/// The checkpoints of a run folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
}

/// One published checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its folder: a model folder, and `train/`.
    pub dir: PathBuf,
    /// Steps made.
    pub step: u64,
}

/// `train/state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainState {
    step: u64,
    /// Mean held-out loss of the granularities when it was last measured.
    held_out: Option<f64>,
    /// Steps that pieces of each parameter have made: (end, steps).
    pieces: BTreeMap<String, Vec<(usize, u64)>>,
}

const STATE: &str = "train/state.json";
const OPTIMIZER: &str = "train/optimizer.safetensors";

impl Checkpoints {
    /// The checkpoints of the run in `run`.
    pub fn of(run: &Path) -> Self {
        Self { dir: run.join("checkpoints") }
    }

    /// Removes what a killed process left half written.
    ///
    /// # Errors
    /// When the folder cannot be listed or a file not be removed.
    pub fn sweep(&self) -> Result<()> {
        if self.dir.exists() {
            for path in fs::read_dir(&self.dir)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with(".tmp-") && path.is_dir() {
                    fs::remove_dir_all(&path)?;
                }
            }
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

    /// Publishes a checkpoint with one rename, then drops those that `keep` does not cover: the
    /// last `keep`, and the best by held-out loss, stay.
    ///
    /// `others` are further files of the folder (tokenizer), as (name, bytes).
    ///
    /// # Errors
    /// When a file cannot be written or a tensor not be read from its device.
    pub fn save<M: Folder>(
        &self,
        trainer: &Trainer<M>,
        manifest: &Manifest,
        others: &[(String, Vec<u8>)],
        held_out: Option<f64>,
        keep: usize,
    ) -> Result<Checkpoint> {
        let step = trainer.steps_done();
        let target = self.dir.join(format!("step-{step:06}"));
        let scratch = fs::scratch_dir(&target)?;
        save_model(trainer.model(), manifest, others, scratch.path())?;
        fs::create_dir_all(scratch.path().join("train"))?;
        let moments = trainer.optimizer().save()?;
        let pieces = moments.iter().map(|(path, m)| (path.clone(), m.pieces.clone())).collect();
        write_optimizer(&moments, &scratch.path().join(OPTIMIZER))?;
        let state = serde_json::to_string_pretty(&TrainState { step, held_out, pieces })
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
                fs::remove_dir_all(&checkpoint.dir)?;
            }
        }
        Ok(())
    }
}

/// Writes a model folder: the model's own files, its manifest, and `others`.
pub(crate) fn save_model<M: Folder>(
    model: &M,
    manifest: &Manifest,
    others: &[(String, Vec<u8>)],
    dir: &Path,
) -> Result<Manifest> {
    fs::create_dir_all(dir)?;
    for (name, bytes) in others {
        fs::write_atomic(dir.join(name), bytes)?;
    }
    Ok(folder::save(model, manifest, dir)?)
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

    /// A checkpoint of another shape than the run's configuration asks for is not gone on with.
    fn check_same_shape<M: Folder>(&self, found: &M, expected: &M) -> Result<()> {
        let (ours, theirs) = (params::shapes(found), params::shapes(expected));
        let differs = ours.iter().zip(&theirs).find(|(a, b)| a != b);
        if differs.is_none() && ours.len() == theirs.len() && found.space() == expected.space() {
            return Ok(());
        }
        let text = |(path, shape): &(String, Vec<usize>)| format!("`{path}` {shape:?}");
        let (found, expected) = match differs {
            Some((a, b)) => (text(a), text(b)),
            None => (format!("{:?}", found.space()), format!("{:?}", expected.space())),
        };
        let expected = format!("{expected}, as the run's configuration says");
        Err(Error::Checkpoint { path: self.dir.clone(), found, expected })
    }

    /// Puts a trainer where the checkpoint left off; `device` is one with gradients.
    ///
    /// # Errors
    /// When a file is missing, malformed or of another model.
    pub fn restore<M: Folder>(
        &self,
        trainer: &mut Trainer<M>,
        mut optimizer: AdamW,
        device: &Device,
    ) -> Result<Option<f64>> {
        let state = self.state()?;
        let (model, _) = folder::load::<M>(&self.dir, device)?;
        self.check_same_shape(&model, trainer.model())?;
        let moments = read_optimizer(&self.dir.join(OPTIMIZER), &state.pieces)?;
        optimizer.load(moments, &device.clone().inner());
        trainer.restore(model, optimizer, state.step);
        Ok(state.held_out)
    }
}

fn write_optimizer(moments: &BTreeMap<String, SavedMoments>, path: &Path) -> Result<()> {
    let bytes: Vec<(String, usize, Vec<u8>)> = moments
        .iter()
        .flat_map(|(name, m)| {
            [(format!("first.{name}"), &m.first), (format!("second.{name}"), &m.second)]
        })
        .map(|(name, values)| {
            (name, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let malformed = |e: safetensors::SafeTensorError| Error::Checkpoint {
        path: path.to_owned(),
        found: e.to_string(),
        expected: "tensors that fit the safetensors format".to_owned(),
    };
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(name, n, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, vec![*n], bytes)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(malformed)?;
    let file = safetensors::serialize(views, None).map_err(malformed)?;
    Ok(fs::write_atomic(path, &file)?)
}

fn read_optimizer(
    path: &Path,
    pieces: &BTreeMap<String, Vec<(usize, u64)>>,
) -> Result<BTreeMap<String, SavedMoments>> {
    let malformed = |found: String| Error::Checkpoint {
        path: path.to_owned(),
        found,
        expected: "the moments of every parameter in `state.json`, as F32".to_owned(),
    };
    let bytes = fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(e.to_string()))?;
    let values = |name: String| -> Result<Vec<f32>> {
        let view = file.tensor(&name).map_err(|e| malformed(format!("`{name}`: {e}")))?;
        if view.dtype() != Dtype::F32 {
            return Err(malformed(format!("`{name}`: dtype {:?}", view.dtype())));
        }
        let chunks = view.data().chunks_exact(4);
        Ok(chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    pieces
        .iter()
        .map(|(name, pieces)| {
            let (first, second) =
                (values(format!("first.{name}"))?, values(format!("second.{name}"))?);
            let end = pieces.last().map(|(end, _)| *end);
            if end != Some(first.len()) || first.len() != second.len() {
                return Err(malformed(format!(
                    "`{name}`: {} and {} values",
                    first.len(),
                    second.len()
                )));
            }
            Ok((name.clone(), SavedMoments { first, second, pieces: pieces.clone() }))
        })
        .collect()
}
