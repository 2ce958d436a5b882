//! Sizes of a pretrained model that was made elastic: before its neurons were ordered, after that, and
//! after training.

use std::path::Path;

use matformer_core::fs;
use serde::{Deserialize, Serialize};

use crate::{DataFacts, Estimate, Result};

/// The JSON that `matformer elastify --json` prints, and a file in the folder of its run.
///
/// This form is stable: fields are added, none is removed, renamed or given another meaning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// The run's folder.
    pub model: String,
    /// The folder of the model that it started from.
    pub original: String,
    /// The score by which neurons were ordered.
    pub order: String,
    /// What was measured on.
    pub data: DataFacts,
    /// In the order in which they were reached.
    pub stages: Vec<Stage>,
}

/// What was measured at one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// `original`, `ordered` or `trained`.
    pub stage: String,
    /// Tokens, or images, that the stage has seen: none; those that the score was measured on; those
    /// that were trained on.
    pub tokens: u64,
    /// Hash of its weights.
    pub weights: String,
    /// One entry per size, from the smallest to the largest.
    pub results: Vec<StageResult>,
}

/// Held-out loss of one size at one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Its label: `S`.
    pub submodel: String,
    /// Its FFN widths, one per layer.
    pub widths: Vec<usize>,
    /// Its parameters, a tied embedding once.
    pub params: u64,
    /// Held-out loss in nats per token, or image.
    pub loss: f64,
    /// Standard error of the loss.
    pub stderr: Option<f64>,
    /// Share of the images whose class was found the likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top1: Option<Estimate>,
}

impl Stages {
    /// The file's name in the folder of a run.
    pub const FILE: &str = "elastify.json";

    /// Reads the file in a folder; `None` where there is none, or one of another form.
    pub fn load(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(Self::FILE)).ok()?).ok()
    }

    /// Writes the file into a folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        Ok(fs::write_json(folder.join(Self::FILE), "the stages of a run", self)?)
    }

    /// Puts what was measured at a stage in place of an earlier measurement of it and of all later stages.
    pub fn add(&mut self, stage: Stage) {
        if let Some(at) = self.stages.iter().position(|found| found.stage == stage.stage) {
            self.stages.truncate(at);
        }
        self.stages.push(stage);
    }
}
