//! Restores a trainer from the newest checkpoint that is not damaged.

use std::{collections::BTreeMap, io::ErrorKind};

use burn::tensor::Device;
use matformer_core::{Manifest, fs};
use matformer_nn::{Folder, folder, params};

use super::{Checkpoint, Checkpoints, OPTIMIZER, STATE, VERSION, moments};
use crate::{Error, Optimizer, Result, TrainConfig, Trainer};

/// Where a run resumes.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The checkpoint; `None` if there is none.
    pub(crate) from: Option<Checkpoint>,
    /// Mean held-out loss of the granularities when it was last measured.
    pub(crate) held_out: Option<f64>,
    /// Newer checkpoints that are damaged, and their errors, newest first.
    pub(crate) damaged: Vec<(Checkpoint, Error)>,
}

/// Why a run cannot resume from a checkpoint.
enum Refusal {
    /// Its files are not what was written; an older checkpoint may be intact.
    Damaged(Error),
    /// It is intact but belongs to another run, or it cannot be read at the moment.
    Other(Error),
}

impl Checkpoints {
    /// Restores a trainer from the newest intact checkpoint, and renames damaged ones; `device` is
    /// one with gradients.
    ///
    /// # Errors
    /// When there are checkpoints and all are damaged, or one belongs to another model.
    pub(crate) fn restore<M: Folder>(
        &self,
        trainer: &mut Trainer<M>,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<Restored> {
        let mut restored = Restored::default();
        for checkpoint in self.all()?.into_iter().rev() {
            match checkpoint.restore(trainer, Optimizer::new(config), device) {
                Ok(held_out) => {
                    restored.damaged.iter().try_for_each(|(c, _)| self.set_aside(c))?;
                    return Ok(Restored { from: Some(checkpoint), held_out, ..restored });
                }
                Err(Refusal::Damaged(error)) => restored.damaged.push((checkpoint, error)),
                Err(Refusal::Other(error)) => return Err(error),
            }
        }
        let count = restored.damaged.len();
        if count == 0 {
            return Ok(restored);
        }
        let (_, newest) = restored.damaged.swap_remove(0);
        Err(Error::NoCheckpoint { dir: self.dir.clone(), count, newest: Box::new(newest) })
    }

    /// Renames a damaged checkpoint, so that its step can be saved again.
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
        mut optimizer: Optimizer,
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

    /// Refuses a checkpoint whose shape is not that of the run's configuration.
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
        if is_damage(&error) { Self::Damaged(error) } else { Self::Other(error) }
    }
}

/// Whether an error means that a file was truncated, changed or removed.
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
