//! `matformer fetch`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use indicatif::ProgressBar;
use matformer::data::fetch::{self, Content, Progress, Record, Sources};
use serde::Serialize;

use super::print_json;
use crate::{
    args::FetchArgs,
    failure::OrBadInput,
    folder::{data_cache, progress_bar},
    logging::say,
    output::out,
};

/// `fetch NAME --json`.
#[derive(Serialize)]
struct FetchedJson<'a> {
    /// The folder of its texts or images.
    dir: &'a Path,
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
        out!("{}: {}, {state}\n  {}", record.name, size(*bytes), record.title)?;
        print_parts(record)?;
    }
    out!("`matformer fetch NAME` brings one into {}", cache.display())?;
    Ok(ExitCode::SUCCESS)
}

fn one(sources: &Sources, name: &str, json: bool) -> Result<ExitCode> {
    sources.get(name).bad_input()?;
    let mut shown = Shown { bar: progress_bar(""), last: String::new() };
    let fetched = fetch::fetch(sources, name, &data_cache(), &mut |progress| shown.show(progress));
    shown.bar.finish_and_clear();
    let fetched = fetched?;
    let (record, dir) = (&fetched.record, &fetched.dir);
    if json {
        return print_json(&FetchedJson { dir, reused: fetched.reused, record });
    }
    out!(
        "{}: {} in {} files, {}{}",
        record.name,
        size(record.bytes()),
        record.files(),
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
    }
    Ok(ExitCode::SUCCESS)
}

fn print_parts(record: &Record) -> Result<()> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for part in &record.parts {
        table.add_row([
            format!(" {}", size(part.bytes)),
            part.title.clone(),
            part.licence.clone(),
            part.origin.clone(),
        ]);
    }
    table.lines().try_for_each(|line| out!("{}", line.trim_end()))
}

/// Bytes as people write them.
fn size(bytes: usize) -> String {
    match bytes {
        n if n >= 1_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        n if n >= 1_000 => format!("{:.1} kB", n as f64 / 1e3),
        n => format!("{n} bytes"),
    }
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
