//! A task as its YAML file defines it.

use std::path::{Path, PathBuf};

use matformer_data::Progress;
use walkdir::WalkDir;

use crate::{
    Error, Metric, OutputType, Result, built_in,
    filter::Filters,
    hooks::{self, Hook},
    hub::Hub,
    keys::{self, Keys},
    matching::Matching,
    rows::{self, Row},
    yaml,
};

/// A field of an example: a column, a template, a function, or the same for all.
#[derive(Debug, Clone)]
pub(crate) enum Field {
    /// The name of a column, or a template.
    Text(String),
    Int(i64),
    List(Vec<String>),
    /// What a known Python function gives.
    Hook(Hook),
}

/// Which rows few-shot examples are taken from, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shots {
    /// The split that the task names for them.
    pub split: Option<String>,
    /// Take the first ones, rather than drawing them.
    pub first: bool,
}

/// The rows of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// As the task calls it.
    pub name: String,
    /// Its files, in their order.
    pub files: Vec<PathBuf>,
}

/// Where rows are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// In files of JSON.
    Json(Vec<Split>),
    /// In tables.
    Tables(Vec<Split>),
    /// On the hub.
    Hub(Hub),
}

/// How texts are generated: greedily.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Strings that end the text; they are not part of it.
    pub until: Vec<String>,
    /// Most new tokens.
    pub max_tokens: usize,
}

impl Generation {
    /// The text in front of the first of the strings that end it.
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        let ends = self.until.iter().filter(|end| !end.is_empty());
        ends.fold(text, |text, end| text.split(end.as_str()).next().unwrap_or(text))
    }
}

/// A task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The file that defines it.
    pub path: PathBuf,
    /// What it asks a model for.
    pub output: OutputType,
    /// Its scores, in the order of the file.
    pub metrics: Vec<Metric>,
    /// Number of few-shot examples; if 0 is written there, it is not overridden.
    pub num_fewshot: Option<usize>,
    /// How texts are generated, where the task asks for that.
    pub generation: Generation,
    /// What is made of generated texts before they are compared: each has scores of its own; at least one.
    pub filters: Vec<Filters>,
    pub(crate) matching: Matching,
    pub(crate) source: Source,
    /// Makes another row of each row.
    pub(crate) process: Option<Hook>,
    pub(crate) training: Option<String>,
    pub(crate) validation: Option<String>,
    pub(crate) test: Option<String>,
    pub(crate) shots: Shots,
    pub(crate) text: Field,
    pub(crate) target: Field,
    pub(crate) choice: Option<Field>,
    pub(crate) description: String,
    pub(crate) target_delimiter: String,
    pub(crate) fewshot_delimiter: String,
}

impl Task {
    /// The task `name`, from the YAML files in `folder` and below.
    ///
    /// # Errors
    /// [`Error::UnknownTask`]; [`Error::Folder`] for a folder that cannot be read; as [`Task::read`].
    pub fn find(folder: &Path, name: &str) -> Result<Self> {
        let mut files = 0;
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry?;
            let path = entry.path();
            if !path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
            {
                continue;
            }
            files += 1;
            let text = matformer_core::fs::read_to_string(path)?;
            let names = |line: &str| {
                let value = line.strip_prefix("task:")?.split(" #").next()?.trim();
                Some(value.trim_matches(['"', '\'']).to_owned())
            };
            if text.lines().filter_map(names).any(|found| found == name) {
                return Self::read(path);
            }
        }
        Err(Error::UnknownTask { name: name.to_owned(), folder: folder.to_owned(), files })
    }

    /// A built-in task, if there is one of this name.
    ///
    /// # Errors
    /// As [`Task::read`].
    pub fn built_in(name: &str) -> Result<Option<Self>> {
        let Some(text) = built_in::text(name) else { return Ok(None) };
        let path = Path::new(hooks::BUILT_IN).join(format!("{name}.yaml"));
        let map = yaml::parse(&path, text)?;
        Self::of(&Keys { path: &path, map: &map }).map(Some)
    }

    /// The task in a YAML file.
    ///
    /// # Errors
    /// [`Error::Yaml`]; [`Error::Key`], [`Error::UnknownKey`] or [`Error::Missing`] for what cannot be scored as the
    /// file says.
    pub fn read(path: &Path) -> Result<Self> {
        let map = yaml::read(path)?;
        Self::of(&Keys { path, map: &map })
    }

    fn of(keys: &Keys<'_>) -> Result<Self> {
        keys.check()?;
        if let Some(node) = keys.get("repeats").filter(|node| node.value != yaml::Value::Int(1)) {
            return Err(node.wrong("repeats", "1"));
        }
        let output = keys.output()?;
        let split = |key| keys.get(key).map(|node| node.text(key)).transpose();
        let text = |key, default: &str| {
            keys.get(key).map_or_else(|| Ok(default.to_owned()), |node| node.text(key))
        };
        let choice = match output {
            OutputType::MultipleChoice => Some(keys.needed("doc_to_choice")?),
            _ => keys.get("doc_to_choice"),
        };
        let fewshot_delimiter = text("fewshot_delimiter", "\n\n")?;
        let (metrics, matching) = keys.metrics(output)?;
        let task = Self {
            name: keys.needed("task")?.text("task")?,
            path: keys.path.to_owned(),
            output,
            metrics,
            num_fewshot: keys
                .get("num_fewshot")
                .map(|node| node.count("num_fewshot"))
                .transpose()?,
            generation: keys.generation(&fewshot_delimiter)?,
            filters: keys.filters(output)?,
            matching,
            source: keys.source()?,
            process: keys.hook("process_docs")?,
            training: split("training_split")?,
            validation: split("validation_split")?,
            test: split("test_split")?,
            shots: keys.shots()?,
            text: keys::field(keys.needed("doc_to_text")?, "doc_to_text")?,
            target: keys::field(keys.needed("doc_to_target")?, "doc_to_target")?,
            choice: choice.map(|node| keys::field(node, "doc_to_choice")).transpose()?,
            description: text("description", "")?,
            target_delimiter: text("target_delimiter", " ")?,
            fewshot_delimiter,
        };
        if task.test.is_none() && task.validation.is_none() {
            let key = "test_split` or `validation_split".to_owned();
            return Err(Error::Missing { path: keys.path.to_owned(), key });
        }
        Ok(task)
    }

    /// The same task over other rows, in files of JSON.
    pub fn over(self, splits: Vec<Split>) -> Self {
        Self { source: Source::Json(splits), ..self }
    }

    /// Fetches the data set of a task of the hub, where it is not in the cache; `shots` as in [`Task::examples`].
    ///
    /// # Errors
    /// [`Error::Data`] for what cannot be had; [`Error::Hub`] for a data set without the task's splits.
    pub fn fetch(
        &mut self,
        shots: Option<usize>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let Source::Hub(hub) = &self.source else { return Ok(()) };
        let mut splits = vec![self.scored()];
        if self.shots_of(shots) > 0 && self.shot_split() != self.scored() {
            splits.push(self.shot_split());
        }
        let found = hub.splits(&splits, progress)?;
        self.source = Source::Tables(found);
        Ok(())
    }

    /// Few-shot examples of each example, where `asked` are asked for.
    pub(crate) fn shots_of(&self, asked: Option<usize>) -> usize {
        match self.num_fewshot {
            // As in lm-evaluation-harness: a task that says 0 gets 0.
            Some(0) => 0,
            own => asked.or(own).unwrap_or(0),
        }
    }

    /// The rows of a split.
    pub(crate) fn rows(&self, split: &str) -> Result<Vec<Row>> {
        let (splits, is_json) = match &self.source {
            Source::Json(splits) => (splits, true),
            Source::Tables(splits) => (splits, false),
            Source::Hub(_) => return Err(Error::NotFetched { task: self.name.clone() }),
        };
        let read = |file: &PathBuf| if is_json { rows::json(file) } else { rows::any(file) };
        let missing = || Error::Missing {
            path: self.path.clone(),
            key: format!("dataset_kwargs.data_files.{split}"),
        };
        let found = splits.iter().find(|other| other.name == split).ok_or_else(missing)?;
        let rows = found.files.iter().map(read).collect::<Result<Vec<_>>>()?;
        let rows = rows.into_iter().flatten();
        let Some(process) = self.process else { return Ok(rows.collect()) };
        let processed = |row: Row| match process(&row.columns) {
            Ok(serde_json::Value::Object(columns)) => Ok(Row { columns, ..row }),
            Ok(other) => {
                let reason = format!("gives {other}, expected a row");
                Err(Error::Processed { at: row.at, reason })
            }
            Err(reason) => Err(Error::Processed { at: row.at, reason }),
        };
        rows.map(processed).collect()
    }

    /// Whether scores depend on which continuations are the most likely ones.
    pub fn needs_greedy(&self) -> bool {
        let of = |metric: &Metric| match self.output {
            OutputType::Loglikelihood => *metric == Metric::Acc,
            OutputType::MultipleChoice => *metric == Metric::ExactMatch,
            OutputType::LoglikelihoodRolling | OutputType::GenerateUntil => false,
        };
        self.metrics.iter().any(of)
    }

    /// Whether answers are compared by their words.
    pub(crate) fn compares_words(&self) -> bool {
        self.metrics.iter().any(|metric| matches!(metric, Metric::F1 | Metric::Em))
    }

    /// The split that is scored.
    pub fn scored(&self) -> &str {
        self.test.as_deref().or(self.validation.as_deref()).unwrap_or_default()
    }

    /// The split that few-shot examples are taken from.
    pub(crate) fn shot_split(&self) -> &str {
        let named = self.shots.split.as_deref().or(self.training.as_deref());
        named.or(self.validation.as_deref()).unwrap_or_else(|| self.scored())
    }
}
