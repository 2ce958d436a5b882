//! What searches found, as files and numbers.

use std::path::Path;

use matformer_core::{Submodel, fs};
use serde::{Deserialize, Serialize};

use crate::{Estimate, Result};

/// What one method found within budgets: a file in the folder `search/` of a model. Chosen by the loss on
/// one half of the held-out documents (`a`), judged by that on the other (`b`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// How it was found.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// As they were typed: `60%`, `8ms`; all hold at once.
    pub budgets: Vec<String>,
    /// Hash of the model's weights.
    pub weights: String,
    /// Hash of the data.
    pub data: String,
    /// Length of the windows that the text was cut into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Targets of the half that chooses that were asked for; all if none.
    pub tokens: Option<usize>,
    /// Targets of the half that judges that were asked for; all if none.
    pub judge_tokens: Option<usize>,
    /// Label of what was found.
    pub winner: String,
    /// What it costs, by each of the budgets.
    pub costs: Vec<f64>,
    /// Its non-embedding parameters.
    pub non_embedding: u64,
    /// Its loss on the other half.
    pub b: Estimate,
    /// Regret: its loss on the test half minus that of the best submodel that any method found within these budgets
    /// (the best by the first half), paired.
    pub regret: f64,
    /// Standard error of the regret; none with fewer than two documents.
    pub stderr: Option<f64>,
}

/// What a method came to on the half that chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it was searched: `evolution`.
    pub method: String,
    /// Of everything that was drawn.
    pub seed: u64,
    /// What was scored, in that order; some methods also learn from submodels over budget.
    pub tried: Vec<Scored>,
    /// Widths of what it found: the best of them within the budgets, or what the method names.
    pub widths: Submodel,
    /// Its loss.
    pub a: f64,
    /// Submodels that were measured for it: others had been measured before, for another method or budget.
    pub measured: usize,
    /// How long it took, which the ones measured before made shorter.
    pub seconds: f64,
}

impl Outcome {
    /// Whether another call came to the same in the same way: the times of the first are those of a search
    /// that knew less.
    pub fn repeats(&self, other: &Self) -> bool {
        let tried = |of: &Self| of.tried.iter().map(|s| s.submodel.clone()).collect::<Vec<_>>();
        self.method == other.method && self.seed == other.seed && tried(self) == tried(other)
    }
}

/// A submodel and its loss on the selection half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Its label.
    pub submodel: String,
    /// Nats per target.
    pub a: f64,
}

impl Found {
    /// The folder of these files in a model folder.
    pub const FOLDER: &str = "search";

    /// Writes its file into a model folder; `own` is the hash of the data that the model was trained on,
    /// and other data is told apart in the file's name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path, own: &str) -> Result<()> {
        let folder = folder.join(Self::FOLDER);
        fs::create_dir_all(&folder)?;
        let mut part = self.tokens.map_or(String::new(), |tokens| format!("-{tokens}"));
        if self.data != own {
            part += &format!("-of-{}", self.data.get(..8).unwrap_or("other"));
        }
        let file = format!("{}{part}.{}.json", self.budgets.join("_"), self.outcome.method);
        Ok(fs::write_json(folder.join(file), "what a search found", self)?)
    }

    /// What was found with these weights, in the order of the files' names. Files of another form are
    /// passed over: a newer version may have written them.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load_all(
        folder: &Path,
        weights: &str,
        mut passed_over: impl FnMut(&Path),
    ) -> Result<Vec<Self>> {
        let folder = folder.join(Self::FOLDER);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut paths = fs::read_dir(&folder)?;
        paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
        paths.sort();
        let mut all = Vec::new();
        for path in paths {
            match serde_json::from_slice::<Self>(&fs::read(&path)?) {
                Ok(found) => all.push(found),
                Err(_) => passed_over(&path),
            }
        }
        all.retain(|found| found.weights == weights);
        Ok(all)
    }

    /// Waits until no other process holds these files of a model folder, and holds them until the lock is
    /// dropped.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn lock(folder: &Path) -> Result<fs::Lock> {
        let folder = folder.join(Self::FOLDER);
        fs::create_dir_all(&folder)?;
        Ok(fs::Lock::take(folder.join(".lock"))?)
    }
}
