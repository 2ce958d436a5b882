//! Model folders: what every command reads and writes, and a Hugging Face folder.
//!
//! `config.json`, `model.safetensors` (or sharded, with its index), `matformer.json`. Tensor names
//! stay out of model code: a model says here what its parameters are called on disk, where they lie
//! as they do in memory.

use std::{collections::BTreeSet, path::Path};

use burn::tensor::Device;
use matformer_core::{Manifest, fs};

use crate::{
    Elastic, Error, Result, params,
    weights::{self, Tensors, WeightFiles},
};
pub use crate::{config_file::CONFIG, weights::WEIGHTS};

/// A model kind that lives in a folder.
pub trait Folder: Elastic + Sized {
    /// What `matformer.json` and `info` call this kind of model.
    const KIND: &'static str;

    /// The model that a folder's `config.json` and manifest describe, its weights not yet read:
    /// [`params::unset`] makes parameters that take no memory until they are.
    ///
    /// # Errors
    /// When the configuration cannot be read or built.
    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> Result<Self>;

    /// The text of `config.json`, and of other small files that belong to the model, by name.
    fn config_files(&self) -> Vec<(String, String)>;

    /// What the parameter at `path` is called in the weights file.
    fn tensor_name(path: &str) -> String;
}

/// Writes a model's files into `dir` (not atomic: publish the folder with
/// [`matformer_core::fs::publish_dir`]), with the weights' hash set in the manifest.
///
/// # Errors
/// When a file cannot be written or a tensor not be read from its device.
pub fn save<M: Folder>(model: &M, manifest: &Manifest, dir: &Path) -> Result<Manifest> {
    fs::create_dir_all(dir)?;
    for (name, text) in model.config_files() {
        fs::write_atomic(dir.join(name), text.as_bytes())?;
    }
    weights::write(weights::stored(model, M::tensor_name)?, &dir.join(WEIGHTS))?;
    let mut manifest = manifest.clone();
    manifest.weights_sha256 = fs::sha256_file(dir.join(WEIGHTS))?;
    manifest.save(dir)?;
    Ok(manifest)
}

/// Reads a model and its manifest from `dir`, and checks the weights against the hash that the
/// manifest names. Nothing is allocated for a shape that the weights file does not hold, where
/// [`Folder::build`] leaves its parameters unset ([`params::unset`]).
///
/// # Errors
/// When a file is missing, malformed or changed, or a tensor is missing, unexpected or of another
/// shape.
pub fn load<M: Folder>(dir: &Path, device: &Device) -> Result<(M, Manifest)> {
    let manifest = Manifest::load(dir)?;
    let wrong = |found: String, expected: String| {
        Err(Error::File { path: dir.join(Manifest::FILE), found, expected })
    };
    if manifest.kind != M::KIND {
        return wrong(format!("kind `{}`", manifest.kind), format!("`{}`", M::KIND));
    }
    let files = WeightFiles::open(dir)?;
    let mut tensors = files.tensors()?;
    if manifest.n_layers > tensors.len() {
        let expected = format!("at most {}, the tensors of the weights", tensors.len());
        return wrong(format!("`n_layers` is {}", manifest.n_layers), expected);
    }
    let model = std::thread::scope(|scope| {
        let hash = scope.spawn(|| files.hash());
        let model = fill(M::build(dir, &manifest, device)?, &mut tensors, M::tensor_name)?;
        // Last: a tensor that is wrong says more than a hash that is.
        let found = hash.join().unwrap_or_default();
        match found == manifest.weights_sha256 {
            true => Ok(model),
            false => Err(Error::Changed {
                path: files.first().to_owned(),
                found,
                expected: manifest.weights_sha256.clone(),
                key: "weights_sha256",
            }),
        }
    })?;
    Ok((model, manifest))
}

/// Fills every float parameter of `model` from the tensors of its files.
fn fill<M: burn::module::Module>(
    model: M,
    tensors: &mut Tensors<'_>,
    name: impl Fn(&str) -> String,
) -> Result<M> {
    let expected: BTreeSet<String> =
        params::shapes(&model).iter().map(|(path, _)| name(path)).collect();
    tensors.check_only(|name| expected.contains(name), expected.len())?;
    params::fill(model, |param, shape| tensors.parameter(&name(param), shape))
}
