//! A task as its YAML file defines it.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::{
    Error, Metric, OutputType, Result,
    keys::{self, Keys},
    matching::Matching,
    yaml,
};

/// A field of an example: a column, a template, or the same for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// The name of a column, or a template.
    Text(String),
    Int(i64),
    List(Vec<String>),
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
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    pub name: String,
    pub files: Vec<PathBuf>,
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
    pub(crate) matching: Matching,
    pub(crate) splits: Vec<Split>,
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

    /// The task in a YAML file.
    ///
    /// # Errors
    /// [`Error::Yaml`]; [`Error::Key`], [`Error::UnknownKey`] or [`Error::Missing`] for what cannot be scored as the
    /// file says.
    pub fn read(path: &Path) -> Result<Self> {
        let map = yaml::read(path)?;
        let keys = Keys { path, map: &map };
        keys.check()?;
        keys.only("dataset_path", "json", "`json`: other data sets are not supported yet")?;
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
            path: path.to_owned(),
            output,
            metrics,
            num_fewshot: keys
                .get("num_fewshot")
                .map(|node| node.count("num_fewshot"))
                .transpose()?,
            generation: keys.generation(&fewshot_delimiter)?,
            matching: Matching { strip: keys.strips(output)?, ..matching },
            splits: keys.splits()?,
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
            return Err(Error::Missing { path: path.to_owned(), key });
        }
        Ok(task)
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

    /// The split that is scored.
    pub(crate) fn scored(&self) -> &str {
        self.test.as_deref().or(self.validation.as_deref()).unwrap_or_default()
    }

    /// The split that few-shot examples are taken from.
    pub(crate) fn shot_split(&self) -> &str {
        let named = self.shots.split.as_deref().or(self.training.as_deref());
        named.or(self.validation.as_deref()).unwrap_or_else(|| self.scored())
    }
}
