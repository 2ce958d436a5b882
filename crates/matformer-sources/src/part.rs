//! Getting one part of a source: from the cache, or from the first place that has it.

use std::fmt;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_data::Hash;

use crate::archive::{Selection, unpack};
use crate::table::Place;
use crate::{Error, Files, Part, Progress, Result, Source, Sources, https};

/// A place that was tried, and why it did not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As a person would type it.
    pub place: String,
    /// Why it did not serve.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Complete parts of sources that are not there yet.
pub(crate) fn kept(home: &Path) -> PathBuf {
    home.join(".parts")
}

/// Where a download of a part is kept while it is under way.
fn download(home: &Path, part: &Part, url: &str) -> PathBuf {
    let name = format!("{}-{}.part", part.name, Hash::of(url.as_bytes()).short());
    home.join(".downloads").join(name)
}

/// Removes what was kept of a part whose source is there.
pub(crate) fn forget(home: &Path, part: &Part) -> Result<()> {
    let folder = kept(home).join(&part.name);
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    for url in &part.https {
        let file = download(home, part, url);
        if file.exists() {
            std::fs::remove_file(&file).map_err(fs::error(&file, "remove"))?;
        }
    }
    Ok(())
}

/// What it takes to get a part.
pub(crate) struct Getter<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) source: &'a Source,
    pub(crate) part: &'a Part,
    /// The folder of all sources in the cache.
    pub(crate) home: &'a Path,
}

impl Getter<'_> {
    /// The files of the part, which are kept until the source is published.
    pub(crate) fn get(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Files> {
        if let Some(files) = self.cached()? {
            return Ok(files);
        }
        let mut tried = vec![Attempt { place: "the cache".into(), reason: "not there".into() }];
        for place in self.part.places() {
            let shown = place.to_string();
            let mut report = |done, total| {
                progress(Progress { part: &self.part.name, place: &shown, done, total });
            };
            report(0, 0);
            match self.try_place(&place, &mut report)? {
                Ok(files) => {
                    self.keep(&files)?;
                    return Ok(files);
                }
                Err(reason) => {
                    tracing::info!("{shown}: {reason}");
                    tried.push(Attempt { place: shown, reason });
                }
            }
        }
        Err(Error::Unavailable {
            name: self.source.name.clone(),
            part: self.part.name.clone(),
            tried,
        })
    }

    /// Files kept by an earlier fetch, or available in another source with the same part.
    fn cached(&self) -> Result<Option<Files>> {
        let content = self.part.content().folder();
        let others = self.sources.iter().map(|other| self.home.join(&other.name).join(content));
        for folder in std::iter::once(kept(self.home)).chain(others) {
            let folder = folder.join(&self.part.name);
            if folder.is_dir() {
                let files = Files::read(&folder)?;
                if files.hash() == self.part.text_sha256 {
                    return Ok(Some(files));
                }
            }
        }
        Ok(None)
    }

    /// The outer error ends the fetch, the inner one sends it to the next place.
    fn try_place(&self, place: &Place, report: https::Report<'_>) -> Result<Result<Files, String>> {
        match place {
            Place::Client(client) => {
                let folder = fs::scratch_dir(kept(self.home).join("package"))?;
                Ok(client.run(folder.path()).and_then(|package| self.open(&package)))
            }
            Place::Https(url) => {
                let file = download(self.home, self.part, url);
                fs::create_dir_all(file.parent().unwrap_or(self.home))?;
                if let Err(reason) = https::download(url, &file, report) {
                    return Ok(Err(reason));
                }
                let files = self.open(&file);
                // It is whole: it serves, or it is not to be gone on with.
                std::fs::remove_file(&file).map_err(fs::error(&file, "remove"))?;
                Ok(files)
            }
        }
    }

    /// What is made of a package; it must be what the table says.
    fn open(&self, package: &Path) -> Result<Files, String> {
        let Part { root, only, suffixes, sha256, text_sha256, decode, .. } = self.part;
        let check = |files: Files, what: &str, expected: Hash| match files.hash() {
            found if found == expected => Ok(files),
            found => Err(format!("its {what} have SHA-256 {found}, expected: {expected}")),
        };
        let package = BufReader::new(fs::open(package).map_err(|error| error.to_string())?);
        let files = check(unpack(package, Selection { root, only, suffixes })?, "files", *sha256)?;
        check(decode.decode(files)?, decode.content().plural(), *text_sha256)
    }

    /// Publishes the files, so that the next fetch finds them if this one does not end.
    fn keep(&self, files: &Files) -> Result<()> {
        let target = kept(self.home).join(&self.part.name);
        if target.exists() {
            // Of another version.
            fs::withdraw_dir(&target)?;
        }
        let scratch = fs::scratch_dir(&target)?;
        files.write(scratch.path())?;
        Ok(fs::publish_dir(scratch.path(), &target)?)
    }
}
