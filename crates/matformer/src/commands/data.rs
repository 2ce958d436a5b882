//! `--data`: places of text and images.

use std::path::{Path, PathBuf};

use matformer::{core::Manifest, run_file};

use crate::failure::Hinted;

/// A run file or run folder where data is expected.
pub struct NoRunFile {
    /// Why it is none, behind what it is.
    pub why: &'static str,
    pub hint: &'static str,
}

/// Data for a new run file.
pub const FOR_A_NEW_RUN: NoRunFile = NoRunFile {
    why: "; expected text or images",
    hint: "`matformer train` takes a run file as it is; --data names what to train on",
};

/// Error for a run file among several data paths.
pub const BESIDE_OTHERS: NoRunFile = NoRunFile {
    why: ", beside other data",
    hint: "give it alone: its `[data]` names all data of the run",
};

/// Refuses what is no text and no images: a run file or run folder, a model.
pub fn check_is_data(place: &str, no_run_file: &NoRunFile) -> Result<(), Hinted> {
    if run_file_of(place).is_some() {
        return Err(Hinted {
            message: format!("--data {place}: a run file or run folder{}", no_run_file.why),
            hint: no_run_file.hint.to_owned(),
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
