//! `matformer slice` of a Gemma 3n model, which is none of ours.

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Manifest, fs, units::count},
    formats::{Gemma3nPlan, is_gemma3n, slice_gemma3n},
    nn::weights::SHARD_BYTES,
    run::folder::check_is_new,
};
use serde_json::json;

use crate::{
    args::{Gemma3nArgs, SliceArgs},
    commands::print_json,
    failure::{Hinted, OrBadInput},
    logging::say,
    output::out,
};

/// Whether a Gemma 3n model is to be sliced, by its folder or by the flags.
pub fn is_meant(args: &SliceArgs) -> bool {
    let given = args.gemma3n.widths.is_some() || args.gemma3n.config.is_some();
    given || !args.model.join(Manifest::FILE).exists() && is_gemma3n(&args.model)
}

pub fn run_gemma3n(args: &SliceArgs, json: bool) -> Result<ExitCode> {
    check(args).bad_input()?;
    let plan = plan(&args.gemma3n)?;
    check_is_new(&args.out).bad_input()?;
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    let shard_bytes = args.shard_size.unwrap_or(SHARD_BYTES);
    let sliced = slice_gemma3n(&args.model, &plan, scratch.path(), shard_bytes).bad_input()?;
    fs::publish_dir(scratch.path(), &args.out)?;
    if json {
        return print_json(&json!({
            "model": args.out.display().to_string(),
            "layers": sliced.layers,
            "widths": sliced.widths,
            "params": sliced.params,
            "effective_params": sliced.effective_params,
            "weights_sha256": sliced.weights_sha256,
            "notes": sliced.notes,
        }));
    }
    for note in &sliced.notes {
        say!("note: {note}");
    }
    out!(
        "{}: Gemma 3n of {} of {} layers, {} parameters, {} of them effective",
        args.out.display(),
        sliced.layers.len(),
        sliced.of_layers,
        count(sliced.params as f64),
        count(sliced.effective_params as f64)
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A clear word where folder and flags do not fit.
fn check(args: &SliceArgs) -> Result<(), Hinted> {
    let hinted = |message: String, hint: &str| Err(Hinted { message, hint: hint.to_owned() });
    let model = args.model.display();
    if args.submodel.is_some() {
        let hint = "give the width of each layer with --widths, or a row of a table with --config \
                    and --row";
        return hinted(format!("{model}: a Gemma 3n model has no named submodels"), hint);
    }
    if args.model.join(Manifest::FILE).exists() {
        let hint = "--submodel names what to cut out of it";
        return hinted(
            format!("{model}: not a Gemma 3n model, which --widths and --config are for"),
            hint,
        );
    }
    Ok(())
}

/// What the flags say; clap has seen to it that they go together.
fn plan(args: &Gemma3nArgs) -> Result<Gemma3nPlan> {
    match (&args.widths, &args.config, &args.row) {
        (Some(widths), ..) => Ok(Gemma3nPlan {
            widths: widths.clone(),
            skipped: args.skip_layers.clone().unwrap_or_default(),
        }),
        (None, Some(table), Some(row)) => Gemma3nPlan::from_table(table, row).bad_input(),
        _ => Err(Hinted {
            message: "no --widths and no --config".to_owned(),
            hint: "a slice of Gemma 3n needs one of them".to_owned(),
        })
        .bad_input(),
    }
}
