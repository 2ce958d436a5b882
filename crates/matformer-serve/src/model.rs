//! What a server needs to know of a model.

use matformer_core::{Submodel, SubmodelSpec};
use matformer_data::{ChatTemplate, Tokenizer};
use matformer_engine::EngineModel;
use serde::Serialize;

/// Finds the submodel that a text means, or says what is wrong with it.
pub type Resolve = Box<dyn Fn(&SubmodelSpec) -> Result<Submodel, String> + Send + Sync>;

/// A model, and what goes with it.
pub struct ServedModel {
    /// What requests call it.
    pub name: String,
    /// Its weights.
    pub engine: EngineModel,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// How conversations are laid out, if it has a template for them.
    pub template: Option<ChatTemplate>,
    /// Tokens at which an answer ends.
    pub ends: Vec<u32>,
    /// The size that answers where none is named.
    pub default: Submodel,
    /// The sizes that are listed, from the narrowest.
    pub sizes: Vec<Size>,
    /// The sizes that training saw, from the narrowest.
    pub trained: Vec<Submodel>,
    /// Finds any other size.
    pub resolve: Resolve,
    /// What tells these weights from others.
    pub fingerprint: String,
}

/// A size that has a name.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Its name: `S`.
    pub name: String,
    /// Its widths.
    #[serde(rename = "widths")]
    pub submodel: Submodel,
    /// All parameters.
    pub parameters: u64,
    /// Parameters without embeddings.
    pub non_embedding_parameters: u64,
    /// What was measured of it, if it was.
    pub loss: Option<Loss>,
}

/// A held-out loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// Nats per token.
    pub nats: f64,
    /// Its standard error, where it is known.
    pub stderr: Option<f64>,
    /// What it was measured on.
    pub data: Option<String>,
}
