//! Model folders: what every command reads and writes, and a Hugging Face folder.
//!
//! `config.json`, `model.safetensors` (or sharded, with its index), `matformer.json`. Weight
//! names and layouts stay out of model code: a model says here how its parameters are called on
//! disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, TensorData};
use matformer_core::{Manifest, fs};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

pub use crate::config_file::CONFIG;
use crate::{Elastic, Error, Result, params};

/// Name of the weights file.
pub const WEIGHTS: &str = "model.safetensors";

/// How a parameter is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorName {
    /// Name in the weights file.
    pub name: String,
    /// Whether the file holds the transpose of the (rank 2) parameter.
    pub transposed: bool,
}

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

    /// How the parameter at `path` is stored.
    fn tensor_name(path: &str) -> TensorName;
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
    save_weights(model, &dir.join(WEIGHTS), M::tensor_name)?;
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
    let tensors = files.tensors()?;
    if manifest.n_layers > tensors.len() {
        let expected = format!("at most {}, the tensors of the weights", tensors.len());
        return wrong(format!("`n_layers` is {}", manifest.n_layers), expected);
    }
    let model = std::thread::scope(|scope| {
        let hash = scope.spawn(|| files.hash());
        let model = fill(M::build(dir, &manifest, device)?, &tensors, M::tensor_name)?;
        // Last: a tensor that is wrong says more than a hash that is.
        let found = hash.join().unwrap_or_default();
        match found == manifest.weights_sha256 {
            true => Ok(model),
            false => Err(Error::Changed {
                path: files.paths[0].clone(),
                found,
                expected: manifest.weights_sha256.clone(),
                key: "weights_sha256",
            }),
        }
    })?;
    Ok((model, manifest))
}

/// Writes every float parameter as f32 under its name on disk.
///
/// # Errors
/// When the file cannot be written or a tensor not be read from its device.
pub fn save_weights<M: burn::module::Module>(
    model: &M,
    path: &Path,
    name: impl Fn(&str) -> TensorName,
) -> Result<()> {
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    params::read(model, |param, data| {
        let stored = name(param);
        let read = |e: String| Error::Read { tensor: param.to_owned(), message: e };
        let shape = data.shape().to_vec();
        let values: Vec<f32> =
            data.convert::<f32>().try_into_vec::<f32>().map_err(|e| read(format!("{e:?}")))?;
        let (shape, values) = match stored.transposed {
            true => (vec![shape[1], shape[0]], transpose(&values, shape[0], shape[1])),
            false => (shape, values),
        };
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.insert(stored.name, (shape, bytes));
        Ok(())
    })?;
    let malformed = |e: safetensors::SafeTensorError| Error::File {
        path: path.to_owned(),
        found: e.to_string(),
        expected: "tensors that fit the safetensors format".to_owned(),
    };
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<std::result::Result<_, _>>()
        .map_err(malformed)?;
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(format)).map_err(malformed)?;
    fs::write_atomic(path, &bytes)?;
    Ok(())
}

/// The weights files of a folder, mapped: one, or those that its index names, in the order of
/// their names.
struct WeightFiles {
    paths: Vec<PathBuf>, // at least one
    maps: Vec<Mmap>,
}

/// Tensors by name, each with the file that it is in.
type Tensors<'a> = BTreeMap<String, (&'a Path, TensorView<'a>)>;

impl WeightFiles {
    fn open(dir: &Path) -> Result<Self> {
        let paths = shards(dir)?;
        let maps = paths.iter().map(|path| map(path)).collect::<Result<_>>()?;
        Ok(Self { paths, maps })
    }

    fn tensors(&self) -> Result<Tensors<'_>> {
        let mut found = Tensors::new();
        for (path, bytes) in self.paths.iter().zip(&self.maps) {
            let file = SafeTensors::deserialize(bytes).map_err(|e| Error::File {
                path: path.clone(),
                found: e.to_string(),
                expected: "a safetensors file".to_owned(),
            })?;
            for (name, view) in file.tensors() {
                if let Some((first, _)) = found.insert(name.clone(), (path, view)) {
                    return Err(Error::Tensor {
                        path: path.clone(),
                        tensor: name,
                        found: format!("also in `{}`", first.display()),
                        expected: "each tensor once".to_owned(),
                    });
                }
            }
        }
        Ok(found)
    }

    /// SHA-256 over the files, one after the other.
    fn hash(&self) -> String {
        fs::sha256_parts(self.maps.iter().map(|map| &map[..]))
    }
}

/// Fills every float parameter of `model` from the tensors of its files.
fn fill<M: burn::module::Module>(
    model: M,
    tensors: &Tensors<'_>,
    name: impl Fn(&str) -> TensorName,
) -> Result<M> {
    let first = tensors.values().next().map(|(path, _)| *path);
    let path = || first.unwrap_or(Path::new(WEIGHTS)).to_owned();
    let expected: BTreeSet<String> =
        params::shapes(&model).iter().map(|(path, _)| name(path).name).collect();
    if let Some((extra, (path, _))) = tensors.iter().find(|(name, _)| !expected.contains(*name)) {
        return Err(Error::Tensor {
            path: (*path).to_owned(),
            tensor: extra.clone(),
            found: "a tensor that the model does not have".to_owned(),
            expected: format!("the model's {} tensors only", expected.len()),
        });
    }
    params::fill(model, |param, shape| {
        let stored = name(param);
        let Some((path, view)) = tensors.get(&stored.name) else {
            return Err(Error::Tensor {
                path: path(),
                found: "nothing".to_owned(),
                expected: format!("shape {:?}", on_disk(&stored, shape)),
                tensor: stored.name,
            });
        };
        tensor_data(path, &stored, view, shape)
    })
}

/// Shape of a parameter in its file.
fn on_disk(stored: &TensorName, shape: &[usize]) -> Vec<usize> {
    match stored.transposed {
        true => shape.iter().rev().copied().collect(),
        false => shape.to_vec(),
    }
}

/// Values of a stored tensor in the parameter's shape.
fn tensor_data(
    path: &Path,
    stored: &TensorName,
    view: &TensorView<'_>,
    shape: &[usize],
) -> Result<TensorData> {
    let on_disk = on_disk(stored, shape);
    let wrong = |found: String, expected: String| Error::Tensor {
        path: path.to_owned(),
        tensor: stored.name.clone(),
        found,
        expected,
    };
    if view.shape() != on_disk {
        return Err(wrong(format!("shape {:?}", view.shape()), format!("shape {on_disk:?}")));
    }
    let values = floats(view)
        .ok_or_else(|| wrong(format!("dtype {:?}", view.dtype()), "F32, BF16 or F16".to_owned()))?;
    if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
        return Err(wrong(format!("{} at element {bad}", values[bad]), "finite values".to_owned()));
    }
    let values = match stored.transposed {
        true => transpose(&values, on_disk[0], on_disk[1]),
        false => values,
    };
    Ok(TensorData::new(values, shape.to_vec()))
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Some(
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Dtype::BF16 => Some(
            bytes
                .chunks_exact(2)
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))
                .collect(),
        ),
        Dtype::F16 => Some(
            bytes
                .chunks_exact(2)
                .map(|b| burn::tensor::f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
        ),
        _ => None,
    }
}

fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// The weights files of a folder: one, or those that its index names.
fn shards(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join(format!("{WEIGHTS}.index.json"));
    if !index.exists() {
        return Ok(vec![dir.join(WEIGHTS)]);
    }
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index =
        serde_json::from_str(&fs::read_to_string(&index)?).map_err(|e| Error::File {
            path: index.clone(),
            found: e.to_string(),
            expected: "an index with a `weight_map`".to_owned(),
        })?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let malformed = |found: String, expected: &str| {
        Err(Error::File { path: index.clone(), found, expected: expected.to_owned() })
    };
    if names.is_empty() {
        return malformed("an empty `weight_map`".to_owned(), "at least one file");
    }
    // Beside the index, not anywhere on this machine.
    let plain = |name: &&String| Path::new(name).file_name().is_some_and(|n| n == name.as_str());
    if let Some(other) = names.iter().find(|name| !plain(name)) {
        return malformed(format!("file `{other}`"), "the name of a file in the same folder");
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn map(path: &Path) -> Result<Mmap> {
    let io = |source| {
        Error::from(matformer_core::Error::Io { path: path.to_owned(), action: "open", source })
    };
    let file = File::open(path).map_err(io)?;
    // SAFETY: weights files are written under another name and renamed, never changed in place.
    unsafe { Mmap::map(&file) }.map_err(io)
}
