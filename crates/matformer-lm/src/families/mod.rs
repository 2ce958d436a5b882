//! Families of decoders: what each calls its tensors and the keys of its `config.json`, and what
//! those switch on. One file per family.

mod llama;
mod matlm;

use matformer_nn::{ConfigFile, Error, Result};
use serde_json::{Map, Value};

use crate::MatLmConfig;

/// A family. A model belongs to the first one in [`ALL`] that has it.
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    /// Whether models of this configuration are saved as this family: the first match in [`ALL`].
    has: fn(&MatLmConfig) -> bool,
    /// Reads the configuration from a `config.json`. Fails on a key that changes the computation
    /// and is not supported, and names it.
    pub(crate) read: fn(&ConfigFile) -> Result<MatLmConfig>,
    /// The keys of `config.json` that describe the computation.
    pub(crate) write: fn(&MatLmConfig) -> Map<String, Value>,
    /// Name in the weights file of the parameter at a path.
    pub(crate) tensor_name: fn(&str) -> String,
}

/// All families, in order of preference. The last one can save every model.
const ALL: [&Family; 2] = [&llama::FAMILY, &matlm::FAMILY];

impl Family {
    /// The family of a model.
    pub(crate) fn of(config: &MatLmConfig) -> &'static Self {
        ALL.into_iter().find(|family| (family.has)(config)).unwrap_or(&matlm::FAMILY)
    }

    /// The family that a `config.json` names.
    pub(crate) fn named_by(file: &ConfigFile) -> Result<&'static Self> {
        let found = file.text("model_type");
        ALL.into_iter().find(|family| Some(family.model_type) == found).ok_or_else(|| unknown(file))
    }
}

fn unknown(file: &ConfigFile) -> Error {
    let known = ALL.map(|family| format!("`{}`", family.model_type));
    file.wrong("model_type", &known.join(" or "))
}
