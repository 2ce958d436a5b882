//! `train --init`: a run that starts from the weights of a model folder.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use matformer_core::Manifest;
use matformer_nn::{Folder, ModelConfig, folder};
use matformer_runfile::{Draft, RunFile};

use crate::{
    error::{Hinted, OrBadInput, Result},
    folder::check_is_model,
    kind::Kind,
};

/// The folder that a run starts from, its weights not yet read.
pub struct Init<K: Kind> {
    dir: PathBuf,
    shape: K::Shape,
    manifest: Manifest,
}

impl<K: Kind> Init<K> {
    /// What `train.init` names, if it names something; its shape goes below what the run file says
    /// of the model.
    pub fn open(draft: &mut Draft<K>, device: &Device) -> Result<Option<Self>> {
        let Some(dir) = draft.init().map(Path::to_owned) else {
            return Ok(None);
        };
        check_is_model(&dir).bad_input()?;
        let manifest = Manifest::load(&dir).bad_input()?;
        // It takes no memory until its weights are read.
        let model = folder::build::<K::Net>(&dir, &manifest, device).bad_input()?;
        let shape = model.config().clone();
        draft.lay_below(&shape);
        Ok(Some(Self { dir, shape, manifest }))
    }

    /// Checks that the folder's weights are of the run's shape, and can be used with its data.
    pub fn check(&self, run: &mut RunFile<K>) -> Result<()> {
        let typed = K::like(run.shape(), &self.shape);
        if let Some((key, found, expected)) = typed.other_weights(&self.shape) {
            return Err(Hinted {
                message: format!(
                    "`model.{}.{key}` is {found}; expected {expected}, as in `{}`",
                    K::NAME,
                    self.dir.display()
                ),
                hint:
                    "leave it out of the run file: a run takes its shape from the folder that it \
                       starts from"
                        .to_owned(),
            })
            .bad_input();
        }
        K::adopt(&self.dir, run)
    }

    /// The same once the data was read.
    pub fn check_data(&self, prepared: &K::Prepared) -> Result<()> {
        K::check_adopted(&self.dir, prepared)
    }

    /// The folder's weights in a model of the run's shape.
    pub fn model(&self, shape: &K::Shape, device: &Device) -> Result<K::Net> {
        let (model, _) = folder::load::<K::Net>(&self.dir, device).bad_input()?;
        K::start(&model, shape)
    }

    /// Hash of the folder's weights.
    pub fn weights(&self) -> &str {
        &self.manifest.weights_sha256
    }
}
