//! Lists of crates by name: the sources of crates that a workspace depends on, at the versions of its
//! lock file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use cargo_metadata::semver::Version;
use matformer_core::fs;
use matformer_data::{Folder, SplitFolders};
use serde::Deserialize;

use crate::{Error, Result};

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

/// The folders of the crates of both splits; what is in a crate is a cluster.
///
/// # Errors
/// A list that cannot be read, a crate that is not there.
pub(crate) fn find(list: &Path) -> Result<SplitFolders> {
    let corpus = CorpusList::parse(&fs::read_to_string(list)?).map_err(|reason| Error::Table {
        what: "corpus list",
        path: list.into(),
        reason,
    })?;
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

    fn find(self, workspace: &Path) -> Result<SplitFolders> {
        let folders = folders(workspace)?;
        let split = |names: Vec<String>| -> Result<Vec<Folder>> {
            let of = |name: String| match folders.get(&name).filter(|folder| folder.is_dir()) {
                Some(dir) => {
                    let (dir, cluster) = (dir.clone(), Some(name.clone()));
                    Ok(Folder { dir, name, cluster, pinned: None })
                }
                None => Err(Error::Crates {
                    problem: format!(
                        "crate `{name}` is not among the fetched dependencies of `{}`",
                        workspace.display()
                    ),
                }),
            };
            names.into_iter().map(of).collect()
        };
        let (train, held_out) = (split(self.train)?, split(self.held_out)?);
        Ok(SplitFolders { suffixes: self.suffixes, train, held_out })
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
        .map_err(|error| failed("cargo metadata --locked", &error.to_string()))?;
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
    let failed = |reason: &str| failed("rustc -vV", reason);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("-vV")
        .current_dir(workspace)
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| failed(&String::from_utf8_lossy(&output.stderr)))
}

fn failed(command: &str, reason: &str) -> Error {
    Error::Crates { problem: format!("`{command}` failed: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<SplitFolders> {
        let here = workspace(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))?;
        CorpusList::parse(text).unwrap().find(&here)
    }

    #[test]
    fn finds_the_folders_of_locked_crates() {
        let found =
            find("suffixes = [\"rs\"]\ntrain = [\"walkdir\"]\nheld_out = [\"memmap2\"]").unwrap();
        assert_eq!(found.suffixes, ["rs"]);
        for (folders, name) in [(&found.train, "walkdir"), (&found.held_out, "memmap2")] {
            let [folder] = &folders[..] else { panic!("{folders:?}") };
            assert_eq!(folder.name, name);
            // Files of one crate are not independent.
            assert_eq!(folder.cluster.as_deref(), Some(name));
            assert!(folder.dir.join("src/lib.rs").is_file());
        }
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
