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
    /// Whether the family has this model.
    has: fn(&MatLmConfig) -> bool,
    /// The configuration in a `config.json`. A key that changes what the model computes and that
    /// is not covered here is an error which names it.
    pub(crate) read: fn(&ConfigFile) -> Result<MatLmConfig>,
    /// The keys of `config.json` that say what the model computes.
    pub(crate) write: fn(&MatLmConfig) -> Map<String, Value>,
    /// What the parameter at a path is called in the weights file.
    pub(crate) tensor_name: fn(&str) -> String,
}

/// All families. The last one has every model.
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
