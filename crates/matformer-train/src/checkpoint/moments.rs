//! AdamW's moments in a checkpoint.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use matformer_core::fs;
use safetensors::{Dtype, SafeTensors, View};

use super::TrainState;
use crate::{Error, Result, optimizer::SavedMoments};

/// A tensor of one dimension, converted to bytes when it is written.
struct Floats<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl View for &Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Writes `first.PATH`, `second.PATH` and, if there are any, `average.PATH` and `outer.PATH` of every parameter, one
/// tensor after the other, with the permissions of the file `like`. The file is synced when its
/// folder is published.
pub(super) fn write(
    moments: &BTreeMap<String, SavedMoments>,
    path: &Path,
    like: &Path,
) -> Result<()> {
    let tensors: Vec<(String, Floats<'_>)> = moments
        .iter()
        .flat_map(|(name, m)| {
            let of = |what: &str, values| (format!("{what}.{name}"), values);
            let average = m.average.as_ref().map(|average| of("average", average));
            let second = m.second.as_ref().map(|second| of("second", second));
            let outer = m.outer.as_ref().map(|outer| of("outer", outer));
            std::iter::once(of("first", &m.first)).chain(second).chain(average).chain(outer)
        })
        .map(|(name, values)| (name, Floats { values, shape: [values.len()] }))
        .collect();
    let views = tensors.iter().map(|(name, floats)| (name.as_str(), floats));
    safetensors::serialize_to_file(views, None, path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => fs::error(path, "write")(e).into(),
        other => Error::Checkpoint {
            path: path.to_owned(),
            found: other.to_string(),
            expected: "tensors that fit the safetensors format".to_owned(),
        },
    })?;
    let share = || std::fs::set_permissions(path, std::fs::metadata(like)?.permissions());
    Ok(share().map_err(fs::error(path, "write"))?)
}

/// Reads the moments of all parameters in `state.pieces`, and checks the file against the hash in
/// `state`; `elements` gives the number of values of a parameter of the model.
pub(super) fn read(
    path: &Path,
    state: &TrainState,
    elements: impl Fn(&str) -> Option<usize>,
) -> Result<BTreeMap<String, SavedMoments>> {
    let malformed = |found: String| Error::Checkpoint {
        path: path.to_owned(),
        found,
        expected: "the moments of every parameter in `state.json`, as finite F32".to_owned(),
    };
    let bytes = fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(e.to_string()))?;
    let values = |name: String| -> Result<Vec<f32>> {
        let view = file.tensor(&name).map_err(|e| malformed(format!("`{name}`: {e}")))?;
        if view.dtype() != Dtype::F32 {
            return Err(malformed(format!("`{name}`: dtype {:?}", view.dtype())));
        }
        let chunks = view.data().chunks_exact(4);
        let values: Vec<f32> =
            chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().find(|v| !v.is_finite()) {
            Some(bad) => Err(malformed(format!("`{name}`: {bad}"))),
            None => Ok(values),
        }
    };
    let moments = state
        .pieces
        .iter()
        .map(|(name, pieces)| {
            let n = elements(name);
            let of = |what: &str| -> Result<Vec<f32>> {
                let values = values(format!("{what}.{name}"))?;
                if n != Some(values.len()) {
                    let found = format!("`{what}.{name}`: {} values, not {n:?}", values.len());
                    return Err(malformed(found));
                }
                Ok(values)
            };
            let kept = |what: &str| {
                let is_there = file.names().contains(&format!("{what}.{name}").as_str());
                is_there.then(|| of(what)).transpose()
            };
            let (first, second, average) = (of("first")?, kept("second")?, kept("average")?);
            let (outer, pieces) = (kept("outer")?, pieces.clone());
            let ascending = pieces.is_sorted_by(|(a, _), (b, _)| a < b);
            if !ascending || pieces.first().is_none_or(|(end, _)| *end == 0) {
                return Err(malformed(format!("`{name}`: pieces {pieces:?}")));
            }
            if pieces.last().map(|(end, _)| *end) != n {
                return Err(malformed(format!("`{name}`: pieces {pieces:?} of {n:?} values")));
            }
            Ok((name.clone(), SavedMoments { first, second, average, outer, pieces }))
        })
        .collect::<Result<_>>()?;
    // Last, because an error that names what is malformed is more useful than another hash.
    let found = || fs::sha256_bytes(&bytes);
    match state.optimizer_sha256.as_ref().map(|expected| (found(), expected)) {
        Some((found, expected)) if found != *expected => Err(Error::Checkpoint {
            path: path.to_owned(),
            found: format!("SHA-256 {found}"),
            expected: format!("{expected}, as in `state.json`"),
        }),
        _ => Ok(moments),
    }
}
