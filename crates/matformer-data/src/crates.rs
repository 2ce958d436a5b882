//! The corpus that needs no download: sources of crates that this workspace depends on, at the
//! versions of its lock file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use cargo_metadata::semver::Version;
use matformer_core::fs;
use serde::Deserialize;

use crate::format::{self, Format};
use crate::reader::Input;
use crate::{Error, PassedOver, Result, inputs};

/// A corpus list: crates by name, split by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorpusList {
    /// Suffixes of the files to read.
    suffixes: Vec<String>,
    /// Crates to train on.
    train: Vec<String>,
    /// Crates to measure on.
    held_out: Vec<String>,
}

/// The files of both splits, named `crate/path`; the files of one crate are a cluster.
///
/// # Errors
/// A list that cannot be read, a crate that is not there.
pub(crate) fn find(list: &Path) -> Result<(Vec<Input>, Vec<Input>)> {
    let corpus = CorpusList::parse(&fs::read_to_string(list)?)
        .map_err(|reason| Error::CorpusList { path: list.into(), reason })?;
    corpus.find(&workspace(list)?)
}

impl CorpusList {
    fn parse(text: &str) -> Result<Self, String> {
        let corpus: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match corpus.held_out.iter().find(|name| corpus.train.contains(name)) {
            Some(name) => Err(format!("`{name}` is in both splits")),
            None => Ok(corpus),
        }
    }

    fn find(&self, workspace: &Path) -> Result<(Vec<Input>, Vec<Input>)> {
        let folders = folders(workspace)?;
        // A suffix of the list is text, whatever it is.
        let format = |path: &Path| {
            let listed = self.suffixes.contains(&format::suffix(path));
            listed.then(|| Format::of(path).unwrap_or(Format::TEXT))
        };
        let split = |names: &[String]| -> Result<Vec<Input>> {
            let mut files = Vec::new();
            for name in names {
                let folder =
                    folders.get(name).filter(|folder| folder.is_dir()).ok_or_else(|| {
                        Error::MissingCrate { name: name.clone(), workspace: workspace.into() }
                    })?;
                // The list says what is read: the rest of a crate is not worth a word.
                let found = inputs::folder(folder, name, &format, &mut PassedOver::default())?;
                files.extend(found.into_iter().map(|file| file.of_cluster(name)));
            }
            Ok(files)
        };
        Ok((split(&self.train)?, split(&self.held_out)?))
    }
}

/// The nearest folder above `list` that holds a `Cargo.lock`.
fn workspace(list: &Path) -> Result<PathBuf> {
    let full = std::path::absolute(list).map_err(fs::error(list, "find"))?;
    full.ancestors()
        .skip(1)
        .find(|folder| folder.join("Cargo.lock").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::NoWorkspace { path: list.into() })
}

/// Where the sources of each dependency are; of several versions of a crate, the newest.
fn folders(workspace: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let host = host_triple(workspace)?;
    let metadata = MetadataCommand::new()
        .current_dir(workspace)
        .other_options(["--locked", "--filter-platform", &host].map(String::from))
        .exec()
        .map_err(|error| Error::Cargo {
            command: "cargo metadata --locked",
            reason: error.to_string(),
        })?;
    let mut newest: BTreeMap<String, (Version, PathBuf)> = BTreeMap::new();
    for package in metadata.packages.into_iter().filter(|package| package.source.is_some()) {
        let Some(folder) = package.manifest_path.parent() else {
            continue;
        };
        let found = (package.version, folder.as_std_path().to_path_buf());
        let known = newest.entry(package.name.to_string()).or_insert_with(|| found.clone());
        if found.0 > known.0 {
            *known = found;
        }
    }
    Ok(newest.into_iter().map(|(name, (_, folder))| (name, folder)).collect())
}

/// The platform that the compiler runs on, so that Cargo does not ask for the crates of others.
fn host_triple(workspace: &Path) -> Result<String> {
    let failed = |reason: String| Error::Cargo { command: "rustc -vV", reason };
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .current_dir(workspace)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| failed(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<(Vec<Input>, Vec<Input>)> {
        let here = workspace(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))?;
        CorpusList::parse(text).unwrap().find(&here)
    }

    #[test]
    fn finds_locked_crates_under_names_without_versions_or_paths() {
        let (train, held_out) =
            find("suffixes = [\"rs\"]\ntrain = [\"walkdir\"]\nheld_out = [\"memmap2\"]").unwrap();
        assert!(train.iter().any(|file| file.name == "walkdir/src/lib.rs"));
        assert!(train.iter().all(|file| file.name.ends_with(".rs")));
        assert!(
            held_out.len() > 3 && held_out.iter().all(|file| file.name.starts_with("memmap2/"))
        );
        // Files of one crate are not independent.
        assert!(train.iter().all(|file| file.cluster.as_deref() == Some("walkdir")));
        assert!(held_out.iter().all(|file| file.cluster.as_deref() == Some("memmap2")));
    }

    #[test]
    fn names_a_crate_that_is_not_there() {
        let error =
            find("suffixes = [\"rs\"]\ntrain = [\"walkdir\"]\nheld_out = [\"no-such-crate\"]")
                .unwrap_err();
        assert!(error.to_string().contains("no-such-crate"), "{error}");
        assert!(error.hint().unwrap().contains("cargo fetch"));
    }

    #[test]
    fn refuses_a_crate_in_both_splits_and_unknown_keys() {
        let both =
            CorpusList::parse("suffixes = [\"rs\"]\ntrain = [\"a\", \"b\"]\nheld_out = [\"b\"]");
        assert_eq!(both.unwrap_err(), "`b` is in both splits");
        let unknown = CorpusList::parse("suffixes = []\ntrain = []\nheld_out = []\nheldout = []");
        assert!(unknown.unwrap_err().contains("heldout"));
    }

    #[test]
    fn a_list_outside_a_workspace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            workspace(&folder.path().join("list.toml")),
            Err(Error::NoWorkspace { .. })
        ));
    }
}
