//! The splits of a dataset repository, by the names of its files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::format::{self, Format, Kind};
use crate::inputs::Part;

/// Words in the path of a file that is trained on.
const TRAIN: [&str; 2] = ["train", "training"];
/// Words in the path of a file that is held out.
const VALIDATION: [&str; 4] = ["validation", "valid", "val", "dev"];
/// Words in the path of a file that is not read where another split is.
const TEST: [&str; 4] = ["test", "testing", "eval", "evaluation"];

/// The files to train on and those of a validation split, if some files are named as such: other files,
/// among them those of a test split, then belong to neither. Nothing where no file is said to be trained on.
pub(crate) fn of(files: &[String]) -> HashMap<String, Part> {
    let named = files.iter().filter_map(|file| Some((file.clone(), split(file)?)));
    let named: HashMap<String, Part> = named.collect();
    let train = named.values().any(|part| *part == Part::Train);
    let validation = named.values().any(|part| *part == Part::Validation);
    let part = |(file, part): (String, Part)| match part {
        // Without a validation split a share is held out.
        Part::Train if !validation => (file, Part::Drawn),
        part => (file, part),
    };
    if train { named.into_iter().map(part).collect() } else { HashMap::new() }
}

/// What is said of files that are not there although the names of others, `data/train-00000-of-00002.parquet`, count
/// them.
pub(crate) fn missing_notes<'a>(files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let note = |(name, [missing, of]): (String, [usize; 2])| {
        format!("missing: {missing} of {of} files, the first is `{name}`; the others are read")
    };
    missing(files).into_iter().map(note).collect()
}

/// The first file that is missing of each numbered series, how many are, and of how many.
fn missing<'a>(files: impl Iterator<Item = &'a str>) -> Vec<(String, [usize; 2])> {
    let mut series: BTreeMap<(&str, &str), BTreeSet<usize>> = BTreeMap::new();
    for file in files {
        let Some((before, after)) = file.split_once("-of-") else { continue };
        let Some((before, place)) = before.rsplit_once('-') else { continue };
        if let Ok(place) = place.parse() {
            series.entry((before, after)).or_default().insert(place);
        }
    }
    let first = |((before, after), there): ((&str, &str), BTreeSet<usize>)| {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let of: usize = after[..digits].parse().ok()?;
        // Others than `datasets` count from one.
        let from = usize::from(there.contains(&of));
        let first = (from..of + from).find(|place| !there.contains(place))?;
        let name = format!("{before}-{first:0digits$}-of-{after}");
        Some((name, [of.checked_sub(there.len())?, of]))
    };
    series.into_iter().filter_map(first).collect()
}

/// A split that a file's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Trained on.
    Train,
    /// Held out.
    Validation,
    /// Held out where nothing else is, or not read.
    Test,
}

/// The split that a path names: words of its last parts count most.
pub(crate) fn named(file: &str) -> Option<Named> {
    let file = file.to_lowercase();
    file.rsplit(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| match word {
        word if TRAIN.contains(&word) => Some(Named::Train),
        word if VALIDATION.contains(&word) => Some(Named::Validation),
        word if TEST.contains(&word) => Some(Named::Test),
        _ => None,
    })
}

/// The split that the path of a file of data names.
fn split(file: &str) -> Option<Part> {
    let path = Path::new(file);
    let is_text = Format::of(path).is_some_and(|format| format.kind == Kind::Text);
    let inner = Path::new(file.trim_end_matches(".gz").trim_end_matches(".zst"));
    if is_text && format::suffix(inner) != "txt" {
        return None;
    }
    match named(file)? {
        Named::Train => Some(Part::Train),
        Named::Validation => Some(Part::Validation),
        Named::Test => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> Vec<(String, Part)> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let mut found: Vec<_> = of(&files).into_iter().collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    #[test]
    fn files_are_of_the_split_that_they_name() {
        let files = found(&[
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/validation-00000-of-00001.parquet",
            "data/test-00000-of-00001.parquet",
            "train.py",
            "extra.jsonl",
        ]);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet",
                "data/validation-00000-of-00001.parquet",
            ]
        );
        let parts: Vec<Part> = files.iter().map(|(_, part)| *part).collect();
        assert_eq!(parts, [Part::Train, Part::Train, Part::Validation]);
        // Without a validation split a share of the training documents is held out.
        let drawn = |name: &str| vec![(name.to_owned(), Part::Drawn)];
        assert_eq!(found(&["train.jsonl", "test.jsonl"]), drawn("train.jsonl"));
        assert_eq!(found(&["en/Train.txt.gz", "load.py"]), drawn("en/Train.txt.gz"));
        // A folder of training scripts says nothing of a file behind it.
        assert_eq!(found(&["training/test.jsonl", "a.jsonl"]), []);
    }

    #[test]
    fn missing_files_of_a_series_are_named() {
        let files = [
            "hf:a/b/data/train-00000-of-00003.parquet",
            "hf:a/b/data/train-00002-of-00003.parquet",
            "hf:a/b/data/test-00000-of-00001.parquet",
            "one-of-a-kind.txt",
            "1-of-2.txt",
            "part-2-of-2.jsonl.gz",
        ];
        let found = missing(files.into_iter());
        let expected = [("hf:a/b/data/train-00001-of-00003.parquet".to_owned(), [1, 3])];
        assert_eq!(found[..1], expected);
        // Numbers that begin at one miss none.
        assert_eq!(missing(["a-1-of-2.txt", "a-2-of-2.txt"].into_iter()), []);
        assert_eq!(found[1..], [("part-1-of-2.jsonl.gz".to_owned(), [1, 2])]);
        let said = missing_notes(files.into_iter());
        assert!(said[0].starts_with("missing: 1 of 3 files, the first is `hf:a/b/"), "{said:?}");
    }

    #[test]
    fn files_without_splits_are_all_read() {
        assert_eq!(found(&["a.jsonl", "test/b.jsonl", "constrained.txt"]), []);
    }
}
