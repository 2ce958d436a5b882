//! A task as its YAML file defines it.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::{
    Error, Result,
    yaml::{self, Map, Node, Value},
};

/// Keys that say how examples become scores.
const KEYS: [&str; 18] = [
    "task",
    "dataset_path",
    "dataset_kwargs",
    "output_type",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "fewshot_config",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "num_fewshot",
    "metric_list",
    "repeats",
];

/// Keys that change no score.
const IGNORED: [&str; 5] =
    ["tag", "task_alias", "metadata", "should_decontaminate", "doc_to_decontamination_query"];

/// A score of a multiple-choice task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of examples whose correct choice has the highest log-likelihood.
    Acc,
    /// The same, with log-likelihoods divided by the number of characters.
    AccNorm,
    /// The same, with log-likelihoods divided by the number of bytes.
    AccBytes,
}

impl Metric {
    const ALL: [Self; 3] = [Self::Acc, Self::AccNorm, Self::AccBytes];

    /// As task files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
        }
    }
}

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

/// A multiple-choice task.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The file that defines it.
    pub path: PathBuf,
    /// Its scores, in the order of the file.
    pub metrics: Vec<Metric>,
    /// Number of few-shot examples; if 0 is written there, it is not overridden.
    pub num_fewshot: Option<usize>,
    pub(crate) splits: Vec<Split>,
    pub(crate) training: Option<String>,
    pub(crate) validation: Option<String>,
    pub(crate) test: Option<String>,
    pub(crate) shots: Shots,
    pub(crate) text: Field,
    pub(crate) target: Field,
    pub(crate) choice: Field,
    pub(crate) description: String,
    pub(crate) target_delimiter: String,
    pub(crate) fewshot_delimiter: String,
}

impl Task {
    /// The task `name`, from the YAML files in `folder` and below.
    ///
    /// # Errors
    /// [`Error::UnknownTask`], and as [`Task::read`].
    pub fn find(folder: &Path, name: &str) -> Result<Self> {
        let mut files = 0;
        let entries = WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
        for entry in entries {
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
        keys.only("output_type", "multiple_choice", "`multiple_choice`")?;
        if let Some(node) = keys.get("repeats").filter(|node| node.value != Value::Int(1)) {
            return Err(node.wrong("repeats", "1"));
        }
        let split = |key| keys.get(key).map(|node| node.text(key)).transpose();
        let text = |key, default: &str| {
            keys.get(key).map_or(Ok(default.to_owned()), |node| node.text(key))
        };
        let task = Self {
            name: keys.needed("task")?.text("task")?,
            path: path.to_owned(),
            metrics: keys.metrics()?,
            num_fewshot: keys
                .get("num_fewshot")
                .map(|node| node.count("num_fewshot"))
                .transpose()?,
            splits: keys.splits()?,
            training: split("training_split")?,
            validation: split("validation_split")?,
            test: split("test_split")?,
            shots: keys.shots()?,
            text: field(keys.needed("doc_to_text")?, "doc_to_text")?,
            target: field(keys.needed("doc_to_target")?, "doc_to_target")?,
            choice: field(keys.needed("doc_to_choice")?, "doc_to_choice")?,
            description: text("description", "")?,
            target_delimiter: text("target_delimiter", " ")?,
            fewshot_delimiter: text("fewshot_delimiter", "\n\n")?,
        };
        if task.test.is_none() && task.validation.is_none() {
            let key = "test_split` or `validation_split".to_owned();
            return Err(Error::Missing { path: path.to_owned(), key });
        }
        Ok(task)
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

fn field(node: &Node, key: &str) -> Result<Field> {
    match &node.value {
        Value::Int(value) => Ok(Field::Int(*value)),
        Value::List(items) => {
            Ok(Field::List(items.iter().map(|item| item.text(key)).collect::<Result<_>>()?))
        }
        Value::Map(pairs) => {
            Ok(Field::List(pairs.iter().map(|(_, item)| item.text(key)).collect::<Result<_>>()?))
        }
        _ => node.text(key).map(Field::Text),
    }
}

/// A task file's keys.
struct Keys<'a> {
    path: &'a Path,
    map: &'a Map,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Node> {
        let found = self.map.iter().find(|(other, _)| other == key);
        found.map(|(_, node)| node).filter(|node| node.value != Value::Null)
    }

    fn needed(&self, key: &str) -> Result<&Node> {
        let missing = || Error::Missing { path: self.path.to_owned(), key: key.to_owned() };
        self.get(key).ok_or_else(missing)
    }

    fn only(&self, key: &str, value: &str, expected: &str) -> Result<()> {
        let node = self.needed(key)?;
        if node.text(key)? == value { Ok(()) } else { Err(node.wrong(key, expected)) }
    }

    fn check(&self) -> Result<()> {
        let known = |key: &str| KEYS.contains(&key) || IGNORED.contains(&key);
        let unknown = self.map.iter().find(|(key, node)| !known(key) && node.value != Value::Null);
        match unknown {
            Some((key, node)) => Err(unknown_key(node, key, &KEYS)),
            None => Ok(()),
        }
    }

    /// Files of each split: `data_files` is one file, a list of them, or either for each split.
    fn splits(&self) -> Result<Vec<Split>> {
        const KEY: &str = "dataset_kwargs.data_files";
        let kwargs = self.needed("dataset_kwargs")?;
        let mut found = None;
        for (key, node) in kwargs.map("dataset_kwargs")? {
            if key != "data_files" {
                return Err(unknown_key(node, &format!("dataset_kwargs.{key}"), &[KEY]));
            }
            found = Some(node);
        }
        let missing = || Error::Missing { path: self.path.to_owned(), key: KEY.to_owned() };
        let node = found.ok_or_else(missing)?;
        let Value::Map(map) = &node.value else {
            return Ok(vec![Split { name: "train".to_owned(), files: files(node, KEY)? }]);
        };
        let split = |(name, node): &(String, Node)| {
            Ok(Split { name: name.clone(), files: files(node, &format!("{KEY}.{name}"))? })
        };
        map.iter().map(split).collect()
    }

    fn shots(&self) -> Result<Shots> {
        let split = self.get("fewshot_split").map(|node| node.text("fewshot_split")).transpose()?;
        let mut shots = Shots { split, first: false };
        let Some(node) = self.get("fewshot_config") else { return Ok(shots) };
        for (key, node) in node.map("fewshot_config")? {
            let name = format!("fewshot_config.{key}");
            match (key.as_str(), &node.value) {
                ("sampler", Value::Text(sampler)) if sampler == "default" => shots.first = false,
                ("sampler", Value::Text(sampler)) if sampler == "first_n" => shots.first = true,
                ("sampler", _) => return Err(node.wrong(&name, "`default` or `first_n`")),
                ("split", _) => shots.split = Some(node.text(&name)?),
                _ => {
                    let known = ["fewshot_config.sampler", "fewshot_config.split"];
                    return Err(unknown_key(node, &name, &known));
                }
            }
        }
        Ok(shots)
    }

    fn metrics(&self) -> Result<Vec<Metric>> {
        let Some(list) = self.get("metric_list") else {
            return Ok(vec![Metric::Acc, Metric::AccNorm]);
        };
        list.list("metric_list")?.iter().map(metric).collect()
    }
}

fn metric(node: &Node) -> Result<Metric> {
    let mut found = None;
    for (key, node) in node.map("metric_list")? {
        let name = format!("metric_list.{key}");
        match (key.as_str(), &node.value) {
            ("metric", value) => {
                let named = |metric: &Metric| metric.name() == value.text();
                let metric = Metric::ALL.into_iter().find(named);
                let expected = "`acc`, `acc_norm` or `acc_bytes`";
                found = Some(metric.ok_or_else(|| node.wrong(&name, expected))?);
            }
            ("aggregation", Value::Text(mean)) if mean == "mean" => {}
            ("aggregation", _) => return Err(node.wrong(&name, "`mean`")),
            ("higher_is_better", Value::Bool(true)) => {}
            ("higher_is_better", _) => return Err(node.wrong(&name, "`true`")),
            _ => {
                let known = [
                    "metric_list.metric",
                    "metric_list.aggregation",
                    "metric_list.higher_is_better",
                ];
                return Err(unknown_key(node, &name, &known));
            }
        }
    }
    let missing =
        || Error::Missing { path: node.path.clone(), key: "metric_list.metric".to_owned() };
    found.ok_or_else(missing)
}

/// A file is looked for in the working directory, as by lm-evaluation-harness, then beside the task file.
fn files(node: &Node, key: &str) -> Result<Vec<PathBuf>> {
    let file = |node: &Node| {
        let written = PathBuf::from(node.text(key)?);
        let beside = node.path.parent().unwrap_or(Path::new("")).join(&written);
        Ok(if !written.is_file() && beside.is_file() { beside } else { written })
    };
    match &node.value {
        Value::List(items) => items.iter().map(file).collect(),
        _ => Ok(vec![file(node)?]),
    }
}

fn unknown_key(node: &Node, key: &str, known: &[&str]) -> Error {
    let expected: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    Error::UnknownKey {
        path: node.path.clone(),
        line: node.line,
        key: key.to_owned(),
        expected: expected.join(", "),
    }
}
