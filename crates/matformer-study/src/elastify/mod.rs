//! A pretrained model made elastic: its neurons ordered, each size measured before and after.

mod ordering;
mod plan;
mod stages;

use std::path::PathBuf;

use matformer_nn::Importance;

pub use self::{
    ordering::{Ordering, ordering, publish},
    plan::{begin, check, draft, starting_from},
    stages::Studied,
};

/// What is made elastic, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model folder.
    pub model: PathBuf,
    /// The run folder to write.
    pub out: PathBuf,
    /// What neurons are ordered by.
    pub order: Importance,
    /// Training rows, or images, that the order is measured on.
    pub calibration_rows: usize,
    /// Tokens of each of these rows.
    pub calibration_tokens: Option<usize>,
    /// Held-out targets that each size is measured on.
    pub tokens: usize,
}

impl Plan {
    /// The folder of the model whose neurons are ordered, in that of the run.
    pub fn ordered(&self) -> PathBuf {
        self.out.join("ordered")
    }
}
