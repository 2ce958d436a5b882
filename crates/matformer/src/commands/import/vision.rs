//! `matformer import` of vision transformers, which are loaded: their tensors change form.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Draw, Manifest, Provenance, fs, units::count},
    data::AugmentConfig,
    formats::{Normalization, PREPROCESSOR_FILE, Preprocessor, files_of, import_vit},
    nn::{Elastic, Folder, folder},
    run::kind::Model,
    run_file::{Tables, Vit},
    vit::MatVit,
};
use serde_json::json;

use crate::{
    args::ImportArgs,
    commands::{Context, print_json},
    failure::{Hinted, OrBadInput},
    logging::say,
    output::out,
};

/// Why a tensor is left out.
const NO_USE: &str = "as classification has no use for it";

pub(super) fn run(source: &Path, args: &ImportArgs, context: &Context) -> Result<ExitCode> {
    if args.shard_size.is_some() {
        return Err(Hinted {
            message: "--shard-size: only weights of language models are written as several files"
                .to_owned(),
            hint: "leave it out".to_owned(),
        })
        .bad_input();
    }
    let imported =
        import_vit(source, args.granularities.as_deref(), &context.session.device).bad_input()?;
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
    let mut manifest = Manifest::new(MatVit::KIND, space, objective, provenance);
    manifest.dtype = imported.dtype;
    let config = model.config();
    let stated = imported.preprocessor.clone();
    let preprocessor = stated.clone().unwrap_or_else(|| {
        let (mean, std) = AugmentConfig::default().normalization(config.channels);
        Preprocessor::new(Normalization { mean, std }, None)
    });
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    fs::write_files(scratch.path(), &files_of(source).bad_input()?)?;
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
            "dtype": imported.dtype.name(),
            "headless": imported.headless,
            "left_out": imported.left_out.iter().map(|name| json!({ "tensor": name, "why": NO_USE })).collect::<Vec<_>>(),
        }));
    }
    if stated.is_none() {
        let from = source.display();
        say!(
            "note: {from} does not say how pixels are scaled: mean and standard deviation 0.5 are assumed"
        );
    }
    for differs in &preprocessor.differs {
        say!("note: its image processor differs: {differs}");
    }
    if imported.headless {
        say!("note: no classification head: a head of zeros with 1 class is added");
    }
    if !imported.left_out.is_empty() {
        say!("left out, {NO_USE}: {}", imported.left_out.join(", "));
    }
    out!(
        "{}: {}, {} parameters, {}: {}",
        args.out.display(),
        imported.format,
        count(params as f64),
        imported.dtype.name(),
        Vit::describe(config)
    )?;
    out!(
        "only its full width was trained: `matformer elastify {} --data IMAGES --out RUN` trains {}",
        args.out.display(),
        names.join(", ")
    )?;
    Ok(ExitCode::SUCCESS)
}
