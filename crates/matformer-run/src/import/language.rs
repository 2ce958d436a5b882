//! Language models of other programs, which are copied tensor by tensor.

use std::path::Path;

use matformer_core::fs;
use matformer_data::{TOKENIZER_FILE, Tokenizer};
use matformer_formats::{Checkpoint, LmImport};
use matformer_nn::weights::SHARD_BYTES;
use matformer_runfile::{Lm, Tables};
use matformer_train::say;

use super::{Imported, LeftOut, Order};
use crate::{
    Session,
    error::{Error, Hinted, OrBadInput, Result, chain},
    folder::GEMMA3N_HINT,
    kind::Model,
};

pub(super) fn write(source: &dyn Checkpoint, order: &Order, session: &Session) -> Result<Imported> {
    let import = LmImport::new(source, order.granularities.as_deref(), &session.device);
    let import = import.map_err(|error| with_families(error, source)).bad_input()?;
    let scratch = fs::scratch_dir(&order.out).bad_input()?;
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
    let left_out = import.left_out.iter().map(|l| LeftOut { tensor: l.name.clone(), why: l.why });
    let left_out = left_out.collect();
    let hash = tokenizer.as_ref().map(|tokenizer| tokenizer.hash().to_string());
    let manifest = import.write(dir, order.shard_bytes.unwrap_or(SHARD_BYTES), hash).bad_input()?;
    fs::publish_dir(dir, &order.out)?;
    Ok(Imported {
        kind: Lm::NAME,
        format: source.format().to_string(),
        described: Lm::describe(&config),
        params,
        dtype: dtype.name(),
        tokenizer: Some(tokenizer.is_some()),
        headless: None,
        left_out,
        notes: source.notes()?,
        rounded_to: rounded_to.filter(|multiple| *multiple > 1),
        manifest,
    })
}

/// Says what can be done with a model of a type that no family has.
fn with_families(error: matformer_formats::Error, source: &dyn Checkpoint) -> Error {
    let message = error.to_string();
    if !message.contains("`model_type`") {
        return Error::refused(error);
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
fn of_file(error: &Error, dir: &Path, file: &Path) -> Hinted {
    let message = chain(error).replace(&format!("{}/", dir.display()), "");
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
