//! Model folders: `config.json`, `model.safetensors` (or several files and their index) and
//! `matformer.json`. Every command reads and writes them, and they are Hugging Face folders too.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use burn::{
    module::Module,
    tensor::{Device, TensorData},
};
use matformer_core::{Dtype, Manifest, Space, fs};
use serde_json::Value;

use crate::{
    ConfigFile, Elastic, Error, Result,
    config::{ModelConfig, Nested},
    params,
    weights::{self, StoredTensor, Tensors, WeightFiles},
};
pub use crate::{config_file::CONFIG, weights::WEIGHTS};

/// A kind of model that lives in a folder. Its configuration and its weights are all there is to
/// it, so it can also be cut to a submodel ([`extract`](crate::extract)) and given another
/// configuration ([`with_config`](crate::with_config)).
pub trait Folder: Elastic + Module {
    /// What `matformer.json` and `info` call this kind of model.
    const KIND: &'static str;

    /// Its shape.
    type Config: ModelConfig;

    /// The model's shape.
    fn config(&self) -> &Self::Config;

    /// A model of a valid configuration whose parameters are not filled yet. Make them with
    /// [`params::unset`], and they take no memory until they are. `space` has the widths of the
    /// configuration and their names.
    ///
    /// # Errors
    /// When the configuration does not make a model.
    fn unset(config: &Self::Config, space: Space, device: &Device) -> Result<Self>;

    /// The configuration that a `config.json` describes. Its granularities are replaced by those
    /// of `matformer.json`.
    ///
    /// # Errors
    /// When a key is missing, or holds something that this kind does not have.
    fn read_config(file: &ConfigFile) -> Result<Self::Config> {
        file.parse()
    }

    /// Names and contents of `config.json` and of other small files that belong to the model.
    /// `dtype` is that of the weights file beside them.
    fn config_files(&self, _dtype: Dtype) -> Vec<(&'static str, String)> {
        vec![(CONFIG, json_text(&serde_json::to_value(self.config()).unwrap_or_default()))]
    }

    /// Name of the parameter at `path` in the weights file. Its shape and layout there are the same
    /// as in memory.
    fn tensor_name(&self, path: &str) -> String {
        path.to_owned()
    }

    /// The key in `config.json` for a field of the configuration.
    fn config_key(field: &str) -> &str {
        field
    }
}

/// JSON as the files of a folder have it.
pub fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Writes a model's files into `dir`, its weights as the manifest's `dtype`, one tensor at a time.
/// Returns the manifest with the hash of the weights. The folder as a whole is not written
/// atomically: publish it with [`matformer_core::fs::publish_dir`].
///
/// # Errors
/// When a file cannot be written, a tensor cannot be read from its device, or a weight is packed.
pub fn save<M: Folder>(model: &M, manifest: &Manifest, dir: &Path) -> Result<Manifest> {
    check_dense(model)?;
    let tensors = weights::stored(model, manifest.dtype, |path| model.tensor_name(path));
    save_as(model, tensors, u64::MAX, manifest, dir)
}

/// The same for a model whose parameters may be unset: `tensors` are what is written of them, in
/// files of up to `shard_bytes` bytes. The manifest's `dtype` is what `config.json` says of them.
///
/// # Errors
/// When a file cannot be written, or a tensor cannot be read.
pub fn save_as<M: Folder>(
    model: &M,
    tensors: Vec<StoredTensor<'_>>,
    shard_bytes: u64,
    manifest: &Manifest,
    dir: &Path,
) -> Result<Manifest> {
    fs::create_dir_all(dir)?;
    for (name, text) in model.config_files(manifest.dtype) {
        fs::write_atomic(dir.join(name), text.as_bytes())?;
    }
    let weights_sha256 = weights::write_folder(dir, tensors, shard_bytes)?;
    let manifest = Manifest { weights_sha256, ..manifest.clone() };
    manifest.save(dir)?;
    Ok(manifest)
}

/// Whether a model has all the parameters of its configuration: packed weights are none.
fn check_dense<M: Folder>(model: &M) -> Result<()> {
    let whole = M::unset(model.config(), model.space().clone(), &model.device())?;
    let found: BTreeSet<_> = params::shapes(model).into_iter().collect();
    match params::shapes(&whole).into_iter().find(|parameter| !found.contains(parameter)) {
        None => Ok(()),
        Some((path, _)) => Err(Error::read(
            &path,
            "it is packed for inference; save the model that it was packed from",
        )),
    }
}

/// The model that the `config.json` in `dir` and its manifest describe, its weights not yet read.
///
/// # Errors
/// When `config.json` cannot be read, does not make a model, or does not fit the manifest.
pub fn build<M: Folder>(dir: &Path, manifest: &Manifest, device: &Device) -> Result<M> {
    let file = ConfigFile::read(dir)?;
    let config = M::read_config(&file)?;
    let nested = config.nested();
    for (field, found, expected) in
        [("d_ff", nested.d_ff, manifest.d_ff), ("n_layers", nested.n_layers, manifest.n_layers)]
    {
        if found != expected {
            let expected = format!("{expected}, as in `{}`", Manifest::FILE);
            return Err(file.wrong(M::config_key(field), &expected));
        }
    }
    let config = config.with_nested(Nested {
        width_multiple: manifest.multiple,
        granularities: Some(manifest.granularities.widths()),
        ..nested
    });
    config.validate().map_err(|error| file.blame(error, M::config_key))?;
    let space = manifest.space()?.with_layers(config.nested().layer_d_ff);
    M::unset(&config, space, device)
}

/// Reads a model and its manifest from `dir`, one tensor at a time, and checks the weights against
/// the hash in the manifest. If [`Folder::unset`] uses [`params::unset`],
/// memory is allocated only for tensors that the weights file has in the expected shape.
///
/// # Errors
/// When a file is missing, malformed or changed, or a tensor is missing, unexpected or of another
/// shape.
pub fn load<M: Folder>(dir: &Path, device: &Device) -> Result<(M, Manifest)> {
    let manifest = manifest_of::<M>(dir)?;
    let files = WeightFiles::open(dir)?;
    let tensors = files.tensors()?;
    let manifest = beside(manifest, dir, &tensors)?;
    let model = build::<M>(dir, &manifest, device)?;
    let names = names(&model, &tensors)?;
    let model = checked(&files, tensors, names, &manifest, |read| {
        let data = |path: &str, shape: &[usize]| {
            Ok::<_, Error>(TensorData::new(read(path, shape)?, shape.to_vec()))
        };
        params::fill(model, data)
    })?;
    Ok((model, manifest))
}

/// Reads the parameters of a folder one by one, each as f32 and row-major, wherever they shall go: `take` is given what
/// reads the parameter at a path, of a shape. The weights are checked against the hash in the manifest meanwhile.
/// `model` gives names and shapes; its parameters may be unset.
///
/// # Errors
/// Those of `take`; when a tensor is missing, unexpected, malformed or of another shape, or the weights have changed.
pub fn read_each<M: Folder, T, E: From<Error>>(
    model: &M,
    files: &WeightFiles,
    manifest: &Manifest,
    take: impl FnOnce(&mut ReadParameter<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let tensors = files.tensors()?;
    let names = names(model, &tensors)?;
    checked(files, tensors, names, manifest, take)
}

fn checked<T, E: From<Error>>(
    files: &WeightFiles,
    mut tensors: Tensors<'_>,
    names: HashMap<String, String>,
    manifest: &Manifest,
    take: impl FnOnce(&mut ReadParameter<'_>) -> Result<T, E>,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let hash = scope.spawn(|| files.hash());
        let taken = take(&mut |path, shape| tensors.read(&names[path], shape))?;
        // The hash comes last: an error about a tensor says more than one about the hash.
        let found = hash.join().unwrap_or_default();
        if found == manifest.weights_sha256 {
            return Ok(taken);
        }
        Err(E::from(Error::Changed {
            path: files.first().to_owned(),
            found,
            expected: manifest.weights_sha256.clone(),
            key: "weights_sha256",
        }))
    })
}

/// Reads the parameter at a path, which has a shape, row-major.
pub type ReadParameter<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>> + 'a;

/// A model of a folder whose parameters are unset, for what needs its shape only; its tensors are
/// those of `tensors`. They take no memory, and are neither read nor checked against the hash.
///
/// # Errors
/// When a file is missing or malformed, or there is a tensor that the model does not have.
pub fn load_unset<M: Folder>(
    dir: &Path,
    tensors: &Tensors<'_>,
    device: &Device,
) -> Result<(M, Manifest)> {
    let manifest = beside(manifest_of::<M>(dir)?, dir, tensors)?;
    let model = build::<M>(dir, &manifest, device)?;
    names(&model, tensors)?;
    Ok((model, manifest))
}

/// The manifest of a folder of this kind.
fn manifest_of<M: Folder>(dir: &Path) -> Result<Manifest> {
    let manifest = Manifest::load(dir)?;
    if manifest.kind == M::KIND {
        return Ok(manifest);
    }
    Err(Error::File {
        path: dir.join(Manifest::FILE),
        found: format!("kind `{}`", manifest.kind),
        expected: format!("`{}`", M::KIND),
    })
}

/// The manifest with the dtype of the weights beside it, which must be enough for its layers.
fn beside(mut manifest: Manifest, dir: &Path, tensors: &Tensors<'_>) -> Result<Manifest> {
    if manifest.n_layers > tensors.len() {
        return Err(Error::File {
            path: dir.join(Manifest::FILE),
            found: format!("`n_layers` is {}", manifest.n_layers),
            expected: format!("at most {}, the tensors of the weights", tensors.len()),
        });
    }
    manifest.dtype = tensors.dtype();
    Ok(manifest)
}

/// Names in the weights file of all parameters by path. No tensor may have another name.
fn names<M: Folder>(model: &M, tensors: &Tensors<'_>) -> Result<HashMap<String, String>> {
    let paths = params::shapes(model).into_iter().map(|(path, _)| path);
    let names: HashMap<String, String> =
        paths.map(|path| (path.clone(), model.tensor_name(&path))).collect();
    let expected: BTreeSet<&str> = names.values().map(String::as_str).collect();
    tensors.check_only(|name| expected.contains(name), expected.len())?;
    Ok(names)
}
