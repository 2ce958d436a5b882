//! `matformer slice`

mod gemma3n;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Manifest, Provenance, fs},
    nn::{Elastic, Folder, extract, folder},
    run_file::{Lm, RunKind, Vit},
};
use serde_json::json;

use super::{Context, check_is_new, count, print_json};
use crate::{
    args::{Format, SliceArgs},
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, Kind},
    logging::say,
    output::out,
};

pub fn run(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    if gemma3n::is_meant(args) {
        return gemma3n::run_gemma3n(args, context.json);
    }
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    let source = ModelFolder::<K>::load(&args.model, &context.device)?;
    let submodel = source.submodel(args.submodel.as_ref())?;
    let label = source.space().label(&submodel);
    if submodel.uniform_width().is_none() {
        return Err(Hinted {
            message: format!("submodel `{label}` has unequal widths: {} has one", K::FOLDER),
            hint: format!(
                "slice a uniform width, such as {}; unequal submodels run from the model folder \
                 with --submodel",
                source.space().granularities.names().join(", ")
            ),
        })
        .bad_input();
    }
    check_is_new(&args.out).bad_input()?;
    let slim = extract(&source.model, &submodel)?;
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    match args.format {
        Format::Hf => write_model_folder(&source, &slim, scratch.path())?,
        Format::Timm => K::write_timm(&source, &slim, scratch.path())?,
    }
    fs::publish_dir(scratch.path(), &args.out)?;
    let params = burn::module::Module::num_params(&slim);
    if context.json {
        return print_json(&json!({
            "model": args.out.display().to_string(), "submodel": label, "widths": submodel.widths(), "params": params,
        }));
    }
    let shape = slim.config();
    if args.format == Format::Hf
        && !K::width_facts(shape, &K::costs(shape), &submodel)?.exports.contains(&"transformers")
    {
        say!("note: no other program loads a folder like this; every command here does");
    }
    out!("{}: submodel {label}, {} parameters", args.out.display(), count(params as f64))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a slice as a model folder, with all that belongs to its source.
fn write_model_folder<K: Kind>(source: &ModelFolder<K>, slim: &K::Net, dir: &Path) -> Result<()> {
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        parent: Some(source.manifest.weights_sha256.clone()),
        ..source.manifest.provenance.clone()
    };
    let mut manifest =
        Manifest::new(K::Net::KIND, slim.space(), source.manifest.objective.clone(), provenance);
    manifest.dtype = source.manifest.dtype;
    if let Some(tokenizer) = K::tokenizer_of(source)? {
        manifest = manifest.with_tokenizer(tokenizer);
    }
    for (name, bytes) in K::files_of(source)? {
        fs::write_atomic(dir.join(name), &bytes)?;
    }
    folder::save(slim, &manifest, dir)?;
    Ok(())
}
