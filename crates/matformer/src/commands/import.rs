//! `matformer import`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{SliceFacts, units::count},
    run::{
        Files,
        cache::model_path,
        folder::tokenizer_by_transformers,
        import::{Imported, LeftOut, Order, import},
    },
};
use serde_json::{Value, json};

use super::{Context, print_json};
use crate::{args::ImportArgs, logging::say, output::out};

pub fn run(args: &ImportArgs, context: &Context) -> Result<ExitCode> {
    let order = Order {
        source: model_path(&args.source, &context.session)?,
        out: args.out.clone(),
        granularities: args.granularities.clone(),
        shard_bytes: args.shard_size,
    };
    let imported = import(&order, &context.session)?;
    if context.json {
        return print_json(&json(&imported, &args.out)?);
    }
    if imported.tokenizer == Some(false) {
        let source = &order.source;
        let original =
            if source.is_dir() { source.display().to_string() } else { "ORIGINAL".into() };
        let how = tokenizer_by_transformers(&original, &args.out);
        say!("note: {} has no tokenizer, so no text can be read: {how}", source.display());
    }
    imported.notes.iter().for_each(|note| say!("note: {note}"));
    say_left_out(&imported);
    print(&imported, &args.out)?;
    Ok(ExitCode::SUCCESS)
}

fn json(imported: &Imported, out: &Path) -> Result<Value> {
    let mut value = json!({
        "model": out.display().to_string(),
        "format": imported.format,
        "kind": imported.kind,
        "params": imported.params,
        "granularities": imported.manifest.granularities.widths(),
        "dtype": imported.dtype,
    });
    if let Some(tokenizer) = imported.tokenizer {
        let files = Files::at(out)?;
        value["tokenizer"] = tokenizer.into();
        value["left_out"] = serde_json::to_value(&imported.left_out)?;
        value["notes"] = serde_json::to_value(&imported.notes)?;
        value["bytes"] = files.bytes().into();
        value["files"] = serde_json::to_value(files)?;
    } else {
        value["headless"] = imported.headless.into();
        value["left_out"] = serde_json::to_value(&imported.left_out)?;
    }
    Ok(value)
}

fn say_left_out(imported: &Imported) {
    if imported.tokenizer.is_some() {
        for LeftOut { tensor, why } in &imported.left_out {
            say!("left out: `{tensor}`, {why}");
        }
    } else if let [LeftOut { why, .. }, ..] = &imported.left_out[..] {
        let tensors: Vec<&str> = imported.left_out.iter().map(|l| &*l.tensor).collect();
        say!("left out, {why}: {}", tensors.join(", "));
    }
}

fn print(imported: &Imported, out: &Path) -> Result<()> {
    let Imported { manifest, .. } = imported;
    out!(
        "{}: {}, {} parameters, {}: {}",
        out.display(),
        imported.format,
        count(imported.params as f64),
        imported.dtype,
        imported.described
    )?;
    if imported.tokenizer.is_none() {
        let names = manifest.granularities.names().join(", ");
        let out = out.display();
        return out!(
            "only its full width was trained: `matformer elastify {out} --data IMAGES --out RUN` trains {names}"
        );
    }
    let widths: Vec<String> =
        manifest.granularities.iter().map(|g| format!("{} {}", g.name, g.width)).collect();
    let rounded = imported.rounded_to;
    let rounded = rounded.map_or(String::new(), |multiple| format!(", multiples of {multiple}"));
    let trained = manifest.slice.as_ref().map_or_else(|| never_elastic(out), of_slice);
    out!("widths {}{rounded}; {trained}", widths.join(", "))
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
