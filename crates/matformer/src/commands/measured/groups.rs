//! A curve measured in groups of submodels, each kept when it is done: an interruption costs one group.

use std::path::{Path, PathBuf};

use anyhow::Result;
use matformer::{
    core::{Submodel, fs},
    eval::{DocumentLoss, Evaluation, SubmodelLosses},
};
use serde::{Deserialize, Serialize};

use super::{FORMAT, file_of, walked};
use crate::{folder::ModelFolder, kind::Kind, logging::say};

/// What is measured of a curve so far: a file that goes when the curve is whole.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    weights: String,
    data: String,
    whole: bool,
    context: Option<usize>,
    losses: Vec<(Submodel, Vec<DocumentLoss>)>,
}

/// Measures `submodels`; those that were measured by a call that did not come to its end are not
/// measured again.
pub fn group_by_group<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    tokens: Option<usize>,
) -> Result<Evaluation> {
    let path = path(folder, tokens);
    let mut kept = begun(&path, folder, prepared).unwrap_or_else(|| Kept {
        format: FORMAT,
        weights: folder.manifest.weights_sha256.clone(),
        data: K::facts(prepared).hash.to_string(),
        whole: false,
        context: folder.context(),
        losses: Vec::new(),
    });
    let open: Vec<Submodel> =
        submodels.iter().filter(|submodel| kept.of(submodel).is_none()).cloned().collect();
    if open.len() < submodels.len() {
        let done = submodels.len() - open.len();
        say!("{}: {done} of {} submodels measured before", path.display(), submodels.len());
    }
    for group in groups(open) {
        let found = walked(folder, prepared, &group, tokens)?;
        kept.whole = found.whole;
        let losses = found.submodels.into_iter().map(|found| (found.submodel, found.documents));
        kept.losses.extend(losses);
        fs::write_atomic(&path, serde_json::to_string(&kept)?.as_bytes())?;
    }
    let losses = |submodel: &Submodel| {
        let documents = kept.of(submodel).unwrap_or_default().to_vec();
        SubmodelLosses { submodel: submodel.clone(), documents }
    };
    Ok(Evaluation {
        submodels: submodels.iter().map(losses).collect(),
        whole: kept.whole,
        context: kept.context,
    })
}

/// Removes what was kept of a curve that is whole by now.
pub fn forget<K: Kind>(folder: &ModelFolder<K>, tokens: Option<usize>) {
    // If it stays, it is only not needed.
    let _ = std::fs::remove_file(path(folder, tokens));
}

fn path<K: Kind>(folder: &ModelFolder<K>, tokens: Option<usize>) -> PathBuf {
    file_of(folder, "measuring", tokens, "json")
}

impl Kept {
    fn of(&self, submodel: &Submodel) -> Option<&[DocumentLoss]> {
        let found = self.losses.iter().find(|(other, _)| other == submodel);
        found.map(|(_, documents)| &documents[..])
    }
}

/// What another call measured of the same model on the same data.
fn begun<K: Kind>(path: &Path, folder: &ModelFolder<K>, prepared: &K::Prepared) -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let same = kept.format == FORMAT
        && kept.context == folder.context()
        && kept.weights == folder.manifest.weights_sha256
        && kept.data == K::facts(prepared).hash.to_string();
    same.then_some(kept)
}

/// Submodels by the width of their first layer: those of one group have the most work in common, so
/// that group by group takes hardly longer than all at once.
fn groups(mut submodels: Vec<Submodel>) -> Vec<Vec<Submodel>> {
    submodels.sort();
    let first = |submodel: &Submodel| submodel.widths().first().copied();
    submodels.chunk_by(|a, b| first(a) == first(b)).map(<[Submodel]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodels_that_begin_alike_are_measured_together() {
        let of = |widths: &[&[usize]]| -> Vec<Submodel> {
            widths.iter().map(|widths| Submodel::new(widths.to_vec())).collect()
        };
        let found = groups(of(&[&[8, 8], &[4, 4], &[8, 16], &[4, 8], &[16, 16]]));
        let expected =
            [of(&[&[4, 4], &[4, 8]]), of(&[&[8, 8], &[8, 16]]), of(&[&[16, 16]])].to_vec();
        assert_eq!(found, expected);
    }
}
