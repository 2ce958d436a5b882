//! The files that were written, as JSON lists them.

use std::path::Path;

use matformer_core::fs;
use serde::Serialize;

use crate::error::Result;

/// The files that were written.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Files(Vec<File>);

#[derive(Debug, Serialize)]
struct File {
    name: String,
    bytes: u64,
}

impl Files {
    /// Those of a folder, or the one at `out`.
    ///
    /// # Errors
    /// When a folder cannot be listed, or a file cannot be read.
    pub fn at(out: &Path) -> Result<Self> {
        let folder = if out.is_dir() { out } else { out.parent().unwrap_or(out) };
        let mut left = vec![out.to_owned()];
        let mut files = Vec::new();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(&path)?.into_iter().rev());
                continue;
            }
            let bytes = std::fs::metadata(&path).map_err(fs::error(&path, "read"))?.len();
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            files.push(File { name, bytes });
        }
        Ok(Self(files))
    }

    /// Their bytes together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.bytes).sum()
    }
}
