//! Models of other programs as model folders.

mod language;
mod vision;

use std::path::{Path, PathBuf};

use matformer_core::Manifest;
use matformer_formats::HfFolder;
use matformer_nn::{
    ConfigFile, folder,
    weights::{INDEX, WeightFiles},
};
use serde::Serialize;

use crate::{
    Session,
    error::{Hinted, OrBadInput, Result},
    folder::{check_is_new, is_gguf},
};

/// What to import, and what to write.
#[derive(Clone, Debug)]
pub struct Order {
    /// A folder of another program's, or a GGUF file.
    pub source: PathBuf,
    /// The folder to write, which must not be there.
    pub out: PathBuf,
    /// Feed-forward widths that get names.
    pub granularities: Option<Vec<usize>>,
    /// Size above which the weights are written as several files.
    pub shard_bytes: Option<u64>,
}

/// A model that was imported.
#[derive(Debug)]
pub struct Imported {
    /// `lm` or `vit`.
    pub kind: &'static str,
    /// What it was, for a person.
    pub format: String,
    /// Its shape in a few words.
    pub described: String,
    /// Its parameters.
    pub params: usize,
    /// How its weights are stored.
    pub dtype: &'static str,
    /// Whether it has a tokenizer, of a language model.
    pub tokenizer: Option<bool>,
    /// Whether it had no head, of a vision model.
    pub headless: Option<bool>,
    /// Tensors that the model has no use for.
    pub left_out: Vec<LeftOut>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// What widths were rounded to, where they were.
    pub rounded_to: Option<usize>,
    /// What is recorded of it.
    pub manifest: Manifest,
}

/// A tensor that the model has no use for.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub tensor: String,
    /// Why.
    pub why: &'static str,
}

/// Makes a model folder of another program's model.
///
/// # Errors
/// When the model is of no known family, or a file cannot be read or written.
pub fn import(order: &Order, session: &Session) -> Result<Imported> {
    let path = &order.source;
    check_source(path).bad_input()?;
    check_is_new(&order.out).bad_input()?;
    if path.is_file() {
        return gguf(path, order, session);
    }
    if is_vision(&ConfigFile::read(path).bad_input()?) {
        return vision::write(path, order, session);
    }
    let files = WeightFiles::open(path).bad_input()?;
    let source = HfFolder::new(path, &files).bad_input()?;
    language::write(&source, order, session)
}

#[cfg(feature = "gguf")]
fn gguf(path: &Path, order: &Order, session: &Session) -> Result<Imported> {
    let source = matformer_formats::gguf::Gguf::open(path).bad_input()?;
    language::write(&source, order, session)
}

#[cfg(not(feature = "gguf"))]
fn gguf(path: &Path, _: &Order, _: &Session) -> Result<Imported> {
    Err(Hinted {
        message: format!("{}: a file; this program was built without GGUF", path.display()),
        hint: "build it with the feature `gguf`, or import a folder".to_owned(),
    })
    .bad_input()
}

/// Whether a `config.json` is that of a vision transformer of transformers, or of a model of timm.
fn is_vision(file: &ConfigFile) -> bool {
    match file.text("model_type") {
        Some(found) => ["vit", "deit", "dinov2"].contains(&found),
        None => file.get("architecture").is_some(),
    }
}

/// A clear word where there is nothing to read.
fn check_source(dir: &Path) -> Result<(), Hinted> {
    let hinted = |message: String, hint: &str| Err(Hinted { message, hint: hint.to_owned() });
    if dir.join(Manifest::FILE).exists() {
        let hint = "every command takes it as it is; `train --init` starts from it";
        return hinted(format!("{}: a model folder already", dir.display()), hint);
    }
    let ends_with =
        |path: &Path, suffix: &str| path.extension().is_some_and(|found| found == suffix);
    if matches!(dir.try_exists(), Ok(false)) {
        let hint = "expected a folder as on the Hugging Face Hub, a GGUF file, or a named source such as \
                    `fetch:smollm2`";
        return hinted(format!("{}: no such file or folder", dir.display()), hint);
    }
    let of_folder = ["safetensors", "json", "bin"];
    if dir.is_file() && of_folder.into_iter().any(|suffix| ends_with(dir, suffix)) {
        let hint = "name the folder that `config.json` and the weights are in";
        return hinted(
            format!("{}: a file; expected a folder or a GGUF file", dir.display()),
            hint,
        );
    }
    let is_there = |name: &str| dir.join(name).exists();
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let gguf = files.filter(|path| is_gguf(path)).min();
    if let Some(gguf) = gguf.filter(|_| !is_there(folder::CONFIG)) {
        let message = format!("{}: no such file", dir.join(folder::CONFIG).display());
        return hinted(message, &format!("to import a GGUF file, name it: {}", gguf.display()));
    }
    let weights = [folder::WEIGHTS, INDEX];
    let pickled = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    if pickled.into_iter().any(is_there) && !weights.iter().any(|name| is_there(name)) {
        let hint = "pickled weights are not read: write them as safetensors, with \
                    `save_pretrained` of transformers or `save_for_hf` of timm";
        return hinted(format!("{}: no such file", dir.join(folder::WEIGHTS).display()), hint);
    }
    Ok(())
}
