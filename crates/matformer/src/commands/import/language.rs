//! `matformer import` of language models, which are copied tensor by tensor.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{SliceFacts, fs, units::count},
    data::{TOKENIZER_FILE, Tokenizer},
    formats::{Checkpoint, LmImport},
    nn::ModelConfig,
    nn::weights::SHARD_BYTES,
    run::{
        folder::{GEMMA3N_HINT, tokenizer_by_transformers},
        kind::Model,
    },
    run_file::{Lm, Tables},
};
use serde_json::{Value, json};

use crate::{
    args::ImportArgs,
    commands::{Context, print_json, written},
    failure::{Hinted, OrBadInput},
    logging::say,
    output::out,
};

pub(super) fn run(
    source: &dyn Checkpoint,
    args: &ImportArgs,
    context: &Context,
) -> Result<ExitCode> {
    let import = LmImport::new(source, args.granularities.as_deref(), &context.session.device);
    let import = import.map_err(|error| with_families(error, source)).bad_input()?;
    let scratch = fs::scratch_dir(&args.out).bad_input()?;
    let dir = scratch.path();
    fs::write_files(dir, &source.files().bad_input()?)?;
    // Errors name a file that a person can look at.
    let is_folder = source.path().is_dir();
    let at = if is_folder { source.path() } else { dir };
    let tokenizer = match tokenizer(at, import.config.vocab_size) {
        Err(error) if !is_folder => Err(of_file(&error, dir, source.path())).bad_input()?,
        found => found?,
    };
    let (config, params) = (import.config.clone(), import.params);
    let (dtype, rounded_to) = (import.dtype, import.rounded_to);
    let left_out = import.left_out.clone();
    let hash = tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_string());
    let manifest = import.write(dir, args.shard_size.unwrap_or(SHARD_BYTES), hash).bad_input()?;
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
            "notes": source.notes()?,
            "bytes": files.bytes(),
            "files": files,
        }));
    }
    if tokenizer.is_none() {
        say!(
            "note: {} has no tokenizer, so no text can be read: {}",
            source.path().display(),
            tokenizer_by_transformers(
                &if is_folder { at.display().to_string() } else { "ORIGINAL".to_owned() },
                &args.out
            )
        );
    }
    for note in source.notes()? {
        say!("note: {note}");
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
    let trained = manifest.slice.as_ref().map_or_else(|| never_elastic(&args.out), of_slice);
    out!("widths {}{rounded}; {trained}", widths.join(", "))?;
    Ok(ExitCode::SUCCESS)
}

/// What the training of a model saw that was never elastic.
fn never_elastic(out: &Path) -> String {
    format!(
        "only the full one was trained: `matformer elastify {} --data TEXT --out RUN` trains the \
         others",
        out.display()
    )
}

/// What the training of the elastic model saw that a slice was cut out of.
fn of_slice(slice: &SliceFacts) -> String {
    let saw = match slice.trained.as_deref() {
        None => String::new(),
        Some([]) => ", whose widths training never saw".to_owned(),
        Some(widths) => {
            let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
            format!(", of which training saw {}", widths.join(", "))
        }
    };
    format!("submodel {} of an elastic model{saw}", slice.submodel)
}

/// Says what can be done with a model of a type that no family has.
fn with_families(error: matformer::formats::Error, source: &dyn Checkpoint) -> anyhow::Error {
    let message = error.to_string();
    if !message.contains("`model_type`") {
        return error.into();
    }
    let config = source.config().ok();
    let hint = match config.as_ref().and_then(|config| config.text("model_type")) {
        Some(kind) if kind.starts_with("gemma3n") => GEMMA3N_HINT,
        Some("gemma3") => "of Gemma 3 only text models are supported (`model_type` `gemma3_text`)",
        _ => {
            "vision transformers are `vit`, `deit` or `dinov2`, or have timm's key `architecture` in its \
             place; other families are not supported"
        }
    };
    Hinted { message, hint: hint.to_owned() }.into()
}

/// What is wrong with the tokenizer of `file`, which was written into `dir` to be read.
fn of_file(error: &anyhow::Error, dir: &Path, file: &Path) -> Hinted {
    let message = format!("{error:#}").replace(&format!("{}/", dir.display()), "");
    let hint = "the tokenizer inside the file does not suit the model, or misses tokens";
    Hinted { message: format!("{}: {message}", file.display()), hint: hint.to_owned() }
}

/// The tokenizer in a folder, if there is one: the embedding needs a row for each id that a text can have.
fn tokenizer(dir: &Path, rows: usize) -> Result<Option<Tokenizer>> {
    let path = dir.join(TOKENIZER_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::load(&path).bad_input()?;
    if tokenizer.vocab_size() <= rows {
        return Ok(Some(tokenizer));
    }
    if tokenizer.rows() <= rows {
        say!(
            "note: special tokens of `{TOKENIZER_FILE}` with ids from {rows} on have no row in the \
             embedding: they cannot be used"
        );
        return Ok(Some(tokenizer));
    }
    Err(Hinted {
        message: format!(
            "{}: ids up to {}; expected at most {}, as the embedding has {rows} rows (`vocab_size`)",
            path.display(),
            tokenizer.rows() - 1,
            rows.saturating_sub(1)
        ),
        hint: "this tokenizer belongs to another model, or tokens were added to it without \
               resizing the embedding"
            .to_owned(),
    })
    .bad_input()
}
