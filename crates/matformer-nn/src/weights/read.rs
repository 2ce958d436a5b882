//! Weights files, read.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use matformer_core::{Dtype, fs};
use memmap2::Mmap;
use safetensors::{SafeTensors, tensor::TensorView};

use super::{
    INDEX, TensorRef, WEIGHTS, values,
    view::{PIECE, release},
};
use crate::{Error, Result};

/// The weights files of a folder, mapped: one, or those that its index names, in the order of
/// their names.
#[derive(Debug)]
pub struct WeightFiles {
    paths: Vec<PathBuf>, // at least one
    maps: Vec<Mmap>,
    index: Option<Index>,
}

/// The index of several weights files.
#[derive(Debug)]
struct Index {
    path: PathBuf,
    /// Name of the file that each tensor is in.
    files: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Maps the files in `dir`.
    ///
    /// # Errors
    /// When one is missing, the index is malformed, or there is a whole file beside it.
    pub fn open(dir: &Path) -> Result<Self> {
        let index = Index::of(dir)?;
        let paths = match &index {
            None => vec![dir.join(WEIGHTS)],
            Some(index) => {
                let names: BTreeSet<&String> = index.files.values().collect();
                names.into_iter().map(|name| dir.join(name)).collect()
            }
        };
        let maps = paths.iter().map(|path| map(path)).collect::<Result<_>>()?;
        Ok(Self { paths, maps, index })
    }

    /// The first of them.
    pub fn first(&self) -> &Path {
        &self.paths[0]
    }

    /// Their tensors.
    ///
    /// # Errors
    /// When a file is malformed, two have the same tensor, or the index says something else.
    pub fn tensors(&self) -> Result<Tensors<'_>> {
        let mut found = BTreeMap::new();
        for (path, bytes) in self.paths.iter().zip(&self.maps) {
            let file = SafeTensors::deserialize(bytes).map_err(|e| Error::File {
                path: path.clone(),
                found: e.to_string(),
                expected: "a safetensors file".to_owned(),
            })?;
            for (name, view) in file.tensors() {
                let again = Tensor { path, map: bytes, view, read: false };
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
        if let Some(index) = &self.index {
            index.check(&found)?;
        }
        Ok(Tensors { first: self.first(), found })
    }

    /// SHA-256 over the files, one after the other.
    pub fn hash(&self) -> String {
        let mut hasher = fs::Hasher::default();
        for map in &self.maps {
            for (i, piece) in map.chunks(PIECE).enumerate() {
                hasher.update(piece);
                release(map, i * PIECE, piece.len());
            }
        }
        hasher.finish()
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
    map: &'a Mmap,
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

    /// Their names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.found.get(name)?.view.shape())
    }

    /// The dtype that all have, or f32 where they have several.
    pub fn dtype(&self) -> Dtype {
        let dtype = |tensor: &Tensor<'_>| values::from_stored(tensor.view.dtype());
        values::common_dtype(self.found.values().map(|tensor| dtype(tensor).unwrap_or_default()))
    }

    /// The names of those that were never read, in their order.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.found.iter().filter(|(_, tensor)| !tensor.read).map(|(name, _)| name.as_str())
    }

    /// A tensor as it is stored. This does not count as read.
    ///
    /// # Errors
    /// When the tensor is missing, or has another dtype than F32, BF16 or F16.
    pub fn view(&self, name: &str) -> Result<TensorRef<'_>> {
        let wrong = |path: &Path, found: String, expected: &str| Error::Tensor {
            path: path.to_owned(),
            tensor: name.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let Some((name, Tensor { path, map, view, .. })) = self.found.get_key_value(name) else {
            return Err(wrong(self.first, "nothing".to_owned(), "a tensor of this name"));
        };
        let Some(dtype) = values::from_stored(view.dtype()) else {
            return Err(wrong(path, format!("dtype {:?}", view.dtype()), "F32, BF16 or F16"));
        };
        Ok(TensorRef { name, dtype, shape: view.shape(), data: view.data(), path, map })
    }

    /// A tensor of this shape as it is stored. This does not count as read.
    ///
    /// # Errors
    /// As [`view`](Self::view), and when it has another shape.
    pub fn view_of_shape(&self, name: &str, shape: &[usize]) -> Result<TensorRef<'_>> {
        let wrong = |path: &Path, found: String| Error::Tensor {
            path: path.to_owned(),
            tensor: name.to_owned(),
            found,
            expected: format!("shape {shape:?}"),
        };
        match self.found.get(name) {
            None => Err(wrong(self.first, "nothing".to_owned())),
            Some(tensor) if tensor.view.shape() != shape => {
                Err(wrong(tensor.path, format!("shape {:?}", tensor.view.shape())))
            }
            Some(_) => self.view(name),
        }
    }

    /// Values of a tensor, row-major.
    ///
    /// # Errors
    /// When the tensor is missing, has another shape than `shape` or another dtype than F32, BF16
    /// or F16, or contains NaN or infinity.
    pub fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.view_of_shape(name, shape)?;
        if let Some((bad, value)) = values::not_finite(view.dtype, view.data) {
            return Err(Error::Tensor {
                path: view.path.to_owned(),
                tensor: name.to_owned(),
                found: format!("{value} at element {bad}"),
                expected: "finite values".to_owned(),
            });
        }
        let values = view.floats();
        if let Some(tensor) = self.found.get_mut(name) {
            tensor.read = true;
        }
        Ok(values)
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

impl Index {
    /// The index in a folder, if there is one.
    fn of(dir: &Path) -> Result<Option<Self>> {
        #[derive(serde::Deserialize)]
        struct Read {
            weight_map: BTreeMap<String, String>,
        }
        let path = dir.join(INDEX);
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |found: String, expected: &str| Error::File {
            path: path.clone(),
            found,
            expected: expected.to_owned(),
        };
        let Read { weight_map: files } = serde_json::from_str(&fs::read_to_string(&path)?)
            .map_err(|e| wrong(e.to_string(), "an index with a `weight_map`"))?;
        if files.is_empty() {
            return Err(wrong("an empty `weight_map`".to_owned(), "at least one file"));
        }
        // Beside the index, not anywhere on this machine.
        let plain = |name: &str| Path::new(name).file_name().is_some_and(|n| n == name);
        if let Some(other) = files.values().find(|name| !plain(name)) {
            let found = format!("file `{other}`");
            return Err(wrong(found, "the name of a file in the same folder"));
        }
        // Other programs read that one and not the index: which of the two is meant is for its owner to say.
        if dir.join(WEIGHTS).exists() && !files.values().any(|name| name == WEIGHTS) {
            let found = format!("`{WEIGHTS}` beside it, which it does not name");
            return Err(wrong(found, "one or the other: remove what is not the model"));
        }
        Ok(Some(Self { path, files }))
    }

    /// Checks that each tensor that the index names is in its file.
    fn check(&self, found: &BTreeMap<String, Tensor<'_>>) -> Result<()> {
        let wrong = |tensor: &str, found: String, expected: String| {
            let (path, tensor) = (self.path.clone(), tensor.to_owned());
            Err(Error::Tensor { path, tensor, found, expected })
        };
        for (tensor, file) in &self.files {
            let place = found.get(tensor).and_then(|tensor| tensor.path.file_name());
            match place {
                Some(place) if place == file.as_str() => {}
                Some(place) => {
                    let found = format!("file `{file}`");
                    return wrong(tensor, found, format!("`{}`, where it is", place.display()));
                }
                None => {
                    let expected = "a file that has it".to_owned();
                    return wrong(tensor, format!("file `{file}`, which has it not"), expected);
                }
            }
        }
        Ok(())
    }
}

/// Maps a file of weights. Its bytes are those of the file as long as nobody changes it in place.
///
/// # Errors
/// When it cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = fs::open(path)?;
    // SAFETY: weights files are written under another name and renamed, never changed in place; of what
    // they say every length is checked against the map's own.
    Ok(unsafe { Mmap::map(&file) }.map_err(fs::error(path, "map"))?)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
