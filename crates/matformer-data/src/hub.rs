//! Files of the Hugging Face Hub: from its cache on this machine, or downloaded into it.
//!
//! The cache is the one that other programs use; all files of a name are of one commit.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use hf_hub::api::Progress as FileProgress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use matformer_core::fs;
use serde::Deserialize;
use walkdir::WalkDir;

use crate::paths::joined;
use crate::progress::{Progress, Stage};
use crate::source::{HubName, is_inside};
use crate::{Error, Result};

/// The list of a repository's files is refused above this size, in bytes.
const MAX_LIST: u64 = 64 << 20;

/// A server that says nothing for so long is given up, where nothing else is said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a repository is to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Dataset,
    /// A model, for its tokenizer.
    Model,
}

/// Where hub names are looked up.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    /// The cache's folder.
    pub cache: PathBuf,
    /// Another server than the hub's own.
    pub endpoint: Option<String>,
    /// Opens private and gated repositories; else the one in the file beside the cache.
    pub token: Option<String>,
    /// Offline mode: use only cached files.
    pub offline: bool,
    /// A server that says nothing for so long is given up.
    pub patience: Duration,
}

/// Leaves of the paths of a repository those that are wanted.
pub type Keep<'k> = dyn FnMut(&mut Vec<String>) + 'k;

/// A file of a repository on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Its path in the repository.
    pub inside: String,
    /// Where it is.
    pub path: PathBuf,
}

/// A file as the hub lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    rfilename: String,
    size: Option<u64>,
}

/// A repository as the hub lists it.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Listed>,
}

/// The files of a dataset repository that `name` and `keep` pick, from the cache of the environment or downloaded into
/// it. A path that is named exactly is taken whatever `keep` says.
///
/// # Errors
/// [`Error::Hub`] if the repository cannot be listed or a file not be downloaded, [`Error::NoHubFile`] if there is no
/// such file, [`Error::Offline`] if the cache lacks it and nothing may be downloaded, [`Error::NoHome`].
pub fn hub_files(
    name: &HubName,
    keep: &mut Keep<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<HubFile>> {
    Hub::from_env()?.files(Kind::Dataset, name, keep, progress)
}

impl Hub {
    /// The hub that the environment names: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else
    /// `~/.cache/huggingface/hub`; `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::NoHome`] if nothing says where the cache is.
    pub(crate) fn from_env() -> Result<Self> {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
            .ok_or(Error::NoHome)?;
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
        });
        let (endpoint, token) = (text("HF_ENDPOINT"), text("HF_TOKEN"));
        Ok(Self { cache, endpoint, token, offline, patience: PATIENCE })
    }

    /// The files of a repository that `name` and `keep` pick, sorted by path. A path that is
    /// named exactly is taken whatever `keep` says. What the cache does not hold is downloaded;
    /// what an interrupted download left is gone on with.
    ///
    /// # Errors
    /// [`Error::Hub`] if the repository cannot be listed or a file not be downloaded,
    /// [`Error::NoHubFile`] if there is no such file, [`Error::Offline`] if the cache lacks it and
    /// nothing may be downloaded.
    pub(crate) fn files(
        &self,
        kind: Kind,
        name: &HubName,
        keep: &mut Keep<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<HubFile>> {
        match self.offline {
            true => self.cached(kind, name, keep),
            false => self.online(kind, name, keep, progress),
        }
    }

    /// The commit that a name stands for: itself, or what the hub says, or, where nothing may be asked,
    /// the cache.
    ///
    /// # Errors
    /// As [`Hub::files`].
    pub(crate) fn commit(&self, kind: Kind, name: &HubName) -> Result<String> {
        let revision = name.revision();
        if revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(revision.to_owned());
        }
        if self.offline {
            let folder = self.snapshot(kind, name);
            let commit = folder.as_deref().and_then(Path::file_name);
            let missing = || Error::Offline { name: name.to_string(), cache: self.cache.clone() };
            return Ok(commit.ok_or_else(missing)?.to_string_lossy().into_owned());
        }
        let api = self.api().map_err(|error| failed(name, &error))?;
        Ok(list(&api.repo(repo(kind, name, revision)), name)?.sha)
    }

    /// What the cache holds.
    fn cached(&self, kind: Kind, name: &HubName, keep: &mut Keep<'_>) -> Result<Vec<HubFile>> {
        let missing = || Error::Offline { name: name.to_string(), cache: self.cache.clone() };
        let folder = self.snapshot(kind, name).ok_or_else(missing)?;
        let mut files = Vec::new();
        // Snapshots are links into the cache's store.
        for entry in WalkDir::new(&folder).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|error| fs::error(&folder, "list")(error.into()))?;
            let Ok(inside) = entry.path().strip_prefix(&folder) else { continue };
            let inside = joined(inside);
            if entry.file_type().is_file() {
                files.push(HubFile { inside, path: entry.into_path() });
            }
        }
        let wanted = picked(name, files.iter().map(|file| file.inside.clone()), keep);
        files.retain(|file| wanted.contains(&file.inside));
        if files.is_empty() {
            return Err(missing());
        }
        files.sort_by(|a, b| a.inside.cmp(&b.inside));
        Ok(files)
    }

    /// The folder in the cache of the revision that `name` asks for.
    fn snapshot(&self, kind: Kind, name: &HubName) -> Option<PathBuf> {
        let repo = repo(kind, name, name.revision());
        let entry = self.cache.join(repo.folder_name());
        let known = std::fs::read_to_string(entry.join("refs").join(name.revision()));
        let commit =
            known.map_or_else(|_| name.revision().to_owned(), |text| text.trim().to_owned());
        let folder = entry.join("snapshots").join(commit);
        folder.is_dir().then_some(folder)
    }

    fn online(
        &self,
        kind: Kind,
        name: &HubName,
        keep: &mut Keep<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<HubFile>> {
        progress(Progress { stage: Stage::Download, done: 0, total: 0 });
        let api = self.api().map_err(|error| failed(name, &error))?;
        let listing = list(&api.repo(repo(kind, name, name.revision())), name)?;
        let mut listed = listing.siblings;
        listed.retain(|file| is_inside(&file.rfilename));
        let wanted = picked(name, listed.iter().map(|file| file.rfilename.clone()), keep);
        listed.retain(|file| wanted.contains(&file.rfilename));
        if listed.is_empty() {
            return Err(Error::NoHubFile { name: name.to_string() });
        }
        listed.sort_by(|a, b| a.rfilename.cmp(&b.rfilename));
        // By commit, so that all files are of one even if somebody is publishing another.
        let at = repo(kind, name, &listing.sha);
        let cached = Cache::new(self.cache.clone()).repo(at.clone());
        let folder = cached.pointer_path(&listing.sha);
        let whole = |file: &Listed| is_whole(&folder.join(&file.rfilename), file.size);
        let missing = listed.iter().filter(|file| !whole(file));
        let total = missing.map(|file| file.size.unwrap_or(0)).sum::<u64>() as usize;
        let remote = api.repo(at.clone());
        let mut download = Download {
            api: &api,
            remote: &remote,
            at,
            patience: self.patience,
            cached,
            total,
            before: 0,
            done: 0,
            progress,
        };
        let mut files = Vec::new();
        for file in &listed {
            let path = folder.join(&file.rfilename);
            if !whole(file) {
                download.file(name, file, &path)?;
            }
            files.push(HubFile { inside: file.rfilename.clone(), path });
        }
        // Only now: a revision that the cache knows is whole.
        if name.revision() != listing.sha {
            Cache::new(self.cache.clone())
                .repo(repo(kind, name, name.revision()))
                .create_ref(&listing.sha)
                .map_err(fs::error(&self.cache, "write to"))?;
        }
        Ok(files)
    }

    fn api(&self) -> Result<Api, ApiError> {
        let mut builder = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_user_agent("matformer", env!("CARGO_PKG_VERSION"));
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        if self.token.is_some() {
            builder = builder.with_token(self.token.clone());
        }
        builder.build()
    }
}

fn repo(kind: Kind, name: &HubName, revision: &str) -> Repo {
    let kind = match kind {
        Kind::Dataset => RepoType::Dataset,
        Kind::Model => RepoType::Model,
    };
    Repo::with_revision(name.repository.clone(), kind, revision.into())
}

/// The files of those in a repository that `name` asks for.
fn picked(
    name: &HubName,
    files: impl Iterator<Item = String>,
    keep: &mut Keep<'_>,
) -> HashSet<String> {
    let mut files: Vec<String> = files.collect();
    if let Some(path) = &name.path {
        files.retain(|file| {
            let below = file.strip_prefix(path.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        });
        if files.contains(path) {
            return HashSet::from([path.clone()]);
        }
    }
    keep(&mut files);
    files.into_iter().collect()
}

fn list(remote: &ApiRepo, name: &HubName) -> Result<Listing> {
    let wrong = |error: ureq::Error| failed(name, &ApiError::RequestError(Box::new(error)));
    let listing: Listing = remote
        .info_request()
        .query("blobs", "true")
        .config()
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_recv_body(Some(PATIENCE))
        .build()
        .call()
        .map_err(wrong)?
        .into_body()
        .into_with_config()
        .limit(MAX_LIST)
        .read_json()
        .map_err(wrong)?;
    if listing.sha.is_empty() || !listing.sha.bytes().all(|c| c.is_ascii_alphanumeric()) {
        let reason = format!("the server names commit `{}`", listing.sha);
        return Err(Error::Hub { name: name.to_string(), status: None, reason });
    }
    Ok(listing)
}

/// Whether a file is there with all its bytes.
fn is_whole(path: &Path, size: Option<u64>) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && size.is_none_or(|size| found.len() == size))
}

/// Progress of a download of several files.
struct Download<'a> {
    api: &'a Api,
    remote: &'a ApiRepo,
    at: Repo,
    patience: Duration,
    cached: CacheRepo,
    total: usize,
    /// Total size in bytes of the files that are already complete.
    before: usize,
    /// Bytes of the current file downloaded so far.
    done: usize,
    progress: &'a mut dyn FnMut(Progress),
}

impl Download<'_> {
    /// Downloads one file to `path`.
    fn file(&mut self, name: &HubName, file: &Listed, path: &Path) -> Result<()> {
        let name = HubName { path: Some(file.rfilename.clone()), ..name.clone() };
        let (api, remote) = (self.api, self.remote);
        let mut result = self.watched(&name, &file.rfilename)?;
        if matches!(&result, Err(error) if is_past_the_end(error)) {
            // What an earlier download left is all of the file, or none of it: once more from zero.
            let url = remote.url(&file.rfilename);
            let metadata = api.metadata(&url).map_err(|error| failed(&name, &error))?;
            let part = self.cached.blob_path(metadata.etag()).with_extension("part");
            std::fs::remove_file(&part).map_err(fs::error(&part, "remove"))?;
            result = self.watched(&name, &file.rfilename)?;
        }
        result.map_err(|error| failed(&name, &error))?;
        self.before += self.done;
        if !is_whole(path, file.size) {
            let found = std::fs::metadata(path).map_or(0, |found| found.len());
            let expected = file.size.unwrap_or(0);
            let reason = format!("{found} bytes have come, expected: {expected}");
            return Err(Error::Hub { name: name.to_string(), status: None, reason });
        }
        Ok(())
    }
}

impl Download<'_> {
    /// Downloads a file on a thread of its own, which is left behind where it says nothing for too long: the
    /// client waits for a server without end.
    ///
    /// # Errors
    /// [`Error::Hub`] for such a server.
    fn watched(&mut self, name: &HubName, inside: &str) -> Result<Result<PathBuf, ApiError>> {
        let (says, heard) = channel();
        let (api, at, inside) = (self.api.clone(), self.at.clone(), inside.to_owned());
        std::thread::spawn(move || {
            let progress = Heard(says.clone());
            let result = api.repo(at).download_with_progress(&inside, progress);
            // Nobody listens any more where it took too long.
            let _ = says.send(Event::Ended(result));
        });
        self.done = 0;
        loop {
            match heard.recv_timeout(self.patience) {
                Ok(Event::Bytes(bytes)) => self.update(bytes),
                Ok(Event::Ended(result)) => return Ok(result),
                Err(_) => {
                    let reason = format!("nothing has come for {} s", self.patience.as_secs_f32());
                    return Err(Error::Hub { name: name.to_string(), status: None, reason });
                }
            }
        }
    }

    fn update(&mut self, bytes: usize) {
        self.done += bytes;
        let done = self.before + self.done;
        (self.progress)(Progress { stage: Stage::Download, done, total: self.total.max(done) });
    }
}

/// What a download says.
enum Event {
    /// So many bytes have come.
    Bytes(usize),
    /// It has ended.
    Ended(Result<PathBuf, ApiError>),
}

/// Passes on how far a download is.
struct Heard(Sender<Event>);

impl FileProgress for Heard {
    fn init(&mut self, _: usize, _: &str) {
        self.update(0);
    }

    fn update(&mut self, bytes: usize) {
        let _ = self.0.send(Event::Bytes(bytes));
    }

    fn finish(&mut self) {}
}

/// Whether the server has nothing to add to what an earlier download left.
fn is_past_the_end(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

fn failed(name: &HubName, error: &ApiError) -> Error {
    let (status, reason) = match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status @ (401 | 403 | 404)) => {
                (Some(status), format!("not there, or not open to you (HTTP {status})"))
            }
            ureq::Error::StatusCode(status) => {
                (Some(status), format!("the server answers HTTP {status}"))
            }
            ref error => (None, error.to_string()),
        },
        error => (None, error.to_string()),
    };
    Error::Hub { name: name.to_string(), status, reason }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
pub(crate) mod tests;
