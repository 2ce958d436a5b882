//! The keys of a task file.

use std::path::{Path, PathBuf};

use fancy_regex::Regex;

use crate::{
    Error, Metric, OutputType, Result,
    hooks::{self, Hook},
    hub::Hub,
    matching::Matching,
    render,
    task::{Field, Generation, Shots, Source, Split},
    yaml::{Map, Node, Value},
};

/// Keys that say how examples become scores.
const KEYS: [&str; 23] = [
    "task",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "output_type",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "fewshot_config",
    "process_docs",
    "process_results",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "num_fewshot",
    "generation_kwargs",
    "filter_list",
    "metric_list",
    "repeats",
];

/// Keys that change no score.
const IGNORED: [&str; 5] =
    ["tag", "task_alias", "metadata", "should_decontaminate", "doc_to_decontamination_query"];

/// Where the files of a task are named.
const DATA_FILES: &str = "dataset_kwargs.data_files";

/// New tokens of an answer at most, where the task does not say.
const MAX_TOKENS: usize = 256;

/// The value of `doc_to_text`, `doc_to_target` or `doc_to_choice`.
pub(crate) fn field(node: &Node, key: &str) -> Result<Field> {
    match &node.value {
        Value::Int(value) => Ok(Field::Int(*value)),
        Value::List(items) => {
            Ok(Field::List(items.iter().map(|item| item.text(key)).collect::<Result<_>>()?))
        }
        Value::Map(pairs) => {
            Ok(Field::List(pairs.iter().map(|(_, item)| item.text(key)).collect::<Result<_>>()?))
        }
        Value::Function(name) => {
            let hook = hooks::find(&node.path, name);
            hook.map(Field::Hook).ok_or_else(|| node.wrong(key, UNKNOWN_FUNCTION))
        }
        _ => {
            let template = node.text(key)?;
            render::check(&template)
                .map_err(|reason| node.wrong(key, &format!("a Jinja template; {reason}")))?;
            Ok(Field::Text(template))
        }
    }
}

const UNKNOWN_FUNCTION: &str = "a value, a template, or a function of lm-evaluation-harness' own tasks \
                                that is known here: Python is not run";

/// A task file's keys.
pub(crate) struct Keys<'a> {
    pub path: &'a Path,
    pub map: &'a Map,
}

impl Keys<'_> {
    pub fn get(&self, key: &str) -> Option<&Node> {
        let found = self.map.iter().find(|(other, _)| other == key);
        found.map(|(_, node)| node).filter(|node| node.value != Value::Null)
    }

    pub fn needed(&self, key: &str) -> Result<&Node> {
        let missing = || Error::Missing { path: self.path.to_owned(), key: key.to_owned() };
        self.get(key).ok_or_else(missing)
    }

    pub fn check(&self) -> Result<()> {
        let known = |key: &str| KEYS.contains(&key) || IGNORED.contains(&key);
        let unknown = self.map.iter().find(|(key, node)| !known(key) && node.value != Value::Null);
        match unknown {
            Some((key, node)) => Err(unknown_key(node, key, &KEYS)),
            None => Ok(()),
        }
    }

    /// A function of rows.
    pub fn hook(&self, key: &str) -> Result<Option<Hook>> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let found = match &node.value {
            Value::Function(name) => hooks::find(&node.path, name),
            _ => None,
        };
        found.map(Some).ok_or_else(|| node.wrong(key, UNKNOWN_FUNCTION))
    }

    /// Whether answers are compared by their words, as the function of ReCoRD does.
    fn compares_words(&self) -> Result<bool> {
        let Some(node) = self.get("process_results") else { return Ok(false) };
        match &node.value {
            Value::Function(name) if hooks::is(&node.path, name, "record.process_results") => {
                Ok(true)
            }
            _ => Err(node.wrong("process_results", UNKNOWN_FUNCTION)),
        }
    }

    pub fn output(&self) -> Result<OutputType> {
        let Some(node) = self.get("output_type") else { return Ok(OutputType::GenerateUntil) };
        let named = |output: &OutputType| output.name() == node.value.text();
        let found = OutputType::ALL.into_iter().find(named);
        found.ok_or_else(|| node.wrong("output_type", &one_of(&OutputType::ALL.map(|o| o.name()))))
    }

    /// Where rows are: in files, of which each split has some, or on the hub.
    pub fn source(&self) -> Result<Source> {
        let node = self.needed("dataset_path")?;
        let path = node.text("dataset_path")?;
        let config = self.get("dataset_name").map(|node| node.text("dataset_name")).transpose()?;
        match path.as_str() {
            "json" => Ok(Source::Json(self.splits()?)),
            "arrow" | "csv" | "parquet" => Ok(Source::Tables(self.splits()?)),
            _ => {
                if let Some(node) = self.data_files()? {
                    let expected = "no files: those of the data set are read";
                    return Err(node.wrong(DATA_FILES, expected));
                }
                let expected = "`json`, `csv`, `parquet`, `arrow`, or `OWNER/NAME` of the hub";
                let name = path.parse().map_err(|_| node.wrong("dataset_path", expected))?;
                Ok(Source::Hub(Hub { name, config }))
            }
        }
    }

    fn data_files(&self) -> Result<Option<&Node>> {
        let Some(kwargs) = self.get("dataset_kwargs") else { return Ok(None) };
        let mut found = None;
        for (key, node) in kwargs.map("dataset_kwargs")? {
            match key.as_str() {
                "data_files" => found = Some(node),
                // Nothing of a data set is run.
                "trust_remote_code" => {}
                _ => {
                    return Err(unknown_key(node, &format!("dataset_kwargs.{key}"), &[DATA_FILES]));
                }
            }
        }
        Ok(found)
    }

    /// Files of each split: `data_files` is one file, a list of them, or either for each split.
    fn splits(&self) -> Result<Vec<Split>> {
        let missing = || Error::Missing { path: self.path.to_owned(), key: DATA_FILES.to_owned() };
        let node = self.data_files()?.ok_or_else(missing)?;
        let Value::Map(map) = &node.value else {
            return Ok(vec![Split { name: "train".to_owned(), files: files(node, DATA_FILES)? }]);
        };
        let split = |(name, node): &(String, Node)| {
            Ok(Split { name: name.clone(), files: files(node, &format!("{DATA_FILES}.{name}"))? })
        };
        map.iter().map(split).collect()
    }

    pub fn shots(&self) -> Result<Shots> {
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

    /// `generation_kwargs`: texts are generated greedily, until one of some strings.
    pub fn generation(&self, fewshot_delimiter: &str) -> Result<Generation> {
        let mut generation =
            Generation { until: vec![fewshot_delimiter.to_owned()], max_tokens: MAX_TOKENS };
        let Some(node) = self.get("generation_kwargs") else { return Ok(generation) };
        for (key, node) in node.map("generation_kwargs")? {
            let name = format!("generation_kwargs.{key}");
            match (key.as_str(), &node.value) {
                ("until", Value::List(items)) => {
                    generation.until =
                        items.iter().map(|item| item.text(&name)).collect::<Result<_>>()?;
                }
                ("until", _) => generation.until = vec![node.text(&name)?],
                ("max_gen_toks", _) => generation.max_tokens = node.positive(&name)?,
                ("do_sample", Value::Bool(false)) => {}
                ("do_sample", _) => return Err(node.wrong(&name, "`false`: nothing is drawn")),
                ("temperature", value) if value.is_zero() => {}
                ("temperature", _) => return Err(node.wrong(&name, "0: nothing is drawn")),
                _ => {
                    let known = ["until", "max_gen_toks", "do_sample", "temperature"];
                    let known = known.map(|key| format!("generation_kwargs.{key}"));
                    return Err(unknown_key(node, &name, &known.each_ref().map(|k| k.as_str())));
                }
            }
        }
        Ok(generation)
    }

    /// `metric_list`, with what `exact_match` ignores.
    pub fn metrics(&self, output: OutputType) -> Result<(Vec<Metric>, Matching)> {
        let mut matching = Matching::default();
        let may = if self.compares_words()? { &WORDS } else { output.metrics() };
        let Some(list) = self.get("metric_list") else {
            return Ok((output.default_metrics().to_vec(), matching));
        };
        let items = list.list("metric_list")?.iter();
        let metrics = items.map(|node| metric(node, output, may, &mut matching));
        let metrics = metrics.collect::<Result<Vec<_>>>()?;
        Ok((metrics, matching))
    }
}

/// Scores of answers that are compared by their words.
const WORDS: [Metric; 2] = [Metric::F1, Metric::Em];

fn metric(
    node: &Node,
    output: OutputType,
    may: &[Metric],
    matching: &mut Matching,
) -> Result<Metric> {
    const KEYS: [&str; 7] = [
        "metric_list.metric",
        "metric_list.aggregation",
        "metric_list.higher_is_better",
        "metric_list.regexes_to_ignore",
        "metric_list.ignore_case",
        "metric_list.ignore_punctuation",
        "metric_list.ignore_numbers",
    ];
    let pairs = node.map("metric_list")?;
    let named = pairs.iter().find(|(key, _)| key == "metric").map(|(_, node)| node);
    let missing = || Error::Missing { path: node.path.clone(), key: KEYS[0].to_owned() };
    let named = named.ok_or_else(missing)?;
    let found = may.iter().find(|metric| metric.name() == named.value.text());
    let names: Vec<&str> = may.iter().map(|metric| metric.name()).collect();
    let metric = *found.ok_or_else(|| named.wrong(KEYS[0], &one_of(&names)))?;
    if metric == Metric::MacroF1 && pairs.iter().all(|(key, _)| key != "aggregation") {
        return Err(named.wrong(KEYS[0], "a score, or `aggregation: !function` of CommitmentBank"));
    }
    let compares = metric == Metric::ExactMatch && output == OutputType::GenerateUntil;
    for (key, node) in pairs {
        let name = format!("metric_list.{key}");
        match (key.as_str(), &node.value) {
            ("metric", _) | ("higher_is_better", Value::Bool(_)) => {}
            ("aggregation", Value::Function(name))
                if metric == Metric::MacroF1 && hooks::is(&node.path, name, "cb.cb_multi_fi") => {}
            ("aggregation", value) if value.text() == metric.aggregation_name() => {}
            ("aggregation", _) => {
                return Err(node.wrong(&name, &one_of(&[metric.aggregation_name()])));
            }
            ("higher_is_better", _) => return Err(node.wrong(&name, TRUE_OR_FALSE)),
            ("regexes_to_ignore", _) if compares => matching.ignored = regexes(node, &name)?,
            ("ignore_case", _) if compares => matching.ignore_case = node.bool(&name)?,
            ("ignore_punctuation", _) if compares => {
                matching.ignore_punctuation = node.bool(&name)?;
            }
            ("ignore_numbers", _) if compares => matching.ignore_numbers = node.bool(&name)?,
            _ => {
                let known = if compares { &KEYS[..] } else { &KEYS[..3] };
                return Err(unknown_key(node, &name, known));
            }
        }
    }
    Ok(metric)
}

const TRUE_OR_FALSE: &str = "`true` or `false`";

impl Node {
    fn bool(&self, key: &str) -> Result<bool> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong(key, TRUE_OR_FALSE)),
        }
    }

    pub(crate) fn int(&self, key: &str) -> Result<i64> {
        match self.value {
            Value::Int(value) => Ok(value),
            _ => Err(self.wrong(key, "a whole number")),
        }
    }

    fn positive(&self, key: &str) -> Result<usize> {
        match self.count(key)? {
            0 => Err(self.wrong(key, "1 or more")),
            count => Ok(count),
        }
    }
}

impl Value {
    fn is_zero(&self) -> bool {
        matches!(self, Self::Int(0)) || matches!(self, Self::Float(value) if *value == 0.0)
    }
}

fn regexes(node: &Node, key: &str) -> Result<Vec<Regex>> {
    node.list(key)?.iter().map(|node| regex(node, key)).collect()
}

pub(crate) fn regex(node: &Node, key: &str) -> Result<Regex> {
    Regex::new(&node.text(key)?).map_err(|_| node.wrong(key, "a regular expression"))
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

pub(crate) fn unknown_key(node: &Node, key: &str, known: &[&str]) -> Error {
    Error::UnknownKey {
        path: node.path.clone(),
        line: node.line,
        key: key.to_owned(),
        expected: quoted(known).join(", "),
    }
}

fn quoted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

/// `` `a`, `b` or `c` ``
fn one_of(names: &[&str]) -> String {
    let mut names = quoted(names);
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}
