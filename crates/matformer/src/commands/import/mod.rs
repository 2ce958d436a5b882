//! `matformer import`

mod language;
mod vision;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::Manifest,
    formats::HfFolder,
    nn::{
        ConfigFile, folder,
        weights::{INDEX, WeightFiles},
    },
    run::folder::{check_is_new, is_gguf},
};

use super::{Context, fetch};
use crate::{
    args::ImportArgs,
    failure::{Hinted, OrBadInput},
};

pub fn run(args: &ImportArgs, context: &Context) -> Result<ExitCode> {
    let path = fetch::model_path(&args.source, &context.session)?;
    check_source(&path).bad_input()?;
    check_is_new(&args.out).bad_input()?;
    if path.is_file() {
        return gguf(&path, args, context);
    }
    if is_vision(&ConfigFile::read(&path).bad_input()?) {
        return vision::run(&path, args, context);
    }
    let files = WeightFiles::open(&path).bad_input()?;
    let source = HfFolder::new(&path, &files).bad_input()?;
    language::run(&source, args, context)
}

#[cfg(feature = "gguf")]
fn gguf(path: &Path, args: &ImportArgs, context: &Context) -> Result<ExitCode> {
    let source = matformer::formats::gguf::Gguf::open(path).bad_input()?;
    language::run(&source, args, context)
}

#[cfg(not(feature = "gguf"))]
fn gguf(path: &Path, _: &ImportArgs, _: &Context) -> Result<ExitCode> {
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
