//! Weights files: safetensors, one or several, read by tensor name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use burn::{module::Module, tensor::TensorData};
use matformer_core::fs;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};

use crate::{Error, Result, params};

/// Name of the weights file.
pub const WEIGHTS: &str = "model.safetensors";

/// Tensors as they are stored, by name: shapes and values.
pub type Stored = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Every float parameter of a model, under its name on disk.
///
/// # Errors
/// When a tensor cannot be read from its device.
pub fn stored<M: Module>(model: &M, name: impl Fn(&str) -> String) -> Result<Stored> {
    let mut tensors = Stored::new();
    params::read(model, |param, data| {
        let read = |message: String| Error::Read { tensor: param.to_owned(), message };
        let shape = data.shape().to_vec();
        let values: Vec<f32> =
            data.convert::<f32>().try_into_vec::<f32>().map_err(|e| read(format!("{e:?}")))?;
        tensors.insert(name(param), (shape, values));
        Ok(())
    })?;
    Ok(tensors)
}

/// Writes tensors as f32.
///
/// # Errors
/// When the file cannot be written.
pub fn write(tensors: Stored, path: &Path) -> Result<()> {
    let malformed = |e: SafeTensorError| Error::File {
        path: path.to_owned(),
        found: e.to_string(),
        expected: "tensors that fit the safetensors format".to_owned(),
    };
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
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
#[derive(Debug)]
pub struct WeightFiles {
    paths: Vec<PathBuf>, // at least one
    maps: Vec<Mmap>,
}

impl WeightFiles {
    /// Maps the files in `dir`.
    ///
    /// # Errors
    /// When one is missing, or the index is malformed.
    pub fn open(dir: &Path) -> Result<Self> {
        let paths = shards(dir)?;
        let maps = paths.iter().map(|path| map(path)).collect::<Result<_>>()?;
        Ok(Self { paths, maps })
    }

    /// The first of them.
    pub fn first(&self) -> &Path {
        &self.paths[0]
    }

    /// Their tensors.
    ///
    /// # Errors
    /// When a file is malformed, or two have the same tensor.
    pub fn tensors(&self) -> Result<Tensors<'_>> {
        let mut found = BTreeMap::new();
        for (path, bytes) in self.paths.iter().zip(&self.maps) {
            let file = SafeTensors::deserialize(bytes).map_err(|e| Error::File {
                path: path.clone(),
                found: e.to_string(),
                expected: "a safetensors file".to_owned(),
            })?;
            for (name, view) in file.tensors() {
                let again = Tensor { path, view, read: false };
                if let Some(first) = found.insert(name.clone(), again) {
                    return Err(Error::Tensor {
                        path: path.clone(),
                        tensor: name,
                        found: format!("also in `{}`", first.path.display()),
                        expected: "each tensor once".to_owned(),
                    });
                }
            }
        }
        Ok(Tensors { first: self.first(), found })
    }

    /// SHA-256 over the files, one after the other.
    pub fn hash(&self) -> String {
        fs::sha256_parts(self.maps.iter().map(|map| &map[..]))
    }
}

/// Tensors of weights files by name, and which of them were read.
#[derive(Debug)]
pub struct Tensors<'a> {
    first: &'a Path,
    found: BTreeMap<String, Tensor<'a>>,
}

#[derive(Debug)]
struct Tensor<'a> {
    path: &'a Path,
    view: TensorView<'a>,
    read: bool,
}

impl Tensors<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The file that an error names which is about none of them: the first.
    pub fn first(&self) -> &Path {
        self.first
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.found.get(name)?.view.shape())
    }

    /// The names of those that were never read, in their order.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.found.iter().filter(|(_, tensor)| !tensor.read).map(|(name, _)| name.as_str())
    }

    /// Values of a tensor, row-major.
    ///
    /// # Errors
    /// When it is missing, has another shape than `shape`, or values that are no finite floats.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let first = self.first;
        let wrong = |path: &Path, found: String, expected: String| Error::Tensor {
            path: path.to_owned(),
            tensor: name.to_owned(),
            found,
            expected,
        };
        let Some(Tensor { path, view, read }) = self.found.get_mut(name) else {
            return Err(wrong(first, "nothing".to_owned(), format!("shape {shape:?}")));
        };
        if view.shape() != shape {
            let found = format!("shape {:?}", view.shape());
            return Err(wrong(path, found, format!("shape {shape:?}")));
        }
        let values = floats(view).ok_or_else(|| {
            wrong(path, format!("dtype {:?}", view.dtype()), "F32, BF16 or F16".to_owned())
        })?;
        if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
            let found = format!("{} at element {bad}", values[bad]);
            return Err(wrong(path, found, "finite values".to_owned()));
        }
        *read = true;
        Ok(values)
    }

    /// Values of a parameter of this shape.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<TensorData> {
        Ok(TensorData::new(self.read(name, shape)?, shape.to_vec()))
    }

    /// Checks that there are no tensors but those that `expected` knows, of which there are `n`.
    ///
    /// # Errors
    /// Names the first other.
    pub fn check_only(&self, expected: impl Fn(&str) -> bool, n: usize) -> Result<()> {
        match self.found.iter().find(|(name, _)| !expected(name)) {
            None => Ok(()),
            Some((name, tensor)) => Err(Error::Tensor {
                path: tensor.path.to_owned(),
                tensor: name.clone(),
                found: "a tensor that the model does not have".to_owned(),
                expected: format!("the model's {n} tensors only"),
            }),
        }
    }
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
