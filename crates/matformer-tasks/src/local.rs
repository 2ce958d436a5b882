//! Data sets of the Hugging Face Hub, as a folder on this machine has them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

use crate::{
    Result, Task,
    hub::{Hub, SPLITS},
    task::{Source, Split},
};

impl Hub {
    /// The splits that a folder has of the data set, in `OWNER/NAME` or `NAME`, where names of folders or files say the
    /// part of the data set (`dataset_name`) and the split, as in `ai2_arc/ARC-Easy/validation/data.arrow`.
    ///
    /// # Errors
    /// [`Error::Folder`] for a folder that cannot be read; [`Error::Hub`] for one without the data set, or with several
    /// parts of it where the task names none.
    fn local(&self, folder: &Path) -> Result<Vec<Split>> {
        let whole = self.name.repository.as_str();
        let (_, name) = whole.split_once('/').unwrap_or(("", whole));
        let own = [whole, name].map(|name| folder.join(name)).into_iter().find(|own| own.is_dir());
        let missing =
            || self.wrong(format!("{} has no folder `{whole}` or `{name}`", folder.display()));
        let own = own.ok_or_else(missing)?;
        let (mut splits, mut parts) = (Vec::<Split>::new(), BTreeSet::new());
        for entry in WalkDir::new(&own).follow_links(true).sort_by_file_name() {
            let entry = entry?;
            let inside = entry.path().strip_prefix(&own).unwrap_or(entry.path());
            let inside = inside.to_string_lossy().replace('\\', "/");
            let Some(split) = self.split_by_name(&inside).filter(|_| entry.file_type().is_file())
            else {
                continue;
            };
            parts.insert(part_of(&inside));
            let path: PathBuf = entry.into_path();
            match splits.iter_mut().find(|other| other.name == split) {
                Some(known) => known.files.push(path),
                None => splits.push(Split { name: split, files: vec![path] }),
            }
        }
        if splits.is_empty() {
            let part = self.config.as_ref().map_or(String::new(), |name| format!(" of `{name}`"));
            return Err(self.wrong(format!("{} has no rows{part}", own.display())));
        }
        if parts.len() > 1 && self.config.is_none() {
            let parts: Vec<String> = parts.into_iter().collect();
            let expected = parts.join("`, `");
            return Err(
                self.wrong(format!("`dataset_name`: is missing, expected one of `{expected}`"))
            );
        }
        Ok(splits)
    }
}

/// The folders of a file, but for one that says its split.
fn part_of(file: &str) -> String {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders).split('/');
    let is_split =
        |name: &&str| SPLITS.iter().any(|(_, words)| words.contains(&name.to_lowercase().as_str()));
    folders.filter(|name| !is_split(name)).collect::<Vec<_>>().join("/")
}

impl Task {
    /// Takes the rows of a task of the hub from a folder, such as a copy of its data set. Splits that the folder lacks
    /// are replaced as lm-evaluation-harness does it for tasks without them; what that changes is returned, in words.
    /// `shots` as in [`Task::examples`].
    ///
    /// # Errors
    /// [`Folder`](crate::Error::Folder) for a folder that cannot be read; [`Hub`](crate::Error::Hub) if it lacks
    /// the dataset or a split that can be scored.
    pub fn read_from(&mut self, folder: &Path, shots: Option<usize>) -> Result<Vec<String>> {
        let Source::Hub(hub) = &self.source else { return Ok(Vec::new()) };
        let splits = hub.local(folder)?;
        let before = [self.scored().to_owned(), self.shot_split().to_owned()];
        let is_there = |name: &String| splits.iter().any(|split| split.name == *name);
        for split in
            [&mut self.training, &mut self.validation, &mut self.test, &mut self.shots.split]
        {
            split.take_if(|name| !is_there(name));
        }
        if self.scored().is_empty() {
            let found: Vec<&str> = splits.iter().map(|split| split.name.as_str()).collect();
            let found = found.join("`, `");
            return Err(hub.wrong(format!("found the split `{found}`, expected `{}`", before[0])));
        }
        let mut notes = Vec::new();
        let mut note = |before: &str, now: &str, what: &str| {
            if before != now {
                notes.push(format!("no split `{before}` in {}: {what} `{now}`", folder.display()));
            }
        };
        note(&before[0], self.scored(), "scored on");
        if self.shots_of(shots) > 0 {
            note(&before[1], self.shot_split(), "few-shot examples are from");
        }
        self.source = Source::Tables(splits);
        Ok(notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{\"question\": \"1 + 1\", \"answer\": \"2\"}\n").unwrap();
        }
        folder
    }

    fn task(config: &str) -> Task {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sums.yaml");
        let yaml = format!(
            "task: sums\ndataset_path: own/sums\n{config}output_type: loglikelihood\ntraining_split: train\n\
             validation_split: validation\ntest_split: test\nnum_fewshot: 1\ndoc_to_text: '{{{{question}}}}'\n\
             doc_to_target: answer\n"
        );
        std::fs::write(&path, yaml).unwrap();
        Task::read(&path).unwrap()
    }

    #[test]
    fn all_splits_are_found_by_their_names() {
        for files in [
            &["own/sums/train.jsonl", "own/sums/dev.jsonl", "own/sums/test.jsonl"][..],
            &["sums/none/train/a.jsonl", "sums/none/validation/a.jsonl", "sums/none/test/a.jsonl"],
            // As `save_to_disk` leaves it.
            &[
                "sums/dataset_dict.json",
                "sums/train/a.jsonl",
                "sums/train/state.json",
                "sums/test/a.jsonl",
                "sums/test/dataset_info.json",
                "sums/test/state.json",
                "sums/validation/a.jsonl",
            ],
        ] {
            let folder = made(files);
            let mut task = task("");
            assert!(task.read_from(folder.path(), None).unwrap().is_empty(), "{files:?}");
            assert_eq!((task.scored(), task.shot_split()), ("test", "train"));
            assert_eq!(task.rows("test").unwrap().len(), 1);
        }
    }

    #[test]
    fn splits_that_are_missing_are_replaced_and_said() {
        let folder = made(&["sums/validation/a.jsonl"]);
        let said = |shots| {
            let mut task = task("");
            let notes = task.read_from(folder.path(), shots).unwrap();
            assert_eq!((task.scored(), task.shot_split()), ("validation", "validation"));
            notes.join("; ").replace(&folder.path().display().to_string(), "DIR")
        };
        assert_eq!(
            said(None),
            "no split `test` in DIR: scored on `validation`; no split `train` in DIR: few-shot examples are from \
             `validation`"
        );
        assert_eq!(said(Some(0)), "no split `test` in DIR: scored on `validation`");
    }

    #[test]
    fn what_a_folder_lacks_is_said() {
        let said = |files: &[&str], config: &str| {
            let folder = made(files);
            let error = task(config).read_from(folder.path(), None).unwrap_err().to_string();
            error.replace(&folder.path().display().to_string(), "DIR")
        };
        let lacks = said(&["other/test.jsonl"], "");
        assert!(lacks.ends_with("DIR has no folder `own/sums` or `sums`"), "{lacks}");
        let empty = said(&["sums/hard/test.jsonl"], "dataset_name: easy\n");
        assert!(empty.ends_with("DIR/sums has no rows of `easy`"), "{empty}");
        let several = said(&["sums/easy/test.jsonl", "sums/hard/test.jsonl"], "");
        assert!(several.ends_with("expected one of `easy`, `hard`"), "{several}");
        let train = said(&["sums/train.jsonl"], "");
        assert!(train.ends_with("found the split `train`, expected `test`"), "{train}");
    }
}
