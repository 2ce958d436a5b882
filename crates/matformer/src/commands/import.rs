//! `matformer import`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Draw, Manifest, Provenance, fs},
    data::AugmentConfig,
    formats::{Normalization, PREPROCESSOR_FILE, Preprocessor, import_vit},
    nn::{Elastic, Folder, folder},
    run_file::{Tables, Vit},
    vit::MatVit,
};
use serde_json::json;

use super::{Context, check_is_new, count, fetch, print_json};
use crate::{
    args::ImportArgs,
    failure::{Hinted, OrBadInput},
    kind::Kind,
    logging::say,
    output::out,
};

pub fn run(args: &ImportArgs, context: &Context) -> Result<ExitCode> {
    let source = fetch::model_path(&args.folder)?;
    check_source(&source).bad_input()?;
    check_is_new(&args.out).bad_input()?;
    let imported =
        import_vit(&source, args.granularities.as_deref(), &context.device).bad_input()?;
    let (model, space) = (&imported.model, imported.model.space());
    let names = space.granularities.names();
    let largest = names.last().map_or_else(String::new, |name| (*name).to_owned());
    // The one width that its training saw.
    let objective = Draw::Baseline { granularity: largest };
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: 0,
        steps: 0,
        tokens: 0,
        data_hash: String::new(),
        parent: Some(imported.weights_sha256.clone()),
    };
    let manifest = Manifest::new(MatVit::KIND, space, objective, provenance);
    let config = model.config();
    let stated = imported.preprocessor.clone();
    let preprocessor = stated.clone().unwrap_or_else(|| {
        let (mean, std) = AugmentConfig::default().normalization(config.channels);
        Preprocessor::new(Normalization { mean, std }, None)
    });
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    let file = scratch.path().join(PREPROCESSOR_FILE);
    fs::write_atomic(file, &preprocessor.to_file(config.image_size))?;
    folder::save(model, &manifest, scratch.path())?;
    fs::publish_dir(scratch.path(), &args.out)?;

    let params = burn::module::Module::num_params(model);
    if context.json {
        return print_json(&json!({
            "model": args.out.display().to_string(),
            "format": imported.format,
            "kind": Vit::NAME,
            "params": params,
            "granularities": space.granularities.widths(),
            "headless": imported.headless,
            "left_out": imported.left_out,
        }));
    }
    if stated.is_none() {
        let from = source.display();
        say!("note: {from} does not say how pixels are scaled: mean and deviation 0.5 are taken");
    }
    for differs in &preprocessor.differs {
        say!("note: its image processor differs: {differs}");
    }
    if imported.headless {
        say!("note: it has no head: the model gets one of zeros, of one class");
    }
    if !imported.left_out.is_empty() {
        say!("left out, as classification has no use for them: {}", imported.left_out.join(", "));
    }
    out!(
        "{}: {}, {} parameters: {}",
        args.out.display(),
        imported.format,
        count(params as f64),
        Vit::describe(config)
    )?;
    out!(
        "only its full width was trained: `matformer train CONFIG --init {}` makes {} good",
        args.out.display(),
        names.join(", ")
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A clear word where there is nothing to read.
fn check_source(dir: &Path) -> Result<(), Hinted> {
    let hinted = |message: String, hint: &str| Err(Hinted { message, hint: hint.to_owned() });
    if dir.join(Manifest::FILE).exists() {
        let hint = "every command takes it as it is; `train --init` starts from it";
        return hinted(format!("{}: a model folder already", dir.display()), hint);
    }
    let is_there = |name: &str| dir.join(name).exists();
    let weights = [folder::WEIGHTS, "model.safetensors.index.json"];
    if is_there("pytorch_model.bin") && !weights.iter().any(|name| is_there(name)) {
        let hint = "pickled weights are not read: write them as safetensors, with \
                    `save_pretrained` of transformers or `save_for_hf` of timm";
        return hinted(format!("{}: no such file", dir.join(folder::WEIGHTS).display()), hint);
    }
    Ok(())
}
