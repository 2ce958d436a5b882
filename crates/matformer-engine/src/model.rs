//! Models as an engine reads them.

use std::{collections::HashMap, path::Path, sync::Arc};

use burn::{module::Module, tensor::Device};
use matformer_core::{Manifest, Space};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Elastic, device, folder, params, weights::WeightFiles};

use crate::{Error, Format, Result, cpu::Weights};

/// A language model as engines read it: on the CPU its matrices are packed, on any other device it is as it was.
/// Copies share the weights.
#[derive(Clone)]
pub struct EngineModel {
    pub(crate) held: Held,
}

#[derive(Clone)]
pub(crate) enum Held {
    Packed(Arc<Weights>),
    Device(Box<MatLm>),
}

/// A model that was read from a folder.
pub struct Opened {
    /// What engines read.
    pub model: EngineModel,
    /// Its shape and submodels; on the CPU its parameters are unset.
    pub shape: MatLm,
    /// The folder's manifest.
    pub manifest: Manifest,
}

impl EngineModel {
    /// Packs a model; it is read parameter by parameter and not needed afterwards.
    ///
    /// # Errors
    /// When a parameter cannot be read, or the device is not the CPU and the format not f32.
    pub fn of(model: &MatLm, format: Format) -> Result<Self> {
        if !device::is_cpu(&model.device()) {
            check(format)?;
            return Ok(Self { held: Held::Device(Box::new(model.valid())) });
        }
        let parameters = params::all(model).into_iter();
        let mut found: HashMap<_, _> = parameters.map(|p| (p.path.clone(), p)).collect();
        let weights = Weights::read(model, format, &mut |path, _| {
            let unread = |found: &str| matformer_nn::Error::read(path, found);
            let parameter = found.remove(path).ok_or_else(|| unread("the model has none"))?;
            parameter.read()?.try_into_vec::<f32>().map_err(|error| unread(&error.to_string()))
        })?;
        Ok(Self { held: Held::Packed(Arc::new(weights)) })
    }

    /// Reads the model in a folder. On the CPU each matrix is packed as it is read, so the weights are in memory once.
    ///
    /// # Errors
    /// As [`folder::load`] and [`of`](Self::of).
    pub fn open(dir: &Path, device: &Device, format: Format) -> Result<Opened> {
        if !device::is_cpu(device) {
            check(format)?;
            let (shape, manifest) = folder::load::<MatLm>(dir, device)?;
            return Ok(Opened { model: Self::of(&shape, format)?, shape, manifest });
        }
        let files = WeightFiles::open(dir)?;
        let (shape, manifest) = folder::load_unset::<MatLm>(dir, &files.tensors()?, device)?;
        let weights = folder::read_each(&shape, &files, &manifest, |read| {
            Weights::read(&shape, format, read)
        })?;
        Ok(Opened { model: Self { held: Held::Packed(Arc::new(weights)) }, shape, manifest })
    }

    /// The model's shape.
    pub fn config(&self) -> &MatLmConfig {
        match &self.held {
            Held::Packed(weights) => &weights.config,
            Held::Device(model) => model.config(),
        }
    }

    /// Its submodels.
    pub fn space(&self) -> &Space {
        match &self.held {
            Held::Packed(weights) => &weights.space,
            Held::Device(model) => model.space(),
        }
    }
}

fn check(format: Format) -> Result<()> {
    if format == Format::F32 { Ok(()) } else { Err(Error::Packed { format }) }
}
