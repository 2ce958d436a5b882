//! Weights files: safetensors, one or several, read and written one tensor at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    tensor::{DType, TensorData, bf16, f16},
};
use matformer_core::{Dtype, fs};
use memmap2::Mmap;
use safetensors::{
    SafeTensors,
    tensor::{Dtype as Stored, Metadata, TensorInfo, TensorView},
};

use crate::{
    Error, Result,
    params::{self, Parameter},
};

/// Name of the weights file.
pub const WEIGHTS: &str = "model.safetensors";

/// A tensor of a weights file that is to be written. Its values are read when it is.
pub struct StoredTensor {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file.
    pub shape: Vec<usize>,
    /// The parameters whose rows it has, one after the other.
    parts: Vec<Parameter>,
}

impl StoredTensor {
    /// Adds the rows of another tensor behind its own.
    pub fn append(&mut self, other: Self) {
        self.shape[0] += other.shape[0];
        self.parts.extend(other.parts);
    }
}

/// Writes the values of a parameter in their order.
fn write_values(parameter: &Parameter, dtype: Dtype, out: &mut impl Write) -> io::Result<()> {
    let data = parameter.read().map_err(io::Error::other)?;
    // Every backend but one of another default gives f32, which is then not copied.
    let data = if data.dtype() == DType::F32 { data } else { data.convert::<f32>() };
    let mut values = data.as_bytes().chunks_exact(4).map(|b| f32::from_ne_bytes(quad(b)));
    values.try_for_each(|value| write_value(value, dtype, out))
}

/// Rounds to the nearest value that the dtype has.
fn write_value(value: f32, dtype: Dtype, out: &mut impl Write) -> io::Result<()> {
    match dtype {
        Dtype::F32 => out.write_all(&value.to_le_bytes()),
        Dtype::Bf16 => out.write_all(&bf16::from_f32(value).to_le_bytes()),
        Dtype::F16 => out.write_all(&f16::from_f32(value).to_le_bytes()),
    }
}

/// Every float parameter of a model, under its name on disk.
pub fn stored<M: Module>(model: &M, name: impl Fn(&str) -> String) -> Vec<StoredTensor> {
    let stored = |parameter: Parameter| StoredTensor {
        name: name(&parameter.path),
        shape: parameter.shape.clone(),
        parts: vec![parameter],
    };
    params::all(model).into_iter().map(stored).collect()
}

/// Writes a weights file whole or not at all, in place of one that is there. Only one tensor at a
/// time is read into memory.
///
/// # Errors
/// When the file cannot be written, or a tensor cannot be read from its device.
pub fn write(mut tensors: Vec<StoredTensor>, dtype: Dtype, path: &Path) -> Result<()> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let header = header(&tensors, dtype).map_err(|found| Error::File {
        path: path.to_owned(),
        found,
        expected: "tensors that fit the safetensors format".to_owned(),
    })?;
    fs::write_atomic_with(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors
            .iter()
            .flat_map(|tensor| &tensor.parts)
            .try_for_each(|part| write_values(part, dtype, out))
    })?;
    Ok(())
}

/// The JSON in front of the values, padded so that they are aligned.
fn header(tensors: &[StoredTensor], dtype: Dtype) -> Result<Vec<u8>, String> {
    let dtype = match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::Bf16 => Stored::BF16,
        Dtype::F16 => Stored::F16,
    };
    let mut end = 0;
    let info = |tensor: &StoredTensor| {
        let (begin, shape) = (end, tensor.shape.clone());
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (tensor.name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
    };
    let tensors = tensors.iter().map(info).collect();
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let metadata = Metadata::new(Some(format), tensors).map_err(|e| e.to_string())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
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

    /// The first file, named by errors that do not concern a particular file.
    pub fn first(&self) -> &Path {
        self.first
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.found.get(name)?.view.shape())
    }

    /// The dtype that all have, or f32 where they have several.
    pub fn dtype(&self) -> Dtype {
        let mut dtypes = self.found.values().map(|tensor| match tensor.view.dtype() {
            Stored::BF16 => Dtype::Bf16,
            Stored::F16 => Dtype::F16,
            _ => Dtype::F32,
        });
        let first = dtypes.next().unwrap_or_default();
        if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 }
    }

    /// The names of those that were never read, in their order.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.found.iter().filter(|(_, tensor)| !tensor.read).map(|(name, _)| name.as_str())
    }

    /// Values of a tensor, row-major.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape than `shape` or another dtype than F32, BF16
    /// or F16, or contains NaN or infinity.
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
    /// Names the first other one.
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
    let pairs = || view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match view.dtype() {
        Stored::F32 => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(quad(b))).collect(),
        Stored::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        Stored::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

/// The bytes of an f32.
fn quad(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
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
