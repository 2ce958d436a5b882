//! A run file with a comment to each key.

use std::path::Path;

use matformer_nn::ModelConfig;
use toml::{Table, Value};

use super::Starter;
use crate::{Draft, Result, Tables};

/// A key that a run file shows.
pub(super) struct Key {
    /// The key with its tables: `train.steps`.
    path: &'static str,
    /// A value, for a key that is absent by default.
    example: Option<&'static str>,
    about: &'static str,
}

impl Key {
    /// A key with its default.
    pub(super) const fn new(path: &'static str, about: &'static str) -> Self {
        Self { path, example: None, about }
    }

    /// A key that is absent by default, with an example.
    pub(super) const fn like(
        path: &'static str,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { path, example: Some(example), about }
    }

    /// The table that it is in, and its own name.
    fn parts(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// Keys that mean the same for every kind of model.
pub(super) mod shared {
    use super::Key;

    pub(in super::super) const LEARNING_RATE: Key =
        Key::new("train.learning_rate", "peak learning rate");
    pub(in super::super) const SCHEDULE: Key =
        Key::new("train.schedule", "cosine, or wsd: constant until it decays at the end");
    pub(in super::super) const WARMUP: Key =
        Key::new("train.warmup", "steps until the learning rate has reached its peak");
    pub(in super::super) const STEPS: Key =
        Key::new("train.steps", "number of steps: a longer run is the first thing to try");
    pub(in super::super) const DRAW: Key =
        Key::new("train.draw", "sizes that a step trains: sampled, joint, sandwich, per-layer, …");
    pub(in super::super) const DTYPE: Key =
        Key::new("train.dtype", "bf16 for GPUs that compute in it");
    pub(in super::super) const SEED: Key =
        Key::new("train.seed", "random seed of weights, draws and batches");
    pub(in super::super) const INIT: Key = Key::like(
        "train.init",
        "\"runs/other\"",
        "start from the weights of this model folder; leave [model] out then",
    );
    pub(in super::super) const CHECKPOINT_EVERY: Key =
        Key::new("train.checkpoint_every", "steps between two checkpoints");
    pub(in super::super) const KEEP: Key =
        Key::new("train.keep", "newest checkpoints to keep, beside the best");
    pub(in super::super) const TENSORBOARD: Key =
        Key::like("train.tensorboard", "true", "also write the metrics as TensorBoard event files");
}

/// Width of a key with its value, where it is not longer.
const WIDTH: usize = 32;

/// The text of the run file `file`: the keys of `own` are set, the others of `keys` are shown with their
/// defaults.
pub(super) fn of<T: Tables>(
    starter: &Starter,
    own: &Table,
    file: &Path,
    keys: &[Key],
) -> Result<String> {
    let run = Draft::<T>::of(vec![own.clone()], &[])?.resolve()?;
    let defaults = Table::try_from(&run).unwrap_or_default();
    // Those that follow from the shape.
    let space = run.shape().space().ok();
    let widths = space.map(|space| format!("{:?}", space.granularities.widths()));
    let mut text = head(starter, file);
    let mut above = "";
    for key in keys {
        let (table, name) = key.parts();
        if table != above {
            text += &format!("\n[{table}]\n");
            above = table;
        }
        let set = get(own, key.path).map(|value| format!("{name} = {value}"));
        let line = set.unwrap_or_else(|| {
            let default = get(&defaults, key.path).map(Value::to_string);
            let widths = (name == "granularities").then(|| widths.clone()).flatten();
            let example = widths.or(key.example.map(str::to_owned));
            let shown = default.or(example).unwrap_or_default();
            format!("# {name} = {shown}")
        });
        text += &format!("{line:<WIDTH$}  # {}\n", key.about);
    }
    Ok(text)
}

fn head(starter: &Starter, file: &Path) -> String {
    // A name with a line break would end the comment.
    let plain = |text: &str| text.replace(char::is_control, "?");
    let name = plain(&file.file_name().unwrap_or_default().to_string_lossy());
    let run = plain(&file.file_stem().unwrap_or_default().to_string_lossy());
    format!(
        "# A run of matformer on {}.\n\
         #\n\
         #   matformer train {name} --dry-run    parameters, time and memory; writes nothing\n\
         #   matformer train {name}              trains into runs/{run}; Ctrl-C saves, --resume continues\n\
         #\n\
         # A key behind `#` shows its default, or an example.\n",
        starter.found()
    )
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |at, part| at.as_table()?.get(part))
}
