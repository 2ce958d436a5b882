#![doc = include_str!("../README.md")]

mod error;
mod first_run;
pub mod keys;
mod kinds;
mod paths;
mod starter;
mod table;

use std::{marker::PhantomData, path::Path};

use matformer_core::fs;
use matformer_train::TrainConfig;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use error::{Error, Result};
pub use first_run::FirstRun;
pub use kinds::*;
use paths::Base;
pub use starter::Starter;

/// A run: model, data, training. What kind of model decides which keys there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, bound = "")]
pub struct RunFile<T: Tables> {
    /// What is trained.
    pub model: T::Model,
    /// On what.
    pub data: T::Data,
    /// How.
    pub train: TrainConfig,
}

/// Name of the file in a run folder.
pub const FILE: &str = "run.toml";

/// A parsed run file with checked keys and types, before defaults are filled in; keys of `[model]` that it lacks can
/// still be taken from a model folder.
#[derive(Clone, Debug)]
pub struct Draft<T> {
    table: Table,
    kind: PhantomData<T>,
}

impl<T: Tables> Draft<T> {
    /// Reads a run file and applies `sets` (`key=value`, TOML values). Relative paths in the file
    /// start at its folder, those in `sets` at the working directory.
    ///
    /// # Errors
    /// When the file is missing or malformed, or a key unknown.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut table: Table = text.parse().map_err(|e| malformed(path, &e))?;
        if is_toml(path) {
            let place = |key: &str| match line_of(&text, key) {
                Some(line) => format!("{}, line {line}", path.display()),
                None => path.display().to_string(),
            };
            keys::check::<T>(&table).map_err(|wrong| Error::of_key::<T>(wrong, place))?;
        }
        // The typed parse of the text: its messages name line and column.
        let _: RunFile<T> = toml::from_str(&text).map_err(|e| malformed(path, &e))?;
        paths::read(&mut table, &Base::of(path));
        table::without_aliases(&mut table);
        for set in sets {
            table::apply::<T>(&mut table, set)?;
        }
        // The file alone was fine. Before presets, which would hide what is no table.
        check_sets::<T>(&table)?;
        table::resolve_preset::<T>(&mut table).map_err(|error| error.of_file(path))?;
        Ok(Self { table, kind: PhantomData })
    }

    /// A draft without a file: `sets` on top of `tables`, of which later ones go on top of earlier ones.
    /// Relative paths start at the working directory.
    ///
    /// # Errors
    /// When a key or a preset is unknown.
    pub fn of(tables: Vec<Table>, sets: &[String]) -> Result<Self> {
        let mut table = Table::new();
        for above in tables {
            table::lay_above(&mut table, above);
        }
        for set in sets {
            table::apply::<T>(&mut table, set)?;
        }
        check_sets::<T>(&table)?;
        table::resolve_preset::<T>(&mut table)?;
        Ok(Self { table, kind: PhantomData })
    }

    /// Its keys and values as they were typed.
    pub fn into_table(self) -> Table {
        self.table
    }

    /// Sets `train.init`.
    pub fn set_init(&mut self, dir: &str) {
        let train = self.table.entry("train").or_insert_with(|| Value::Table(Table::new()));
        if let Some(train) = train.as_table_mut() {
            train.insert("init".to_owned(), Value::String(dir.to_owned()));
        }
        paths::read(&mut self.table, &Base::here());
    }

    /// The folder that the run starts from.
    pub fn init(&self) -> Option<&Path> {
        Some(Path::new(self.table.get("train")?.get("init")?.as_str()?))
    }

    /// Takes `shape` where the file is silent on a key of the model's.
    pub fn lay_below(&mut self, shape: &T::Shape) {
        table::lay_below::<T>(&mut self.table, shape);
    }

    /// The run: what is still absent has its default.
    ///
    /// # Errors
    /// When a value has another type than its key.
    pub fn resolve(&self) -> Result<RunFile<T>> {
        typed(&self.table)
    }
}

impl<T: Tables> RunFile<T> {
    /// The model's shape.
    pub fn shape(&self) -> &T::Shape {
        self.model.shape()
    }

    /// Length of a training row in tokens, of a kind whose rows are tokens.
    pub fn seq_len(&self) -> Option<usize> {
        T::context(self.shape()).map(|context| self.train.row_len(context))
    }

    /// The model's shape with the length of training rows as its context: for what training costs.
    pub fn shape_in_training(&self) -> T::Shape {
        match self.seq_len() {
            Some(seq_len) => T::with_context(self.shape(), seq_len),
            None => self.shape().clone(),
        }
    }

    /// The run with a default that may change written out.
    pub fn explicit(&self) -> Self {
        let train = TrainConfig { seq_len: self.seq_len(), ..self.train.clone() };
        Self { train, ..self.clone() }
    }

    /// The same run of a model of another shape.
    pub fn with_shape(&self, shape: T::Shape) -> Self {
        Self { model: ModelTable::of(shape), ..self.clone() }
    }

    /// Reads a run file, applies `sets` (`key=value`, TOML values) and resolves the preset.
    ///
    /// # Errors
    /// When the file is missing or malformed, or a key unknown.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self> {
        Draft::<T>::read(path, sets)?.resolve()
    }

    /// The text of the run's file in `folder`, which must be there: relative paths start at it.
    ///
    /// # Errors
    /// When a number is larger than TOML's.
    pub fn to_toml(&self, folder: &Path) -> Result<String, toml::ser::Error> {
        let mut table = Table::try_from(self)?;
        paths::write(&mut table, &Base::folder(folder));
        toml::to_string(&table)
    }

    /// The run as its checkpoints in `folder` keep it: relative paths start at `folder`, and a
    /// default that may change is written out.
    ///
    /// # Errors
    /// When a number is larger than TOML's.
    pub fn to_kept(&self, folder: &Path) -> Result<serde_json::Value, toml::ser::Error> {
        let mut table = Table::try_from(self.explicit())?;
        paths::write(&mut table, &Base::folder(folder));
        serde_json::to_value(table).map_err(serde::ser::Error::custom)
    }

    /// What [`to_kept`](Self::to_kept) gave, if this version can read it.
    pub fn of_kept(kept: serde_json::Value, folder: &Path) -> Option<Self> {
        let mut table: Table = serde_json::from_value(kept).ok()?;
        paths::read(&mut table, &Base::folder(folder));
        typed(&table).ok()
    }

    /// Checks that a run that was begun as `configured` may go on as `self`, which was read from
    /// `path`. `steps` may grow, and what does not touch the steps that were made may change:
    /// `batch_rows` (where a step does not depend on it), `eval_every`, `eval_tokens`,
    /// `checkpoint_every`, `keep`, `spike`, `tensorboard`. The `[data]` table may, as long as the text or the images are the
    /// same ([`check_same_data`](Self::check_same_data)), and weights of sources and augmentation stay.
    ///
    /// # Errors
    /// [`Error::Changed`] names the first key that must not change.
    pub fn check_goes_on(&self, path: &Path, configured: &Self) -> Result<()> {
        let mut configured = configured.clone();
        // Checkpoints without the key are of rows as long as the context.
        let context = T::context(configured.shape());
        configured.train.seq_len = configured.train.seq_len.or(context);
        let (was, mut now) = (&configured.train, self.explicit());
        let train = &mut now.train;
        train.steps = if train.steps > was.steps { was.steps } else { train.steps };
        // The batches of a self-test are those of one pass each.
        if T::splits_freely(self) && train.overfit.is_none() {
            train.batch_rows = was.batch_rows;
        }
        (train.eval_every, train.eval_tokens) = (was.eval_every, was.eval_tokens);
        (train.checkpoint_every, train.keep) = (was.checkpoint_every, was.keep);
        train.spike = was.spike;
        train.tensorboard = was.tensorboard;
        now.data = T::sampled_as(&configured.data, &now.data);
        now.check_unchanged(path, &configured)
    }

    /// Names the key of `[data]` that makes the text of `self`, which was read from `path`, another
    /// than that of `configured`.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check_same_data(&self, path: &Path, configured: &Self) -> Result<()> {
        let now = Self { data: self.data.clone(), ..configured.clone() };
        now.check_unchanged(path, configured)
    }

    fn check_unchanged(&self, path: &Path, configured: &Self) -> Result<()> {
        match self.difference(configured) {
            None => Ok(()),
            Some((key, found, trained)) => {
                Err(Error::Changed { path: path.to_owned(), key, found, trained })
            }
        }
    }

    /// # Errors
    /// [`Error::Differs`] names the first key in which `given` differs from `self`, which was
    /// read from `path`.
    pub fn check_same(&self, path: &Path, given: &Self) -> Result<()> {
        match self.difference(given) {
            None => Ok(()),
            Some((key, found, given)) => {
                Err(Error::Differs { run: path.to_owned(), key, found, given })
            }
        }
    }

    /// The first key in which two runs differ, and what they hold there.
    fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let (ours, theirs) = (Table::try_from(self).ok()?, Table::try_from(other).ok()?);
        table::difference("", &Value::Table(ours), &Value::Table(theirs))
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_none_or(|suffix| suffix == "toml")
}

fn malformed(path: &Path, error: &toml::de::Error) -> Error {
    if is_toml(path) {
        Error::Toml { path: path.to_owned(), message: error.to_string().trim_end().to_owned() }
    } else {
        Error::NotARunFile { path: path.to_owned() }
    }
}

/// The line of a file, from 1, in which a key with its tables has its value.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?.into_inner();
    let (mut at, mut line) = (&table, None);
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, value) = at.iter().find(|(name, _)| name.get_ref() == part)?;
        line = Some(text[..name.span().start].matches('\n').count() + 1);
        match value.get_ref() {
            toml::de::DeValue::Table(below) => at = below,
            _ if parts.peek().is_some() => return None,
            _ => {}
        }
    }
    line
}

/// Checks the keys of a table that overrides were applied to.
fn check_sets<T: Tables>(table: &Table) -> Result<()> {
    let place = |_: &str| "--set".to_owned();
    keys::check::<T>(table).map_err(|wrong| Error::of_key::<T>(wrong, place))?;
    typed::<T>(table).map(drop)
}

fn typed<T: Tables>(table: &Table) -> Result<RunFile<T>> {
    let message = |error: toml::de::Error| error.to_string().trim_end().replace('\n', " ");
    let set_value = |error| Error::SetValue { message: message(error) };
    table.clone().try_into().map_err(set_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, sets: &[&str]) -> Result<RunFile<Lm>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        RunFile::load(&path, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn presets_and_sets_are_layers() {
        let run = load(
            "[model]\npreset = \"small\"\n[model.lm]\nd_ff = 512\n[train]\nsteps = 7\n",
            &["train.seed=3", "data.paths=[\"a.txt\"]", "train.draw=joint"],
        )
        .unwrap();
        assert_eq!((run.shape().d_model, run.shape().d_ff), (256, 512));
        assert_eq!((run.train.steps, run.train.seed), (7, 3));
        assert_eq!(run.data.paths, [Path::new("a.txt").into()]);
        assert_eq!(run.train.draw, matformer_core::Draw::Joint);
        // What is kept reads back as it was.
        let again: RunFile<Lm> = toml::from_str(&run.to_toml(Path::new(".")).unwrap()).unwrap();
        assert_eq!(again, run);
    }

    #[test]
    fn mistakes_are_named() {
        let message = load("[train]\nstepz = 7\n", &[]).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("stepz"), "{message}");
        let message = load("", &["train.stepz=7"]).unwrap_err().to_string();
        assert!(message.contains("stepz"), "{message}");
        let message = load("", &["steps"]).unwrap_err().to_string();
        assert!(message.contains("--set steps"), "{message}");
        let message = load("[model]\npreset = \"huge\"\n", &[]).unwrap_err().to_string();
        assert!(message.contains("unknown preset `huge`"), "{message}");
        let message = load("[train]\nsteps = -1\n", &[]).unwrap_err().to_string();
        assert!(message.contains("line 2"), "{message}");
        assert_eq!(load("[train]\nstepz = 7\n", &[]).unwrap_err().hint().unwrap(), MEANT);
        assert_eq!(load("", &["train.stepz=7"]).unwrap_err().hint().unwrap(), MEANT);
    }

    const MEANT: &str = "did you mean `steps`?";

    #[test]
    fn a_value_is_no_table_and_a_number_has_an_end() {
        let preset = "[model]\npreset = \"small\"\n";
        for file in ["", preset] {
            let message = load(file, &["model.lm=5"]).unwrap_err().to_string();
            assert_eq!(
                message,
                "--set model.lm: `5` is not a table; expected one of its keys, such as \
                 model.lm.vocab_size"
            );
        }
        for set in ["model=small", "train=5", "data=[1]"] {
            assert!(matches!(load(preset, &[set]), Err(Error::SetTable { .. })), "{set}");
        }
        assert_eq!(load("", &["train={steps=3}"]).unwrap().train.steps, 3);
        let largest = i64::MAX;
        let run = load("", &[&format!("train.seed={largest}")]).unwrap();
        assert_eq!(run.train.seed, largest as u64);
        let message = load("", &["train.seed=9223372036854775808"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "--set train.seed: 9223372036854775808; expected a whole number from \
             -9223372036854775808 to 9223372036854775807"
        );
        let twice = load("", &["train.steps=3", "train.steps=4"]).unwrap();
        assert_eq!(twice.train.steps, 4, "the last one wins");
    }

    #[test]
    fn a_key_has_one_value_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        for (file, set) in [("images", "tokens"), ("tokens", "images")] {
            std::fs::write(&path, format!("[train]\n{file}_per_step = 8\n")).unwrap();
            let sets = [format!("train.{set}_per_step=16")];
            assert_eq!(RunFile::<Vit>::load(&path, &sets).unwrap().train.tokens_per_step, 16);
        }
    }

    #[test]
    fn a_different_key_is_named() {
        let (a, b) = (load("", &[]).unwrap(), load("", &["train.steps=5"]).unwrap());
        let message = a.check_same(Path::new("run.toml"), &b).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `train.steps` is 1000 there, 5 here");
        a.check_same(Path::new("run.toml"), &a.clone()).unwrap();
    }

    #[test]
    fn rows_of_a_run_from_before_the_key_are_as_long_as_the_context() {
        let path = Path::new("run.toml");
        let long = load("", &["model.lm.context=2048"]).unwrap();
        let refused = |configured: &RunFile<Lm>| {
            long.check_goes_on(path, configured).unwrap_err().to_string()
        };
        let expected = "run.toml: `train.seq_len` is 1024; the run was trained with 2048";
        assert_eq!(refused(&long), expected, "as a checkpoint without the key");
        long.check_goes_on(path, &long.explicit()).unwrap();
        let as_it_was = load("", &["model.lm.context=2048", "train.seq_len=2048"]).unwrap();
        as_it_was.check_goes_on(path, &long).unwrap();
        assert_eq!(refused(&as_it_was.explicit()), expected);
    }

    #[test]
    fn training_costs_what_its_rows_cost() {
        let run = load("", &["model.lm.context=2048"]).unwrap();
        assert_eq!((run.seq_len(), run.shape_in_training().context), (Some(1024), 1024));
        let run = load("", &["model.lm.context=2048", "train.seq_len=64"]).unwrap();
        assert_eq!((run.seq_len(), run.shape_in_training().context), (Some(64), 64));
        let run = load("", &[]).unwrap();
        assert_eq!((run.seq_len(), run.shape_in_training()), (Some(256), run.shape().clone()));
        let images = RunFile::<Vit>::default();
        assert_eq!((images.seq_len(), images.shape_in_training()), (None, images.shape().clone()));
    }

    #[test]
    fn a_run_goes_on_with_what_does_not_touch_the_steps_it_made() {
        let path = Path::new("run.toml");
        let was = load("", &["train.steps=100"]).unwrap();
        let sets = ["train.steps=200", "train.eval_every=7", "train.keep=1", "train.spike=0"];
        let more = ["train.checkpoint_every=9", "train.eval_tokens=99", "train.batch_rows=4"];
        let more = [&more[..], &["train.tensorboard=true"]].concat();
        load("", &[&sets[..], &more].concat()).unwrap().check_goes_on(path, &was).unwrap();
        load("", &["train.steps=100", "data.paths=[\"b\"]"])
            .unwrap()
            .check_goes_on(path, &was)
            .unwrap();
        let refused = |set: &str| {
            let now = load("", &["train.steps=100", set]).unwrap();
            now.check_goes_on(path, &was).unwrap_err().to_string()
        };
        assert_eq!(
            refused("train.seed=3"),
            "run.toml: `train.seed` is 3; the run was trained with 0"
        );
        assert_eq!(
            refused("train.steps=99"),
            "run.toml: `train.steps` is 99; the run was trained with 100"
        );
        for set in [
            "train.draw=joint",
            "train.learning_rate=0.1",
            "train.weight_decay=0",
            "train.overfit=1",
            "train.distill.weight=0.1",
            "model.lm.context=128",
            "train.seq_len=128",
        ] {
            let key = set.split('=').next().unwrap().trim_end_matches(".weight");
            assert!(refused(set).contains(&format!("`{key}` is ")), "{set}: {}", refused(set));
        }
        let sources = |weight: &str| {
            let source = |path: &str, weight: &str| {
                format!("[[data.sources]]\npaths = [\"{path}\"]\nweight = {weight}\n")
            };
            load(&[source("a", "2"), source("b", weight)].concat(), &[]).unwrap()
        };
        let message = sources("3").check_goes_on(path, &sources("1")).unwrap_err().to_string();
        assert!(message.contains("run.toml: `data.sources` is "), "{message}");
        let [mixed, more] = [0.2, 0.4].map(|mixup| {
            let mut images = RunFile::<Vit>::default();
            images.data.augment.mixup = mixup;
            images
        });
        let message = more.check_goes_on(path, &mixed).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `data.augment.mixup` is 0.4; the run was trained with 0.2");
        // What was the default may be written out.
        load("", &["train.steps=100", "train.seq_len=256"])
            .unwrap()
            .check_goes_on(path, &was)
            .unwrap();
        let heart = |rows: &str| load("", &["train.overfit=1", rows]).unwrap();
        let [few, more] = [heart("train.batch_rows=2"), heart("train.batch_rows=4")];
        let message = more.check_goes_on(path, &few).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `train.batch_rows` is 4; the run was trained with 2");
        let other = load("", &["data.held_out=0.5"]).unwrap();
        let message = other.check_same_data(path, &was).unwrap_err().to_string();
        assert_eq!(message, "run.toml: `data.held_out` is 0.5; the run was trained with 0.02");
    }
}
