//! `matformer fetch`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use indicatif::ProgressBar;
use matformer::{
    core::units::{counted, file_size},
    data::{self, Source},
    run::{
        Session,
        folder::{data_cache, with_progress},
    },
    sources::{self, Content, Fetched, Progress, Record, Sources},
};
use serde::Serialize;

use super::{print_json, table};
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
    if json {
        return print_json(&listed);
    }
    for Listed { cached, bytes, record } in &listed {
        let state = if *cached { "in the cache" } else { "not fetched" };
        out!("{}: {}, {state}\n  {}", record.name, file_size(*bytes as u64), record.title)?;
        print_parts(record)?;
    }
    out!("`matformer fetch NAME` brings one into {}", cache.display())?;
    Ok(ExitCode::SUCCESS)
}

fn one(sources: &Sources, name: &str, json: bool) -> Result<ExitCode> {
    sources.get(name).bad_input()?;
    let mut shown = Shown { bar: progress_bar(""), last: String::new() };
    let fetched =
        sources::fetch(sources, name, &data_cache(), &mut |progress| shown.show(progress));
    shown.bar.finish_and_clear();
    let fetched = fetched?;
    let models = models(&fetched)?;
    let (record, dir) = (&fetched.record, &fetched.dir);
    if json {
        let models = models.as_deref();
        return print_json(&FetchedJson { dir, models, reused: fetched.reused, record });
    }
    out!(
        "{}: {} in {}, {}{}",
        record.name,
        file_size(record.bytes() as u64),
        counted(record.files(), "file"),
        dir.display(),
        if fetched.reused { " (fetched before)" } else { "" }
    )?;
    print_parts(record)?;
    match record.content {
        Content::Text => out!("train on it: --set data.paths='[\"fetch:{}\"]'", record.name)?,
        Content::Images => {
            let folders: Vec<_> = record.parts.iter().map(|part| part.name.as_str()).collect();
            out!("images in it: {}", folders.join(", "))?;
        }
        Content::Model => {
            for model in models.iter().flatten() {
                out!("model: {}", model.display())?;
            }
            out!("import it: matformer import fetch:{} --out DIR", record.name)?;
        }
        Content::Sets => {
            out!(
                "evaluate on it: matformer eval MODEL --tasks arc_easy --task-data fetch:{}",
                record.name
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
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

/// A model as a person names it: a path, or `fetch:NAME`, which is fetched if it is not in the cache.
pub fn model_path(typed: &Path, session: &Session) -> Result<PathBuf> {
    path(typed, session, sources::model)
}

/// The same of a folder of evaluation sets.
pub fn sets_path(typed: &Path, session: &Session) -> Result<PathBuf> {
    path(typed, session, sources::sets)
}

/// Brings what a name stands for into the cache.
type Resolve = fn(&Path, &str, &mut dyn FnMut(data::Progress)) -> sources::Result<PathBuf>;

fn path(typed: &Path, session: &Session, resolve: Resolve) -> Result<PathBuf> {
    match typed.to_str().map(str::parse) {
        Some(Ok(Source::Fetched(name))) => {
            Ok(with_progress(session, |report| resolve(&data_cache(), &name, report))?)
        }
        Some(Err(error)) => Err(error).bad_input(),
        _ => Ok(typed.to_owned()),
    }
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
