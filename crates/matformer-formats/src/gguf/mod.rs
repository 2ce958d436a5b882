//! GGUF, the format of llama.cpp: a file with weights, configuration and tokenizer.
//!
//! [`Gguf`] shows a file as the folder of Hugging Face that it was made from: the keys of
//! `config.json`, the tokenizer's files, and tensors under the names and with the rows that
//! transformers has. A part of the metadata that changes what the model computes and that is not
//! covered is refused by name. [`write()`] writes a model so that llama.cpp runs it, tokenizer and chat
//! template inside.

mod arch;
mod checkpoint;
mod config;
mod container;
mod facts;
mod ggml;
mod keys;
mod names;
mod output;
mod rope;
mod shape;
mod tokenizer;
mod write;

pub use facts::GgufFacts;
pub use shape::architecture;
pub use write::{GgufDtype, GgufModel, Written, write};

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use matformer_core::Dtype;
use matformer_nn::{Error, Result, weights};
use memmap2::Mmap;
use serde_json::{Map, Value};

use self::{
    config::Described,
    container::Container,
    ggml::{GgmlType, dequantize},
    tokenizer::TokenizerFiles,
};

/// A GGUF file of a language model, mapped.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    container: Container,
    described: Described,
    tensors: Vec<TensorInfo>,
    places: BTreeMap<String, Place>,
    /// What it is a slice of, or why that is not known.
    slice: Result<Option<facts::Slice>, String>,
    /// Made when they are asked for.
    files: OnceLock<TokenizerFiles>,
}

/// A tensor under the name that Hugging Face's folders have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape: `[out, in]` for a matrix.
    pub shape: Vec<usize>,
    /// Numbers that [`Gguf::write_tensor`] writes: those of the file, or f32 where it is quantised.
    pub dtype: Dtype,
}

/// Where a tensor's values are.
#[derive(Debug)]
struct Place {
    /// Index in the container.
    index: usize,
    /// Size of the heads whose rows are in GGUF's order.
    head_dim: Option<usize>,
}

impl Gguf {
    /// Maps a file and reads everything but its values.
    ///
    /// # Errors
    /// When the file is not a whole GGUF file of a language model of architecture `llama`, `qwen2`
    /// or `qwen3`, a tensor is unknown or of a type that is not read, or its metadata has something
    /// that changes numbers and that is not covered. Whether the tensors are those of the model is
    /// for [`LmImport`](crate::LmImport) to say.
    pub fn open(path: &Path) -> Result<Self> {
        let map = weights::map(path)?;
        let container = Container::parse(&map, path)?;
        let described = config::describe(&container, &map, path)?;
        let mut tensors = Vec::new();
        let mut places = BTreeMap::new();
        for (index, stored) in container.tensors.iter().enumerate() {
            if stored.name == names::ROPE_FREQS {
                continue;
            }
            let name = described.name_of(stored).map_err(|(found, expected)| {
                let (path, tensor) = (path.to_owned(), stored.name.clone());
                Error::Tensor { path, tensor, found, expected }
            })?;
            let heads = names::permuted_heads(described.arch, &name, described.heads);
            let place = Place { index, head_dim: heads.map(|_| described.heads.dim) };
            let (shape, dtype) = (stored.shape.clone(), stored.ggml.dtype());
            tensors.push(TensorInfo { name: name.clone(), shape, dtype });
            places.insert(name, place);
        }
        let path = path.to_owned();
        let slice = facts::read(&container.metadata, described.n_layers, described.d_ff);
        let files = OnceLock::new();
        Ok(Self { path, map, container, described, tensors, places, slice, files })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of Hugging Face's `config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.described.config
    }

    /// Names and contents of the tokenizer's files, none if the file has no tokenizer:
    /// `tokenizer.json` for the tokenizers library, `tokenizer_config.json` with the chat template,
    /// and `generation_config.json`.
    ///
    /// # Errors
    /// When the tokenizer is of a kind that is not covered, is malformed, or does not have as many
    /// tokens as the embedding.
    pub fn files(&self) -> Result<&[(String, Vec<u8>)]> {
        Ok(&self.tokenizer()?.files)
    }

    fn tokenizer(&self) -> Result<&TokenizerFiles> {
        if let Some(made) = self.files.get() {
            return Ok(made);
        }
        let made = tokenizer::files(&self.container, &self.map, &self.path, &self.described)?;
        Ok(self.files.get_or_init(|| made))
    }

    /// A model card with the license that the file names, if it names one.
    pub(crate) fn card(&self) -> Option<String> {
        let value = |key: &str| match self.container.metadata.get(key) {
            Some(container::Value::Text(text)) if !text.contains(['\n', '\r']) => Some(text),
            _ => None,
        };
        let license = value("general.license")?;
        let mut card = format!("---\nlicense: {license}\n");
        for key in ["license_name", "license_link"] {
            if let Some(found) = value(&format!("general.{}", key.replace('_', "."))) {
                card += &format!("{key}: {found}\n");
            }
        }
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let name = value("general.name").map_or(&*file, String::as_str);
        Some(format!("{card}---\n\n# {name}\n\nImported from `{file}`.\n"))
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Writes the values of a tensor, row-major, little-endian, as the dtype in
    /// [`tensors`](Self::tensors). Holds at most a few hundred KiB at a time, or one row.
    ///
    /// # Errors
    /// When `out` fails; with an [`Error`] inside when the file has no such tensor, or the tensor has
    /// NaN or infinity.
    pub fn write_tensor(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let Some(place) = self.places.get(name) else {
            return Err(self.invalid(name, "nothing".to_owned(), "a tensor of this name"));
        };
        let stored = &self.container.tensors[place.index];
        let bytes = &self.map[stored.bytes.clone()];
        let (rows, row_bytes) = match *stored.shape {
            [n] if place.head_dim.is_some() => (n, stored.ggml.block_bytes()),
            [.., width] => {
                let row_bytes = width / stored.ggml.block() * stored.ggml.block_bytes();
                (bytes.len() / row_bytes, row_bytes)
            }
            [] => (0, 1),
        };
        let at_once = (CHUNK / row_bytes).max(1);
        let mut chunk = Vec::new();
        for start in (0..rows).step_by(at_once) {
            chunk.clear();
            for row in start..rows.min(start + at_once) {
                let row = place.head_dim.map_or(row, |dim| names::row_in_gguf(row, dim));
                chunk.extend_from_slice(&bytes[row * row_bytes..(row + 1) * row_bytes]);
            }
            self.write_values(name, stored.ggml, &chunk, out)?;
        }
        Ok(())
    }

    /// Writes values that are stored as `ggml`.
    fn write_values(
        &self,
        name: &str,
        ggml: GgmlType,
        bytes: &[u8],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let decoded;
        let plain = match ggml {
            GgmlType::Plain(_) => bytes,
            GgmlType::Blocks(blocks) => {
                let values = dequantize(blocks, bytes).map_err(io::Error::other)?;
                decoded = ggml::stored(values, Dtype::F32)?;
                &decoded
            }
        };
        if let Some((_, found)) = weights::not_finite(ggml.dtype(), plain) {
            return Err(self.invalid(name, found.to_string(), "finite values"));
        }
        out.write_all(plain)
    }

    /// What is wrong with a tensor's values.
    fn invalid(&self, name: &str, found: String, expected: &str) -> io::Error {
        let tensor = names::gguf(name).unwrap_or_else(|| name.to_owned());
        let path = self.path.clone();
        let error = Error::Tensor { path, tensor, found, expected: expected.to_owned() };
        io::Error::other(error)
    }
}

/// Bytes of a tensor that are read at once, in whole rows.
const CHUNK: usize = 1 << 16;

#[cfg(test)]
mod tests;
