//! What a file says of the slice that it holds: written and read here, of no use to llama.cpp.

use std::collections::BTreeMap;

use matformer_core::{SliceFacts, fs};
use matformer_nn::Error;

use super::{
    container::Value as Stored,
    output::{Value, entry},
};

const PARENT: &str = "matformer.parent_sha256";
const SUBMODEL: &str = "matformer.submodel";
const WIDTHS: &str = "matformer.widths";
const TRAINED: &str = "matformer.trained";
const MEASURED: &str = "matformer.measured";

/// A slice, as the metadata of its file describes it.
#[derive(Debug, Clone, Copy)]
pub struct GgufFacts<'a> {
    /// What it was in the model that it was cut out of.
    pub slice: &'a SliceFacts,
    /// SHA-256 of that model's weights.
    pub parent: &'a str,
    /// The license that that model's card names.
    pub license: Option<&'a str>,
}

impl GgufFacts<'_> {
    /// The metadata that says it.
    pub(super) fn metadata(&self) -> matformer_nn::Result<Vec<(String, Value)>> {
        let Self { slice, parent, license } = *self;
        let list =
            |widths: &[usize]| widths.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut metadata = vec![
            entry(PARENT, parent),
            entry(SUBMODEL, &slice.submodel),
            entry(WIDTHS, &list(&slice.widths)),
        ];
        metadata.extend(slice.trained.as_ref().map(|trained| entry(TRAINED, &list(trained))));
        if let Some(measured) = &slice.measured {
            let json = serde_json::to_string(measured).map_err(|e| Error::read(MEASURED, e))?;
            metadata.push(entry(MEASURED, &json));
        }
        metadata.extend(license.map(|license| entry("general.license", license)));
        Ok(metadata)
    }
}

/// What a slice was, and the hash of the weights that it was cut out of.
pub(super) type Slice = (SliceFacts, String);

/// What the metadata says of the slice of `n_layers` layers of width `d_ff` that a file holds. It changes nothing
/// that the model computes: what cannot be understood is a note.
pub(super) fn read(
    metadata: &BTreeMap<String, Stored>,
    n_layers: usize,
    d_ff: usize,
) -> Result<Option<Slice>, String> {
    let wrong = |key: &str, expected: &str| {
        let found = metadata.get(key).map(ToString::to_string).unwrap_or_default();
        format!("`{key}` is {found}; expected {expected}: what it is a slice of is not kept")
    };
    let value = |key: &str| match metadata.get(key) {
        Some(Stored::Text(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(wrong(key, "text")),
        None => Ok(None),
    };
    let list = |text: &str| -> Option<Vec<usize>> {
        let numbers = text.split(',').filter(|part| !part.is_empty()).map(str::parse);
        numbers.collect::<Result<_, _>>().ok()
    };
    let (Some(parent), Some(submodel), Some(widths)) =
        (value(PARENT)?, value(SUBMODEL)?, value(WIDTHS)?)
    else {
        return Ok(None);
    };
    if !fs::is_sha256(parent) {
        return Err(wrong(PARENT, "64 lowercase hexadecimal digits"));
    }
    if submodel.is_empty() || submodel.len() > 1000 || submodel.contains(char::is_control) {
        return Err(wrong(SUBMODEL, "the name of a submodel"));
    }
    let fits = |widths: &Vec<usize>| {
        widths.len() == n_layers && !widths.contains(&0) && widths.iter().max() == Some(&d_ff)
    };
    let Some(widths) = list(widths).filter(fits) else {
        let expected = format!("{n_layers} widths with commas between them, the largest {d_ff}");
        return Err(wrong(WIDTHS, &expected));
    };
    let trained = match value(TRAINED)?.map(list) {
        Some(None) => return Err(wrong(TRAINED, "widths with commas between them")),
        trained => trained.flatten().map(|mut widths| {
            widths.retain(|width| (1..=d_ff).contains(width));
            widths.sort_unstable();
            widths.dedup();
            widths
        }),
    };
    let measured = match value(MEASURED)?.map(serde_json::from_str) {
        Some(Err(error)) => {
            return Err(wrong(MEASURED, &format!("measurements ({error})")));
        }
        measured => measured.and_then(Result::ok),
    };
    let facts = SliceFacts { submodel: submodel.to_owned(), widths, trained, measured };
    Ok(Some((facts, parent.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(changed: &[(&str, &str)]) -> BTreeMap<String, Stored> {
        let parent = "0a".repeat(32);
        let all = [(PARENT, &*parent), (SUBMODEL, "60%"), (WIDTHS, "32,96"), (TRAINED, "64,32")];
        let all = all.iter().chain(changed).copied();
        all.map(|(key, text)| (key.to_owned(), Stored::Text(text.to_owned()))).collect()
    }

    #[test]
    fn what_a_file_is_a_slice_of_is_read() {
        let (facts, parent) = read(&metadata(&[]), 2, 96).unwrap().unwrap();
        assert_eq!(
            (&*facts.submodel, &facts.widths[..], &*parent),
            ("60%", &[32, 96][..], &*"0a".repeat(32))
        );
        assert_eq!((facts.trained, facts.measured), (Some(vec![32, 64]), None));
        let (facts, _) = read(&metadata(&[(TRAINED, "")]), 2, 96).unwrap().unwrap();
        assert_eq!(facts.trained, Some(vec![]));
        assert_eq!(read(&BTreeMap::new(), 2, 96), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_a_note() {
        for (key, value) in [
            (PARENT, "0A"),
            (SUBMODEL, "\u{1b}[2J"),
            (WIDTHS, "32,96,96"),
            (WIDTHS, "32,64"),
            (WIDTHS, "0,96"),
            (WIDTHS, "32,-96"),
            (TRAINED, "many"),
            (MEASURED, "[{}]"),
        ] {
            let note = read(&metadata(&[(key, value)]), 2, 96).unwrap_err();
            assert!(note.starts_with(&format!("`{key}` is ")), "{note}");
        }
        let mut numbers = metadata(&[]);
        numbers.insert(WIDTHS.to_owned(), Stored::Unsigned(96));
        assert!(read(&numbers, 2, 96).is_err());
    }
}
