//! From a checkpoint back into a trainer, past those that are damaged.

use std::{collections::BTreeMap, io::ErrorKind};

use burn::tensor::Device;
use matformer_core::{Manifest, fs};
use matformer_nn::{Folder, folder, params};

use super::{Checkpoint, Checkpoints, OPTIMIZER, STATE, VERSION, moments};
use crate::{AdamW, Error, Result, TrainConfig, Trainer};

/// Where a run goes on.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The checkpoint; none where there are none.
    pub(crate) from: Option<Checkpoint>,
    /// Mean held-out loss of the granularities when it was last measured.
    pub(crate) held_out: Option<f64>,
    /// What is wrong with newer checkpoints, newest first.
    pub(crate) damaged: Vec<(Checkpoint, Error)>,
}

/// Why a checkpoint is not gone on with.
enum Refusal {
    /// It is not what was written: an older one may be.
    Damaged(Error),
    /// It is whole, and not this run's; or it cannot be read now.
    Other(Error),
}

impl Checkpoints {
    /// Puts a trainer where the newest checkpoint that is whole left off, and the damaged ones
    /// aside; `device` is one with gradients.
    ///
    /// # Errors
    /// When there are checkpoints and all are damaged, or one is of another model.
    pub(crate) fn restore<M: Folder>(
        &self,
        trainer: &mut Trainer<M>,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<Restored> {
        let mut restored = Restored::default();
        for checkpoint in self.all()?.into_iter().rev() {
            match checkpoint.restore(trainer, AdamW::new(config), device) {
                Ok(held_out) => {
                    restored.damaged.iter().try_for_each(|(c, _)| self.set_aside(c))?;
                    return Ok(Restored { from: Some(checkpoint), held_out, ..restored });
                }
                Err(Refusal::Damaged(error)) => restored.damaged.push((checkpoint, error)),
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        match restored.damaged.is_empty() {
            true => Ok(restored),
            false => {
                let count = restored.damaged.len();
                let (_, newest) = restored.damaged.swap_remove(0);
                Err(Error::NoCheckpoint { dir: self.dir.clone(), count, newest: Box::new(newest) })
            }
        }
    }

    /// Renames a checkpoint, so that its step can be saved anew.
    fn set_aside(&self, checkpoint: &Checkpoint) -> Result<()> {
        let aside = self.dir.join(format!("damaged-step-{:06}", checkpoint.step));
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        Ok(std::fs::rename(&checkpoint.dir, &aside)
            .map_err(fs::error(&checkpoint.dir, "rename"))?)
    }
}

impl Checkpoint {
    fn restore<M: Folder>(
        &self,
        trainer: &mut Trainer<M>,
        mut optimizer: AdamW,
        device: &Device,
    ) -> Result<Option<f64>, Refusal> {
        let state = self.state()?;
        if state.version != VERSION {
            let (path, found) = (self.dir.join(STATE), state.version);
            return Err(Refusal::Other(Error::StateVersion { path, found, expected: VERSION }));
        }
        if state.step != self.step {
            return Err(Refusal::Damaged(Error::Checkpoint {
                path: self.dir.join(STATE),
                found: format!("step {}", state.step),
                expected: format!("step {}, as the folder's name says", self.step),
            }));
        }
        let manifest = Manifest::load(&self.dir).map_err(Error::from)?;
        if manifest.kind != M::KIND {
            return Err(Refusal::Other(Error::Checkpoint {
                path: self.dir.join(Manifest::FILE),
                found: format!("kind `{}`", manifest.kind),
                expected: format!("`{}`", M::KIND),
            }));
        }
        let (model, _) = folder::load::<M>(&self.dir, device).map_err(Error::from)?;
        self.check_same_shape(&model, trainer.model()).map_err(Refusal::Other)?;
        let elements: BTreeMap<String, usize> = params::shapes(&model)
            .into_iter()
            .map(|(path, shape)| (path, shape.iter().product()))
            .collect();
        let moments =
            moments::read(&self.dir.join(OPTIMIZER), &state, |path| elements.get(path).copied())?;
        optimizer.load(moments, &device.clone().inner());
        trainer.restore(model, optimizer, state.guard, state.step);
        Ok(state.held_out)
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
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match is_damage(&error) {
            true => Self::Damaged(error),
            false => Self::Other(error),
        }
    }
}

/// Whether an error says that a file is not what was written: cut off, changed, gone.
fn is_damage(error: &Error) -> bool {
    use matformer_core::Error as Core;
    use matformer_nn::Error as Nn;
    match error {
        Error::Checkpoint { .. } => true,
        Error::Core(Core::Io { source, .. }) | Error::Nn(Nn::Core(Core::Io { source, .. })) => {
            use ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
            matches!(source.kind(), NotFound | NotADirectory | UnexpectedEof | InvalidData)
        }
        // Written by a newer version.
        Error::Core(Core::FormatVersion { .. })
        | Error::Nn(Nn::Core(Core::FormatVersion { .. })) => false,
        Error::Core(_) | Error::Nn(Nn::Core(_)) => true,
        Error::Nn(Nn::File { .. } | Nn::Tensor { .. } | Nn::Changed { .. }) => true,
        _ => false,
    }
}
