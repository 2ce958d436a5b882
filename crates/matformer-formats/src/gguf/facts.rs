//! What a file says of the slice that it holds: written and read here, of no use to llama.cpp.

use matformer_core::{Measurement, SliceFacts};
use matformer_nn::{Error, Result};
use serde::de::DeserializeOwned;

use super::{Gguf, container::Value as Stored, output::Value, write::text};

const PARENT: &str = "matformer.parent_sha256";
const SUBMODEL: &str = "matformer.submodel";
const WIDTHS: &str = "matformer.widths";
const TRAINED: &str = "matformer.trained";
const MEASURED: &str = "matformer.measured";

/// What a slice is of a model whose weights have the hash `parent`.
#[derive(Debug, Clone, Copy)]
pub struct GgufFacts<'a> {
    /// What it was there.
    pub slice: &'a SliceFacts,
    /// SHA-256 of that model's weights.
    pub parent: &'a str,
    /// The license that that model's card names.
    pub license: Option<&'a str>,
}

impl GgufFacts<'_> {
    /// The metadata that says it.
    pub(super) fn metadata(&self) -> Result<Vec<(String, Value)>> {
        let Self { slice, parent, license } = *self;
        let list =
            |widths: &[usize]| widths.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut metadata = vec![
            text(PARENT, parent),
            text(SUBMODEL, &slice.submodel),
            text(WIDTHS, &list(&slice.widths)),
        ];
        metadata.extend(slice.trained.as_ref().map(|trained| text(TRAINED, &list(trained))));
        if let Some(measured) = &slice.measured {
            let json = serde_json::to_string(measured).map_err(|e| Error::read(MEASURED, e))?;
            metadata.push(text(MEASURED, &json));
        }
        metadata.extend(license.map(|license| text("general.license", license)));
        Ok(metadata)
    }
}

impl Gguf {
    /// What the file says of the slice that it holds, and the hash of the weights that it was cut out of.
    pub(super) fn slice_facts(&self) -> Result<Option<(SliceFacts, String)>> {
        let value = |key: &str| match self.container.metadata.get(key) {
            Some(Stored::Text(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(self.malformed(key, "text")),
            None => Ok(None),
        };
        let (Some(parent), Some(submodel), Some(widths)) =
            (value(PARENT)?, value(SUBMODEL)?, value(WIDTHS)?)
        else {
            return Ok(None);
        };
        let list = |key: &str, text: &str| {
            let numbers = text.split(',').filter(|part| !part.is_empty());
            let numbers: std::result::Result<Vec<usize>, _> = numbers.map(str::parse).collect();
            numbers.map_err(|_| self.malformed(key, "widths, with commas between them"))
        };
        let is_hash = parent.len() == 64 && parent.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return Err(self.malformed(PARENT, "64 hexadecimal digits"));
        }
        let facts = SliceFacts {
            submodel: submodel.to_owned(),
            widths: list(WIDTHS, widths)?,
            trained: value(TRAINED)?.map(|text| list(TRAINED, text)).transpose()?,
            measured: value(MEASURED)?
                .map(|text| self.json::<Vec<Measurement>>(text))
                .transpose()?,
        };
        Ok(Some((facts, parent.to_owned())))
    }

    fn json<T: DeserializeOwned>(&self, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|_| self.malformed(MEASURED, "a list of measurements"))
    }

    fn malformed(&self, key: &str, expected: &str) -> Error {
        let value = self.container.metadata.get(key).map(ToString::to_string).unwrap_or_default();
        Error::File {
            path: self.path.clone(),
            found: format!("`{key}` is {value}"),
            expected: expected.to_owned(),
        }
    }
}
