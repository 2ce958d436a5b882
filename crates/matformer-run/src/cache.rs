//! The cache: prepared data, and what is fetched by name.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_data::{
    DataConfig, ImageConfig, ImageShape, Prepared, PreparedImages, Progress, Source, Stage,
    find_prepared, find_prepared_for, prepare, prepare_for,
};
use matformer_sources::{self as sources, fetch_text, locate_text, resolve_images};
use matformer_train::say;

use crate::{
    Session,
    error::{OrBadInput, Result},
};

/// Cache folder for prepared data: `MATFORMER_CACHE`, or `runs/.data` in the working directory.
pub fn data_cache() -> PathBuf {
    std::env::var_os("MATFORMER_CACHE").map_or_else(|| PathBuf::from("runs/.data"), PathBuf::from)
}

/// Where the data of the run in `dir` is kept prepared: beside the runs where it is, from wherever a
/// command is called.
pub fn data_cache_of(dir: &Path) -> PathBuf {
    /// From a run's baseline to the folder of runs.
    const ABOVE: usize = 5;
    if std::env::var_os("MATFORMER_CACHE").is_none()
        && let Ok(dir) = dir.canonicalize()
    {
        let beside = dir.ancestors().take(ABOVE).map(|above| above.join(".data"));
        let tagged = |cache: &PathBuf| cache.join(fs::CACHE_TAG).is_file();
        if let Some(found) = beside.into_iter().find(tagged) {
            return found;
        }
    }
    data_cache()
}

/// A model as a person names it: a path, or `fetch:NAME`, which is fetched if it is not in the cache.
///
/// # Errors
/// A name that no model has, or one that cannot be fetched.
pub fn model_path(typed: &Path, session: &Session) -> Result<PathBuf> {
    path(typed, session, sources::model)
}

/// The same of a folder of evaluation sets.
///
/// # Errors
/// A name that no evaluation sets have, or ones that cannot be fetched.
pub fn sets_path(typed: &Path, session: &Session) -> Result<PathBuf> {
    path(typed, session, sources::sets)
}

/// Brings what a name stands for into the cache.
type Resolve = fn(&Path, &str, &mut dyn FnMut(Progress)) -> sources::Result<PathBuf>;

fn path(typed: &Path, session: &Session, resolve: Resolve) -> Result<PathBuf> {
    match typed.to_str().map(str::parse) {
        Some(Ok(Source::Fetched(name))) => {
            with_progress(session, |report| resolve(&data_cache(), &name, report))
        }
        Some(Err(error)) => Err(error).bad_input(),
        _ => Ok(typed.to_owned()),
    }
}

/// Prepares a corpus in `cache`, fetching what it names, or finds it there without reading or fetching it; with a
/// progress bar on a terminal. `own` is the tokenizer of a model, in place of the one that the configuration names.
pub(crate) fn prepare_text(
    config: &DataConfig,
    own: Option<&Path>,
    cache: &Path,
    session: &Session,
) -> Result<Prepared> {
    let prepared = with_progress(session, |report| {
        let located = locate_text(config, cache)?;
        let found = match own {
            Some(own) => find_prepared_for(&located, own, cache)?,
            None => find_prepared(&located, cache, report)?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        fetch_text(config, cache, report)?;
        Ok(match own {
            Some(own) => prepare_for(&located, own, cache, report)?,
            None => prepare(&located, cache, report)?,
        })
    })?;
    if let Some(why) = &prepared.gone {
        say!("note: the text is not there any more ({why}); what was prepared from it is used");
    }
    tracing::info!("data {} in {}", prepared.data_hash().short(), prepared.dir().display());
    Ok(prepared)
}

/// The same of images; `kept` is what their short side becomes, where a model says it.
pub(crate) fn prepare_images(
    config: &ImageConfig,
    shape: ImageShape,
    kept: Option<usize>,
    cache: &Path,
    session: &Session,
) -> Result<PreparedImages> {
    let prepared = with_progress(session, |report| {
        let config = resolve_images(config, cache, report)?;
        Ok(matformer_data::prepare_images(&config, shape, kept, cache, report)?)
    })?;
    tracing::info!("data {} in {}", prepared.data_hash().short(), prepared.dir().display());
    Ok(prepared)
}

/// Whether a source is on this machine, with `cache` for what is fetched. What is wrong with a name is
/// said where it is read.
pub(crate) fn is_here(source: &Source, cache: &Path) -> bool {
    match source {
        Source::Path(_) | Source::Folder(_) => true,
        Source::Hub(_) => false,
        Source::Fetched(name) => sources::is_cached(cache, name).unwrap_or(true),
    }
}

/// Calls what fetches, reads or prepares data, with a progress bar on a terminal.
pub(crate) fn with_progress<T>(
    session: &Session,
    prepare: impl FnOnce(&mut dyn FnMut(Progress)) -> sources::Result<T>,
) -> Result<T> {
    let mut bar = session.bar("");
    let mut stage: Option<Stage> = None;
    let prepared = prepare(&mut |p| {
        if stage != Some(p.stage) {
            stage = Some(p.stage);
            bar.stage(p.stage.to_string());
            if !bar.is_shown() {
                say!("{}", p.stage);
            }
        }
        bar.at(p.done as u64, p.total as u64);
    });
    drop(bar);
    match prepared {
        Err(error) if error.may_pass() => Err(error.into()),
        prepared => prepared.bad_input(),
    }
}
