//! Splits of a data set of the Hugging Face Hub.

use std::path::{Path, PathBuf};

use matformer_core::fs;
use matformer_data::{Error as DataError, HubName, Progress, hub_files};
use regex::Regex;

use crate::{
    Error, Result,
    task::Split,
    yaml::{self, Map, Node, Value},
};

/// A data set, and which part of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hub {
    /// `owner/name`.
    pub name: HubName,
    /// `dataset_name`.
    pub config: Option<String>,
}

/// Which files are of a split.
#[derive(Debug, Clone)]
struct Pattern {
    split: String,
    files: Regex,
}

/// Files of `datasets` that describe rows, and hold none.
const ABOUT: [&str; 4] =
    ["dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"];

/// Suffixes of files that are read.
const SUFFIXES: [&str; 7] = [".arrow", ".parquet", ".jsonl", ".json", ".csv", ".tsv", ".ndjson"];

/// Words in the path of a file that say its split.
pub(crate) const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

impl Hub {
    /// The files of `splits`, from the cache or downloaded into it.
    ///
    /// # Errors
    /// [`Error::Data`] for files that cannot be had; [`Error::Hub`] where the data set has no such part.
    pub fn splits(
        &self,
        splits: &[&str],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Split>> {
        let about = HubName { path: Some("README.md".to_owned()), ..self.name.clone() };
        let patterns = match hub_files(&about, &mut |_| {}, progress) {
            Ok(files) => files.first().map(|file| self.patterns(&file.path)).transpose()?.flatten(),
            // It says nothing of its files.
            Err(DataError::NoHubFile { .. } | DataError::Offline { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let split = |file: &str| {
            let found = match &patterns {
                Some(patterns) => patterns.iter().find(|p| p.files.is_match(file))?.split.clone(),
                None => self.split_by_name(file)?,
            };
            splits.contains(&found.as_str()).then_some(found)
        };
        let keep = &mut |files: &mut Vec<String>| files.retain(|file| split(file).is_some());
        let files = hub_files(&self.name, keep, progress)?;
        let of = |name: &&str| {
            let ours = files.iter().filter(|file| split(&file.inside).as_deref() == Some(name));
            let files: Vec<PathBuf> = ours.map(|file| file.path.clone()).collect();
            if files.is_empty() {
                return Err(self.wrong(format!("it has no files of the split `{name}`")));
            }
            Ok(Split { name: (*name).to_owned(), files })
        };
        splits.iter().map(of).collect()
    }

    /// What the data set says of its files, if it does.
    fn patterns(&self, readme: &Path) -> Result<Option<Vec<Pattern>>> {
        let text = fs::read_to_string(readme)?;
        let Some((front, _)) = text.strip_prefix("---\n").and_then(|text| text.split_once("\n---"))
        else {
            return Ok(None);
        };
        let map = yaml::parse(readme, front)?;
        let Some(configs) = get(&map, "configs") else { return Ok(None) };
        let configs = configs.list("configs")?;
        let maps = configs.iter().map(|node| node.map("configs")).collect::<Result<Vec<_>>>()?;
        let name = |map: &&Map| get(map, "config_name").map(|node| node.value.text());
        let wanted = self.config.as_deref();
        let found = match (&maps[..], wanted) {
            ([only], None) => Some(only),
            (maps, wanted) => {
                let wanted = wanted.unwrap_or("default");
                maps.iter().find(|map| name(map).as_deref() == Some(wanted))
            }
        };
        let Some(map) = found else {
            let there: Vec<String> = maps.iter().filter_map(name).collect();
            let wanted = wanted.map_or("is missing".to_owned(), |name| format!("found `{name}`"));
            let reason = format!("`dataset_name`: {wanted}, expected one of {}", there.join(", "));
            return Err(self.wrong(reason));
        };
        get(map, "data_files").map(data_files).transpose()
    }

    /// The split that the path of a file names, where the data set says nothing.
    pub(crate) fn split_by_name(&self, file: &str) -> Option<String> {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        if !SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || ABOUT.contains(&name) {
            return None;
        }
        if let Some(config) = &self.config
            && !folder.split('/').any(|part| part == config)
        {
            return None;
        }
        let lower = file.to_lowercase();
        let mut words = lower.rsplit(|c: char| !c.is_ascii_alphanumeric());
        words.find_map(|word| {
            let named = SPLITS.iter().find(|(_, words)| words.contains(&word));
            named.map(|(split, _)| (*split).to_owned())
        })
    }

    pub(crate) fn wrong(&self, reason: String) -> Error {
        Error::Hub { name: self.name.to_string(), reason }
    }
}

fn get<'a>(map: &'a Map, key: &str) -> Option<&'a Node> {
    map.iter().find(|(other, _)| other == key).map(|(_, node)| node)
}

/// A pattern, several, or some for each split.
fn data_files(node: &Node) -> Result<Vec<Pattern>> {
    const KEY: &str = "data_files";
    let glob = |split: &str, node: &Node| {
        let files = regex_of(&node.text(KEY)?);
        let files = files.ok_or_else(|| node.wrong(KEY, "a pattern with `*`, `**` and `?`"))?;
        Ok(Pattern { split: split.to_owned(), files })
    };
    let globs = |split: &str, node: &Node| match &node.value {
        Value::List(items) => items.iter().map(|item| glob(split, item)).collect(),
        _ => Ok(vec![glob(split, node)?]),
    };
    let items = match &node.value {
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => items,
        _ => return globs("train", node),
    };
    let mut patterns: Vec<Pattern> = Vec::new();
    for item in items {
        let map = item.map(KEY)?;
        let missing = |key: &str| Error::Missing { path: item.path.clone(), key: key.to_owned() };
        let split = get(map, "split").ok_or_else(|| missing("split"))?.value.text();
        let found: Vec<Pattern> = globs(&split, get(map, "path").ok_or_else(|| missing("path"))?)?;
        patterns.extend(found);
    }
    Ok(patterns)
}

/// A pattern of paths.
fn regex_of(glob: &str) -> Option<Regex> {
    let mut regex = String::from("^");
    let mut rest = glob;
    while let Some(next) = rest.chars().next() {
        let (piece, taken) = match rest {
            _ if rest.starts_with("**/") => ("(?:.*/)?".to_owned(), 3),
            _ if rest.starts_with("**") => (".*".to_owned(), 2),
            _ if next == '*' => ("[^/]*".to_owned(), 1),
            _ if next == '?' => ("[^/]".to_owned(), 1),
            _ => (regex::escape(&next.to_string()), next.len_utf8()),
        };
        regex.push_str(&piece);
        rest = &rest[taken..];
    }
    Regex::new(&format!("{regex}$")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(config: Option<&str>) -> Hub {
        Hub { name: "own/set".parse().unwrap(), config: config.map(str::to_owned) }
    }

    fn patterns(front: &str, config: Option<&str>) -> Result<Option<Vec<Pattern>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("README.md");
        std::fs::write(&path, format!("---\n{front}---\n# A set\n")).unwrap();
        hub(config).patterns(&path)
    }

    const CONFIGS: &str = "\
license: mit
configs:
- config_name: easy
  data_files:
  - split: train
    path: easy/train-*
  - split: test
    path:
    - easy/test-*
    - more/**/test.jsonl
- config_name: hard
  data_files: hard/*.csv
";

    #[test]
    fn a_data_set_says_which_files_are_of_a_split() {
        let found = patterns(CONFIGS, Some("easy")).unwrap().unwrap();
        let split = |file: &str| {
            found.iter().find(|p| p.files.is_match(file)).map(|pattern| pattern.split.clone())
        };
        assert_eq!(split("easy/train-00000-of-00001.parquet").as_deref(), Some("train"));
        assert_eq!(split("more/test.jsonl").as_deref(), Some("test"));
        assert_eq!(split("more/a/b/test.jsonl").as_deref(), Some("test"));
        assert_eq!((split("easy/more/train-0"), split("hard/a.csv")), (None, None));
        let found = patterns(CONFIGS, Some("hard")).unwrap().unwrap();
        assert!(
            found.len() == 1 && found[0].split == "train" && found[0].files.is_match("hard/a.csv")
        );
        assert!(patterns("license: mit\n", None).unwrap().is_none());
        let error = patterns(CONFIGS, None).unwrap_err().to_string();
        assert!(
            error.contains("`dataset_name`: is missing, expected one of easy, hard"),
            "{error}"
        );
    }

    #[test]
    fn names_of_files_say_their_split() {
        let split = |config, file: &str| hub(config).split_by_name(file);
        assert_eq!(split(None, "data/dev.jsonl").as_deref(), Some("validation"));
        assert_eq!(split(None, "test/train-0.parquet").as_deref(), Some("train"));
        assert_eq!((split(None, "train.py"), split(None, "all.csv")), (None, None));
        assert_eq!(split(Some("easy"), "easy/test.csv").as_deref(), Some("test"));
        assert_eq!(split(Some("easy"), "hard/test.csv"), None);
    }
}
