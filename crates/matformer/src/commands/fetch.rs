//! `matformer fetch`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use indicatif::ProgressBar;
use matformer::{
    core::units::{counted, file_size},
    run::cache::data_cache,
    sources::{self, Content, Fetched, Progress, Record, Sources},
};
use serde::Serialize;

use super::{show, table};
use crate::{
    args::FetchArgs, failure::OrBadInput, logging::say, output::out, progress::progress_bar,
};

/// `fetch NAME --json`.
#[derive(Serialize)]
struct FetchedJson<'a> {
    /// The folder of its texts, images or model.
    dir: &'a Path,
    /// The files of its models, one per part.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'a [PathBuf]>,
    reused: bool,
    #[serde(flatten)]
    record: &'a Record,
}

/// An entry of `fetch --json`.
#[derive(Serialize)]
struct Listed {
    cached: bool,
    bytes: usize,
    #[serde(flatten)]
    record: Record,
}

pub fn run(args: &FetchArgs, json: bool) -> Result<ExitCode> {
    let sources = Sources::from_env().bad_input()?;
    match &args.name {
        Some(name) => one(&sources, name, json),
        None => list(&sources, json),
    }
}

fn list(sources: &Sources, json: bool) -> Result<ExitCode> {
    let cache = data_cache();
    let listed: Vec<Listed> = sources
        .iter()
        .map(|source| Record::of(sources, source))
        .map(|record| Listed { cached: record.is_cached(&cache), bytes: record.bytes(), record })
        .collect();
    show(json, &listed, |listed| print_list(listed, &cache))
}

fn print_list(listed: &[Listed], cache: &Path) -> Result<()> {
    for Listed { cached, bytes, record } in listed {
        let state = if *cached { "in the cache" } else { "not fetched" };
        out!("{}: {}, {state}\n  {}", record.name, file_size(*bytes as u64), record.title)?;
        print_parts(record)?;
    }
    out!("`matformer fetch NAME` brings one into {}", cache.display())
}

fn one(sources: &Sources, name: &str, json: bool) -> Result<ExitCode> {
    sources.get(name).bad_input()?;
    let mut shown = Shown { bar: progress_bar(""), last: String::new() };
    let fetched =
        sources::fetch(sources, name, &data_cache(), &mut |progress| shown.show(progress));
    shown.bar.finish_and_clear();
    let fetched = fetched?;
    let models = models(&fetched)?;
    let Fetched { record, dir, reused } = &fetched;
    let found = FetchedJson { dir, models: models.as_deref(), reused: *reused, record };
    show(json, &found, print)
}

fn print(found: &FetchedJson<'_>) -> Result<()> {
    let FetchedJson { dir, models, reused, record } = *found;
    out!(
        "{}: {} in {}, {}{}",
        record.name,
        file_size(record.bytes() as u64),
        counted(record.files(), "file"),
        dir.display(),
        if reused { " (fetched before)" } else { "" }
    )?;
    print_parts(record)?;
    match record.content {
        Content::Text => out!("train on it: --set data.paths='[\"fetch:{}\"]'", record.name),
        Content::Images => {
            let folders: Vec<_> = record.parts.iter().map(|part| part.name.as_str()).collect();
            out!("images in it: {}", folders.join(", "))
        }
        Content::Model => {
            for model in models.into_iter().flatten() {
                out!("model: {}", model.display())?;
            }
            out!("import it: matformer import fetch:{} --out DIR", record.name)
        }
        Content::Sets => {
            out!(
                "evaluate on it: matformer eval MODEL --tasks arc_easy --task-data fetch:{}",
                record.name
            )
        }
    }
}

/// The files of its models, if that is what the source holds.
fn models(fetched: &Fetched) -> Result<Option<Vec<PathBuf>>> {
    if fetched.record.content != Content::Model {
        return Ok(None);
    }
    let file = |name: &str| sources::model_file(&fetched.dir.join(name));
    let files = fetched.record.parts.iter().map(|part| file(&part.name));
    Ok(Some(files.collect::<Result<_, _>>()?))
}

fn print_parts(record: &Record) -> Result<()> {
    let mut table = table::plain();
    for part in &record.parts {
        table.add_row([
            format!(" {}", file_size(part.bytes as u64)),
            part.title.clone(),
            part.licence.clone(),
            part.origin.clone(),
        ]);
    }
    table.lines().try_for_each(|line| out!("{}", line.trim_end()))
}

/// Progress as people see it: a line per place that is tried, and a bar for a download.
struct Shown {
    bar: ProgressBar,
    last: String,
}

impl Shown {
    fn show(&mut self, progress: Progress<'_>) {
        let line = format!("{}: {}", progress.part, progress.place);
        if line != self.last {
            self.bar.suspend(|| say!("{line}"));
            self.bar.set_message(progress.part.to_owned());
            self.last = line;
        }
        if progress.total > 0 {
            self.bar.set_length(progress.total);
            self.bar.set_position(progress.done);
        }
    }
}
