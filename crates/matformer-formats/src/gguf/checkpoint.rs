//! A GGUF file as what is imported.

use std::{
    io::{self, Write},
    path::Path,
};

use matformer_core::{SliceFacts, fs};
use matformer_nn::{ConfigFile, Result};

use super::{Gguf, names};
use crate::{CARD, Checkpoint, TensorFacts};

impl Checkpoint for Gguf {
    fn format(&self) -> &'static str {
        "a GGUF file"
    }

    fn path(&self) -> &Path {
        Self::path(self)
    }

    fn config(&self) -> Result<ConfigFile> {
        Ok(ConfigFile::of(
            Self::path(self),
            Self::config(self).clone(),
            Self::files(self)?.to_vec(),
        ))
    }

    fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Self::files(self)?.to_vec();
        files.extend(self.card().map(|card| (CARD.to_owned(), card.into_bytes())));
        Ok(files)
    }

    fn names(&self) -> Vec<&str> {
        self.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<TensorFacts>> {
        let found = self.tensors().iter().find(|tensor| tensor.name == name);
        Ok(found.map(|tensor| TensorFacts { shape: tensor.shape.clone(), dtype: tensor.dtype }))
    }

    fn own_name(&self, name: &str) -> String {
        names::gguf(name).unwrap_or_else(|| name.to_owned())
    }

    fn notes(&self) -> Result<Vec<String>> {
        let mut notes = self.tokenizer()?.notes.clone();
        notes.extend(self.slice.as_ref().err().cloned());
        Ok(notes)
    }

    fn write(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        self.write_tensor(name, out)
    }

    fn slice(&self) -> Option<&(SliceFacts, String)> {
        self.slice.as_ref().ok()?.as_ref()
    }

    fn hash(&self) -> Result<String> {
        // Read, not mapped: pages of the map would stay resident.
        Ok(fs::sha256_file(Self::path(self))?)
    }
}
