//! Places of text and images, as a person names them: `--data`.

use std::path::{Path, PathBuf};

use matformer_core::Manifest;
use matformer_runfile::{self as run_file, RunKind, Starter};

use crate::error::{Hinted, OrBadInput, Result};

/// A run file to begin with, on the data at these places: of the kind and preset that were asked for, or else those
/// that fit the data.
///
/// # Errors
/// A place that is not there, or holds nothing of that kind; a run file, run folder or model among them; a preset that
/// the kind does not have.
pub fn starter(places: &[String], kind: Option<RunKind>, preset: Option<&str>) -> Result<Starter> {
    let check = |place: &String| {
        check_is_data(
            place,
            "; expected text or images",
            "`matformer train` takes a run file as it is; --data names what to train on",
        )
    };
    places.iter().try_for_each(check).bad_input()?;
    Starter::new(places, kind, preset).bad_input()
}

/// Refuses what is no text and no images: a run file or run folder, with `why` it is none and `hint`; a model.
///
/// # Errors
/// A place that is one of these. What else is wrong with it is said where it is read.
pub fn check_is_data(place: &str, why: &str, hint: &str) -> Result<(), Hinted> {
    if run_file_of(place).is_some() {
        return Err(Hinted {
            message: format!("--data {place}: a run file or run folder{why}"),
            hint: hint.to_owned(),
        });
    }
    if Path::new(place).join(Manifest::FILE).is_file() {
        return Err(Hinted {
            message: format!("--data {place}: a model folder; expected text or images"),
            hint: "--data names what to train on".to_owned(),
        });
    }
    Ok(())
}

/// A run file, or that of a run folder.
pub fn run_file_of(data: &str) -> Option<PathBuf> {
    let path = Path::new(data);
    let of_folder = path.join(run_file::FILE);
    if of_folder.is_file() {
        return Some(of_folder);
    }
    (path.is_file() && path.extension().is_some_and(|suffix| suffix == "toml"))
        .then(|| path.to_owned())
}
