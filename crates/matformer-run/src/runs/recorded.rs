//! What a folder of a run or a model records.

use std::{collections::BTreeMap, path::Path};

use matformer_core::Manifest;
use matformer_runfile::{self as run_file, RunKind, visit};
use serde::Serialize;
use serde_json::Value;

use super::read;
use crate::error::{Error, Result};

/// What a folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The folder of a run, complete or not.
    Run,
    /// A submodel that was cut out of another model.
    Slice,
    /// Another program's model.
    Import,
    /// A model without its run, such as a checkpoint.
    #[default]
    Model,
}

impl Role {
    /// What the folder is, in a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Slice => "slice",
            Self::Import => "import",
            Self::Model => "model",
        }
    }
}

/// A size of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Its name.
    pub name: String,
    /// Its feed-forward width.
    pub width: usize,
    /// All parameters.
    pub params: u64,
    /// All but the embeddings.
    pub non_embedding: u64,
}

/// Held-out losses of an evaluation in training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Steps made.
    pub step: u64,
    /// Nats per target, by size.
    pub loss: BTreeMap<String, f64>,
}

/// The last measurement of a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The size.
    pub submodel: String,
    /// `loss`, `bits_per_byte`, `top1`, `top5`.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
    /// Hash of the data, and which part of it.
    pub data: String,
}

/// The last held-out loss of a size.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Nats per target.
    pub nats: f64,
    /// Its standard error; none of an evaluation in training.
    pub stderr: Option<f64>,
    /// Hash of the data, and which part of it where it was measured since.
    pub data: Option<String>,
}

/// What is recorded in a folder.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Recorded {
    /// `text` or `images`.
    pub kind: &'static str,
    /// What the folder is.
    pub role: Role,
    /// Its sizes, ascending.
    pub sizes: Vec<Size>,
    /// Steps made.
    pub steps: u64,
    /// Steps that the run is to make, of a run.
    pub total_steps: Option<u64>,
    /// Whether the model of the last step is there.
    pub finished: bool,
    /// Training targets seen: tokens, or images.
    pub tokens: u64,
    /// Hash of the data; none before the first checkpoint, or of an imported model.
    pub data: Option<String>,
    /// Length of the windows that held-out text is measured in while training.
    pub window: Option<usize>,
    /// Training loss of each size: mean over the last 50 steps that trained it.
    pub train_loss: BTreeMap<String, f64>,
    /// The last evaluation in training.
    pub held_out: Option<HeldOut>,
    /// What was measured of its sizes since, the last of each metric.
    pub measured: Vec<Measured>,
    /// Median training speed, in targets per second.
    pub tokens_per_second: Option<f64>,
    /// Seconds of all training steps, without evaluations.
    pub seconds: Option<f64>,
    /// When it was last changed by a step or a save, in UTC.
    pub date: Option<String>,
    /// Damaged files in an otherwise readable folder.
    pub problems: Vec<String>,
    /// Settings of the run, or the shape of a model without one, by key.
    #[serde(skip)]
    pub settings: BTreeMap<String, String>,
}

impl Recorded {
    /// Reads what the folder says.
    ///
    /// # Errors
    /// When it is no folder of a run or a model, or what makes it one is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let manifest_path = dir.join(Manifest::FILE);
        let file = dir.join(run_file::FILE);
        let (is_model, is_run) = (manifest_path.is_file(), file.is_file());
        if !is_model && !is_run {
            return Err(Error::refused(format!(
                "{}: neither a run nor a model; expected a folder that `train`, `slice` or `import` wrote",
                dir.display()
            )));
        }
        let kind = if is_model {
            let found = Manifest::load(dir)?.kind;
            RunKind::named(&found).ok_or_else(|| {
                let (path, expected) = (manifest_path.display(), RunKind::manifests());
                Error::refused(format!("{path}: kind `{found}`; expected {expected}"))
            })?
        } else {
            RunKind::of(&file, &[], None)?
        };
        visit!(kind, read(dir))
    }

    /// The largest size.
    pub fn largest(&self) -> Option<&Size> {
        self.sizes.last()
    }

    /// The last measurement of a size.
    pub fn measurement(&self, submodel: &str, metric: &str) -> Option<&Measured> {
        self.measured.iter().find(|m| m.submodel == submodel && m.metric == metric)
    }

    /// The last held-out loss of a size: measured since it was trained, or else in training.
    pub fn loss(&self, size: &str) -> Option<Loss> {
        if let Some(measured) = self.measurement(size, "loss") {
            let data = Some(measured.data.clone());
            return Some(Loss { nats: measured.value, stderr: measured.stderr, data });
        }
        let nats = *self.held_out.as_ref()?.loss.get(size)?;
        Some(Loss { nats, stderr: None, data: self.data.clone() })
    }

    /// How far a run is, in words.
    pub fn progress(&self) -> String {
        match self.total_steps {
            Some(_) if self.finished => format!("{}, finished", self.steps),
            Some(total) => format!("{}/{total}", self.steps),
            None if self.steps == 0 => "-".to_owned(),
            None => self.steps.to_string(),
        }
    }

    /// As JSON, behind the path of the folder.
    ///
    /// # Errors
    /// When a number has no JSON form.
    pub fn to_json(&self, path: &Path) -> Result<Value> {
        let mut value = serde_json::to_value(self)?;
        if let Some(fields) = value.as_object_mut() {
            fields.shift_insert(0, "path".to_owned(), path.display().to_string().into());
        }
        Ok(value)
    }
    /// The same of a folder that cannot be read: the names of what is known of others, and nothing under them.
    pub(super) fn unknown(path: &Path) -> Result<Value> {
        let mut value = Self::default().to_json(path)?;
        let known = value.as_object_mut().into_iter().flatten();
        known.filter(|(name, _)| *name != "path").for_each(|(_, value)| *value = Value::Null);
        Ok(value)
    }
}
