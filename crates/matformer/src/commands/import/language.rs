//! `matformer import` of language models, which are copied tensor by tensor.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::fs,
    data::{TOKENIZER_FILE, Tokenizer},
    formats::{Checkpoint, LmImport},
    nn::ModelConfig,
    run_file::{Lm, Tables},
};
use serde_json::{Value, json};

use crate::{
    args::ImportArgs,
    commands::{Context, count, print_json, written},
    failure::{Hinted, OrBadInput},
    kind::Kind,
    logging::say,
    output::out,
};

pub(super) fn run(
    source: &dyn Checkpoint,
    args: &ImportArgs,
    context: &Context,
) -> Result<ExitCode> {
    let import = LmImport::new(source, args.granularities.as_deref(), &context.device);
    let import = import.map_err(with_vision).bad_input()?;
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    let dir = scratch.path();
    for (name, bytes) in source.files().bad_input()? {
        fs::write_atomic(dir.join(name), &bytes)?;
    }
    // Errors name the file where a person can look at it.
    let at = if source.path().is_dir() { source.path() } else { dir };
    let tokenizer = tokenizer(at, import.config.vocab_size)?;
    let (config, params) = (import.config.clone(), import.params);
    let (dtype, rounded_to) = (import.dtype, import.rounded_to);
    let left_out = import.left_out.clone();
    let hash = tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_string());
    let manifest = import.write(dir, args.shard_size, hash).bad_input()?;
    fs::publish_dir(dir, &args.out)?;

    if context.json {
        let files = written(&args.out)?;
        let left_out = left_out.iter().map(|l| json!({ "tensor": l.name, "why": l.why }));
        return print_json(&json!({
            "model": args.out.display().to_string(),
            "format": source.format(),
            "kind": Lm::NAME,
            "params": params,
            "granularities": manifest.granularities.widths(),
            "dtype": dtype.name(),
            "tokenizer": tokenizer.is_some(),
            "left_out": left_out.collect::<Vec<Value>>(),
            "bytes": files.bytes(),
            "files": files,
        }));
    }
    if tokenizer.is_none() {
        say!(
            "note: {0} has no `{TOKENIZER_FILE}`, so no text can be read: AutoTokenizer of \
             transformers writes one with `AutoTokenizer.from_pretrained(\"{0}\")\
             .save_pretrained(\"{1}\")`",
            at.display(),
            args.out.display()
        );
    }
    for left_out in &left_out {
        say!("left out: `{}`, {}", left_out.name, left_out.why);
    }
    out!(
        "{}: {}, {} parameters, {}: {}",
        args.out.display(),
        source.format(),
        count(params as f64),
        dtype.name(),
        Lm::describe(&config)
    )?;
    let space = config.space()?;
    let widths: Vec<String> =
        space.granularities.iter().map(|g| format!("{} {}", g.name, g.width)).collect();
    let rounded = match rounded_to {
        Some(multiple) if multiple > 1 => format!(", multiples of {multiple}"),
        _ => String::new(),
    };
    out!(
        "widths {}{rounded}; only the full one was trained: `matformer elastify {} --data \
         TEXT --out RUN` makes the others good",
        widths.join(", "),
        args.out.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A model type that no family has may be one of a vision model.
fn with_vision(error: matformer::formats::Error) -> anyhow::Error {
    let message = error.to_string();
    if message.contains("`model_type`") {
        let hint = "vision transformers are `vit`, `deit` or `dinov2`, or have timm's key \
                    `architecture` in its place"
            .to_owned();
        return Hinted { message, hint }.into();
    }
    error.into()
}

/// The tokenizer in a folder, if there is one: the embedding needs a row for each of its ids.
fn tokenizer(dir: &Path, rows: usize) -> Result<Option<Tokenizer>> {
    let path = dir.join(TOKENIZER_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::load(&path).bad_input()?;
    if tokenizer.vocab_size() <= rows {
        return Ok(Some(tokenizer));
    }
    Err(Hinted {
        message: format!(
            "{}: ids up to {}; expected at most {}, as the embedding has {rows} rows (`vocab_size`)",
            path.display(),
            tokenizer.vocab_size() - 1,
            rows.saturating_sub(1)
        ),
        hint: "this tokenizer belongs to another model, or tokens were added to it without \
               resizing the embedding"
            .to_owned(),
    })
    .bad_input()
}
