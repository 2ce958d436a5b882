//! A run file to begin with, sized by its data: what `matformer init` writes, and what
//! `matformer train --data` trains.

mod page;

use std::path::Path;

use matformer_data::Source;
use toml::{Table, Value};

use super::{
    Error, Result, RunKind, Tables,
    first_run::{FirstRun, table},
    kinds::{no_preset, unknown_preset},
    paths::{self, Base},
};
use crate::visit;

/// A run file to begin with.
#[derive(Clone, Debug)]
pub struct Starter {
    kind: RunKind,
    name: String,
    preset: String,
    found: String,
    /// The keys that are set; relative paths start at the working directory.
    table: Table,
}

impl Starter {
    /// A run on the data at these places, of the kind and preset that were asked for, or else those that
    /// fit the data.
    ///
    /// # Errors
    /// A place that is not there, or holds nothing of that kind; a preset that the kind does not have.
    pub fn new(places: &[String], kind: Option<RunKind>, preset: Option<&str>) -> Result<Self> {
        let sources: Vec<Source> =
            places.iter().map(|place| place.parse()).collect::<Result<_, _>>()?;
        let kind = match (kind, preset) {
            (Some(kind), _) => kind,
            (None, Some(preset)) => {
                RunKind::with_preset(preset).ok_or_else(|| unknown_preset(preset))?
            }
            (None, None) => kind_of(&sources)?,
        };
        visit!(kind, Self::of(places, &sources, preset))
    }

    fn of<T: Tables>(places: &[String], sources: &[Source], preset: Option<&str>) -> Result<Self> {
        let FirstRun { preset, shape, data, train, found } = T::first_run(sources, preset)?;
        if T::preset(&preset).is_none() {
            return Err(no_preset::<T>(&preset));
        }
        let mut model = table([("preset", preset.as_str().into())]);
        if !shape.is_empty() {
            model.insert(T::NAME.to_owned(), Value::Table(shape));
        }
        let mut all = T::data_at(places);
        all.extend(data);
        let table = table([("model", model.into()), ("data", all.into()), ("train", train.into())]);
        Ok(Self { kind: T::KIND, name: name(sources), preset, found, table })
    }

    /// The kind of model.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// The name of the run, after its data.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The preset that its shape is.
    pub fn preset(&self) -> &str {
        &self.preset
    }

    /// What was found of the data, in a few words.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// The keys that are set; relative paths start at the working directory.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table of a run that is there, with the places of this data in place of its own; with `model`
    /// also the model. What was sized by the data stays as the run has it.
    pub fn table_over(&self, mut run: Table, model: bool) -> Table {
        let places = ["paths", "path", "also"];
        if let (Some(Value::Table(data)), Some(Value::Table(own))) =
            (run.get_mut("data"), self.table.get("data"))
        {
            for place in places {
                data.remove(place);
                if let Some(value) = own.get(place) {
                    data.insert(place.to_owned(), value.clone());
                }
            }
        }
        if model && let Some(model) = self.table.get("model") {
            run.insert("model".to_owned(), model.clone());
        }
        run
    }

    /// The same without a model: that of the folder that the run starts from.
    pub fn without_model(mut self) -> Self {
        self.table.remove("model");
        self
    }

    /// The text of the run file `file`, whose folder must be there, with a comment to each key.
    ///
    /// # Errors
    /// When a number is larger than TOML's.
    pub fn page(&self, file: &Path) -> Result<String> {
        let mut own = self.table.clone();
        paths::write(&mut own, &Base::of(file));
        visit!(self.kind, page::of(self, &own, file))
    }
}

/// What the places hold: all of them the same.
fn kind_of(sources: &[Source]) -> Result<RunKind> {
    let found = sources.iter().map(RunKind::of_data).collect::<Result<Vec<_>>>()?;
    let kinds: Vec<(RunKind, &Source)> = found.into_iter().zip(sources).collect();
    let Some(first) = kinds.first() else { return Ok(RunKind::default()) };
    match kinds.iter().find(|(kind, _)| *kind != first.0) {
        Some(other) => {
            let [first, other] =
                [first, other].map(|(kind, at)| (kind.called().data, at.to_string()));
            Err(Error::Mixed { first, other })
        }
        None => Ok(first.0),
    }
}

/// What a run on these data is called.
fn name(sources: &[Source]) -> String {
    let last = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
    let found = match sources.first() {
        Some(Source::Hub(name)) => Some(last(&name.repository)),
        Some(Source::Fetched(name)) => Some(last(name)),
        Some(Source::Path(path)) => {
            // `.` is called what the folder is called.
            let path = if path.file_name().is_some() {
                path.clone()
            } else {
                path.canonicalize().unwrap_or_else(|_| path.clone())
            };
            let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
            let name = stem.map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            let unpacked = [".jsonl", ".json", ".txt"].iter().find_map(|s| name.strip_suffix(s));
            Some(unpacked.unwrap_or(&name).to_owned())
        }
        _ => None,
    };
    found.filter(|name| !name.is_empty()).unwrap_or_else(|| "run".to_owned())
}

#[cfg(test)]
mod tests {
    use matformer_train::TrainConfig;

    use super::*;
    use crate::{Draft, Lm, RunFile};

    /// A folder with a file of so many bytes, in so many rows.
    fn rows(rows: usize, bytes: usize) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let text = "x".repeat((bytes / rows).saturating_sub(13));
        let row = format!("{{\"text\":\"{text}\"}}\n");
        std::fs::write(root.path().join("my.jsonl"), row.repeat(rows)).unwrap();
        root
    }

    fn starter(root: &Path, preset: Option<&str>) -> Starter {
        let place = root.join("my.jsonl").display().to_string();
        Starter::new(&[place], None, preset).unwrap()
    }

    fn train(starter: &Starter) -> TrainConfig {
        Draft::<Lm>::of(vec![starter.table().clone()], &[]).unwrap().resolve().unwrap().train
    }

    #[test]
    fn a_run_is_sized_by_its_data() {
        let (few, many) = (rows(10, 10_000), rows(20_000, 20_000_000));
        let (few, many) = (starter(few.path(), None), starter(many.path(), None));
        let rows = train(&few);
        assert_eq!((rows.seq_len, rows.tokens_per_step), (Some(128), 1024), "of 5,000 tokens");
        assert_eq!(few.table()["model"]["preset"].as_str(), Some("demo"));
        assert_eq!(many.table()["model"]["preset"].as_str(), Some("small"));
        assert_eq!(few.table()["data"]["held_out"].as_float(), Some(0.2));
        assert_eq!(many.table()["data"]["held_out"].as_float(), Some(0.02));
        assert!(train(&few).steps < train(&many).steps);
        assert_eq!((few.name(), few.kind()), ("my", RunKind::Lm));
        assert!(few.found().contains("10 documents"), "{}", few.found());
    }

    #[test]
    fn every_preset_of_text_makes_a_valid_run() {
        let root = rows(100, 100_000);
        for preset in Lm::presets() {
            let run = Draft::<Lm>::of(vec![starter(root.path(), Some(&preset)).table], &[]);
            let run = run.unwrap().resolve().unwrap();
            let space = matformer_nn::ModelConfig::space(run.shape()).unwrap();
            run.train.validate(&space).unwrap();
            run.train.rows(run.shape_in_training().context).unwrap();
            assert_eq!(*run.shape(), Lm::preset(&preset).unwrap());
        }
        let place = root.path().join("my.jsonl").display().to_string();
        let wrong = Starter::new(std::slice::from_ref(&place), Some(RunKind::Lm), Some("small28"));
        assert!(wrong.unwrap_err().to_string().contains("unknown preset `small28`"));
        let wrong = Starter::new(&[place], None, Some("huge")).unwrap_err().to_string();
        assert!(wrong.starts_with("unknown preset `huge`; there are: demo"), "{wrong}");
    }

    #[test]
    fn the_page_reads_back_as_the_table() {
        let root = rows(100, 100_000);
        let file = root.path().join("my.toml");
        let starter = starter(root.path(), None);
        std::fs::write(&file, starter.page(&file).unwrap()).unwrap();
        let read = RunFile::<Lm>::load(&file, &[]).unwrap();
        let expected: RunFile<Lm> =
            Draft::of(vec![starter.table().clone()], &[]).unwrap().resolve().unwrap();
        assert_eq!((read.model, read.train), (expected.model, expected.train));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("my.jsonl\"]"), "{text}");
        // Every line that shows a default is a key that there is.
        let shown = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(key) if key.split(' ').nth(1) == Some("=") => format!("{key}\n"),
            _ => format!("{line}\n"),
        });
        std::fs::write(&file, shown.collect::<String>()).unwrap();
        RunFile::<Lm>::load(&file, &[]).unwrap();
    }

    #[test]
    fn names_are_those_of_the_data() {
        let named = |text: &str| name(&[text.parse().unwrap()]);
        assert_eq!(named("a/my.jsonl"), "my");
        assert_eq!(named("a/my.jsonl.gz"), "my");
        assert_eq!(named("my.v2.txt"), "my.v2");
        assert_eq!(named("hf:owner/data-set@main:part"), "data-set");
        assert_eq!(named("fetch:prose/shakespeare"), "shakespeare");
        assert!(!named(".").is_empty());
    }
}
