//! What an importer needs of a checkpoint, whatever its files are.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use matformer_core::{Dtype, SliceFacts, fs};
use matformer_nn::{
    ConfigFile, Error, Result,
    weights::{Cut, Tensors, WeightFiles},
};

use crate::{CARD, companions};

/// A checkpoint of a language model, shown as a folder of Hugging Face.
pub trait Checkpoint {
    /// What it is: `a folder of Hugging Face`.
    fn format(&self) -> &'static str;

    /// The folder or file.
    fn path(&self) -> &Path;

    /// The keys of its `config.json`, and the files beside that.
    ///
    /// # Errors
    /// When it cannot be read.
    fn config(&self) -> Result<ConfigFile>;

    /// Names and contents of the small files that belong to the model: tokenizer, chat template.
    ///
    /// # Errors
    /// When one cannot be read or made.
    fn files(&self) -> Result<Vec<(String, Vec<u8>)>>;

    /// Names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// Shape and dtype of a tensor; `None` if there is none of that name.
    ///
    /// # Errors
    /// When it holds no floating point numbers.
    fn tensor(&self, name: &str) -> Result<Option<TensorFacts>>;

    /// What its own files call a tensor, for messages.
    fn own_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// What other programs do otherwise with what [`files`](Self::files) gives, a sentence each.
    ///
    /// # Errors
    /// Those of [`files`](Self::files).
    fn notes(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Writes the values of a tensor, row-major and little-endian, in its dtype.
    ///
    /// # Errors
    /// When there is no such tensor, it has NaN or infinity, or `out` fails.
    fn write(&self, name: &str, out: &mut dyn Write) -> io::Result<()>;

    /// What it was in an elastic model that it was cut out of, and the hash of that model's weights, where it
    /// says so.
    fn slice(&self) -> Option<&(SliceFacts, String)> {
        None
    }

    /// SHA-256 of its weights.
    ///
    /// # Errors
    /// When they cannot be read.
    fn hash(&self) -> Result<String>;
}

/// What a checkpoint says of one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFacts {
    /// Its shape: `[out, in]` for a matrix.
    pub shape: Vec<usize>,
    /// How its numbers are stored, or will be written.
    pub dtype: Dtype,
}

/// A folder of `config.json` and safetensors, one file or several with their index.
#[derive(Debug)]
pub struct HfFolder<'a> {
    dir: PathBuf,
    files: &'a WeightFiles,
    tensors: Tensors<'a>,
}

impl<'a> HfFolder<'a> {
    /// The folder that `files` lie in.
    ///
    /// # Errors
    /// When a weights file is malformed.
    pub fn new(dir: &Path, files: &'a WeightFiles) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), files, tensors: files.tensors()? })
    }
}

impl Checkpoint for HfFolder<'_> {
    fn format(&self) -> &'static str {
        "a folder of Hugging Face"
    }

    fn path(&self) -> &Path {
        &self.dir
    }

    fn config(&self) -> Result<ConfigFile> {
        ConfigFile::read(&self.dir)
    }

    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        files_of(&self.dir)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.names().collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<TensorFacts>> {
        if self.tensors.shape(name).is_none() {
            return Ok(None);
        }
        let view = self.tensors.view(name)?;
        Ok(Some(TensorFacts { shape: view.shape.to_vec(), dtype: view.dtype }))
    }

    fn write(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let view = self.tensors.view(name).map_err(io::Error::other)?;
        view.write(&Cut::whole(&view), out)
    }

    fn hash(&self) -> Result<String> {
        Ok(self.files.hash())
    }
}

/// Names and contents of the small files of a folder that an import keeps: its [`companions`] and its
/// model card.
///
/// # Errors
/// When one cannot be read.
pub fn files_of(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = companions(dir)?;
    let card = dir.join(CARD);
    if card.is_file() {
        files.push((CARD.to_owned(), fs::read(card)?));
    }
    Ok(files)
}

/// The error of a tensor of a checkpoint.
pub(crate) fn wrong(
    checkpoint: &dyn Checkpoint,
    tensor: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::Tensor {
        path: checkpoint.path().to_owned(),
        tensor: checkpoint.own_name(tensor),
        found: found.into(),
        expected: expected.into(),
    }
}
