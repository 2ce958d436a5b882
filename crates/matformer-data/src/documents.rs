//! The documents of a corpus, in two splits.

use std::collections::HashSet;
use std::path::Path;

use crate::config::CORPUS_MAX_FILE_BYTES;
use crate::counts::Dropped;
use crate::error::Error;
use crate::format::{self, Format};
use crate::hash::Hasher;
use crate::progress::{Progress, Stage};
use crate::reader::{Document, Input, Reader};
use crate::{DataConfig, Folder, Hash, PassedOver, Result, SplitFolders, inputs};

/// The documents of both splits, each sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// Trained on.
    pub train: Vec<Document>,
    /// Only measured on.
    pub held_out: Vec<Document>,
    /// What was left out.
    pub dropped: Dropped,
    /// How the files were read, where a person might expect something else: what was passed over,
    /// and what was taken for rows.
    pub notes: Vec<String>,
}

impl Documents {
    /// Reads what `config` names, downloading what has a hub name: drops what is too large, empty, a
    /// bad row or a duplicate, and splits the rest. Says how far it is.
    ///
    /// The texts are held in memory.
    ///
    /// # Errors
    /// A file that cannot be read, unpacked or downloaded, more bad rows than `config` allows, two
    /// files of one name, an empty split; [`Error::Unresolved`].
    pub fn read(config: &DataConfig, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        config.validate()?;
        let limit = if config.corpus.is_some() { CORPUS_MAX_FILE_BYTES } else { usize::MAX };
        let mut reader = Reader::new(&config.field, config.max_file_bytes.unwrap_or(limit));
        let (mut passed, mut distinct) = (PassedOver::default(), Distinct::default());
        let (train, held_out) = match &config.corpus {
            Some(corpus) => {
                progress(Progress { stage: Stage::Read, done: 0, total: 0 });
                let split = config
                    .split
                    .as_ref()
                    .ok_or_else(|| Error::Unresolved { found: corpus.display().to_string() })?;
                let (train, held_out) = (split.files(&split.train)?, split.files(&split.held_out)?);
                let total = size(&train) + size(&held_out);
                let mut read =
                    |inputs: &[Input], before| read(&mut reader, inputs, (before, total), progress);
                // Train first: a text in both splits stays there.
                let kept = distinct.of(read(&train, 0)?);
                (kept, distinct.of(read(&held_out, size(&train))?))
            }
            None => {
                let inputs = inputs::find(&config.paths, &mut passed, progress)?;
                if inputs.is_empty() {
                    return Err(Error::NoFile { passed_over: passed });
                }
                let total = size(&inputs);
                // Before the split: a duplicate in train would take a held-out document away.
                split(distinct.of(read(&mut reader, &inputs, (0, total), progress)?), config)
            }
        };
        let (mut dropped, taken) = reader.finish(config)?;
        dropped.duplicate = distinct.dropped;
        let documents = train.len() + held_out.len();
        for (split, kept) in [("train", &train), ("held_out", &held_out)] {
            if kept.is_empty() {
                return Err(Error::EmptySplit { split, documents, dropped });
            }
        }
        let passed = (!passed.is_empty()).then(|| format!("passed over: {passed}"));
        let notes = passed.into_iter().chain(taken.note()).collect();
        Ok(Self { train, held_out, dropped, notes })
    }
}

impl SplitFolders {
    fn files(&self, folders: &[Folder]) -> Result<Vec<Input>> {
        // A suffix of the list is text, whatever it is.
        let format = |path: &Path| {
            let listed = self.suffixes.contains(&format::suffix(path));
            listed.then(|| Format::of(path).unwrap_or(Format::TEXT))
        };
        let mut files = Vec::new();
        for folder in folders {
            // The list says what is read: the rest of a folder is not worth a word.
            files.extend(inputs::named(folder, &format, &mut PassedOver::default())?);
        }
        Ok(files)
    }
}

/// Drops documents whose text was there before.
#[derive(Default)]
struct Distinct {
    texts: HashSet<Hash>,
    dropped: usize,
}

impl Distinct {
    /// The documents sorted by name; of equal texts the first one stays.
    fn of(&mut self, mut documents: Vec<Document>) -> Vec<Document> {
        documents.sort_by(|a, b| a.name.cmp(&b.name));
        let before = documents.len();
        documents.retain(|document| self.texts.insert(Hash::of(document.text.as_bytes())));
        self.dropped += before - documents.len();
        documents
    }
}

/// The documents of files, of which `before` bytes of `total` lie behind.
fn read(
    reader: &mut Reader<'_>,
    inputs: &[Input],
    (before, total): (usize, usize),
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Document>> {
    let (mut documents, mut done) = (Vec::new(), before);
    for input in inputs {
        progress(Progress { stage: Stage::Read, done, total });
        reader.read(input, &mut documents)?;
        done += bytes(input);
    }
    Ok(documents)
}

fn size(inputs: &[Input]) -> usize {
    inputs.iter().map(bytes).sum()
}

/// The size of a file as it lies there; what cannot be asked for its size fails when it is read.
fn bytes(input: &Input) -> usize {
    std::fs::metadata(&input.path).map_or(0, |file| file.len() as usize)
}

/// Splits by a hash of the name, keyed by the seed: a document stays where it is when others come
/// or go. Of two documents or more, at least one is in train and one is held out.
fn split(documents: Vec<Document>, config: &DataConfig) -> (Vec<Document>, Vec<Document>) {
    let draw = |document: &Document| {
        let mut hasher = Hasher::default();
        let hash =
            hasher.part("held_out").part(config.seed.to_le_bytes()).part(&document.name).finish();
        let [a, b, c, d, ..] = *hash.as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
    };
    let smallest = documents.iter().map(draw).fold(f64::INFINITY, f64::min);
    let largest = documents.iter().map(draw).fold(0.0, f64::max);
    let limit = config.held_out.max(smallest);
    let (held_out, train) = documents
        .into_iter()
        .partition(|document| draw(document) <= limit && draw(document) < largest);
    (train, held_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &[u8])], change: impl FnOnce(&mut DataConfig)) -> Result<Documents> {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        for (path, bytes) in files {
            std::fs::write(data.join(path), bytes).unwrap();
        }
        let paths = vec![Path::new(&data).into()];
        let mut config = DataConfig { paths, held_out: 0.5, ..DataConfig::default() };
        change(&mut config);
        Documents::read(&config, &mut |_| {})
    }

    fn names(documents: &Documents) -> Vec<&str> {
        let both = documents.train.iter().chain(&documents.held_out);
        let mut names: Vec<_> = both.map(|document| document.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn document(name: &str, text: &str) -> Document {
        Document { name: name.into(), text: text.into(), cluster: None }
    }

    #[test]
    fn what_is_no_text_is_counted() {
        let files: [(&str, &[u8]); 6] = [
            ("a.txt", b"a"),
            ("b.rs", b"b"),
            ("empty.md", b""),
            ("latin1.md", b"\xe9"),
            ("large.md", b"0123456789"),
            ("rows.jsonl", b"{\"body\": \"c\", \"text\": 3}"),
        ];
        let documents = read(&files, |config| {
            config.max_file_bytes = Some(9);
            config.max_bad_rows = 0.5;
        })
        .unwrap();
        assert_eq!(names(&documents), ["a.txt", "b.rs"]);
        let dropped = Dropped { too_large: 1, duplicate: 0, empty: 1, bad_rows: 2 };
        assert_eq!(documents.dropped, dropped);
        let by_body = |config: &mut DataConfig| {
            config.field = "body".into();
            config.max_bad_rows = 0.5;
        };
        let all = read(&files, by_body).unwrap();
        assert_eq!(names(&all)[2..], ["large.md", "rows.jsonl:1"]);
        let Err(Error::BadRows { bad: 2, read: 6, .. }) = read(&files, |_| {}) else { panic!() };
    }

    #[test]
    fn duplicates_are_dropped_and_train_keeps_its_copy() {
        let train = vec![document("z", "same"), document("y", "same"), document("x", "other")];
        let held_out = vec![document("a", "same"), document("b", "own")];
        let mut distinct = Distinct::default();
        assert_eq!(distinct.of(train), [document("x", "other"), document("y", "same")]);
        assert_eq!(distinct.of(held_out), [document("b", "own")]);
        assert_eq!(distinct.dropped, 2);
    }

    #[test]
    fn duplicates_do_not_take_documents_from_the_held_out_split() {
        let rows = |copies: usize| {
            let rows =
                (0..200).map(|i| format!("{{\"text\": \"row {}\"}}\n", i)).collect::<String>();
            let file = rows.repeat(copies);
            let held =
                read(&[("a.jsonl", file.as_bytes())], |config| config.held_out = 0.2).unwrap();
            (held.held_out.len(), held.dropped.duplicate)
        };
        for (copies, dropped) in [(1, 0), (3, 400)] {
            let (held_out, duplicates) = rows(copies);
            assert!((25..60).contains(&held_out), "{copies}: {held_out}");
            assert_eq!(duplicates, dropped);
        }
    }

    #[test]
    fn an_empty_split_says_what_was_dropped() {
        let said = |files: &[(&str, &[u8])]| {
            let error = read(files, |config| config.max_file_bytes = Some(9)).unwrap_err();
            (error.to_string(), error.hint().unwrap_or_default())
        };
        let (error, hint) = said(&[("image.png", b"x")]);
        assert_eq!(
            error,
            "no text: `data.paths` has no file of a known format; passed over: 1 file of unknown \
             format (image.png)"
        );
        assert!(hint.contains("jsonl"));
        let (error, _) = said(&[("a.jsonl", b"")]);
        assert_eq!(error, "no text: there is no row in any file of `data.paths`");
        let (error, hint) = said(&[("a.txt", b""), ("b.txt", b"0123456789")]);
        assert_eq!(error, "no document of `data.paths` is left; dropped: 1 empty, 1 too large");
        assert!(hint.contains("max_file_bytes"));
        let (error, _) = said(&[("a.txt", b"a"), ("b.txt", b"a")]);
        assert_eq!(error, "no document is left for `held_out` out of 1; dropped: 1 duplicate");
        let (error, hint) = said(&[("a.txt", b"a")]);
        assert_eq!(error, "no document is left for `held_out` out of 1");
        assert!(hint.contains("split by document"));
    }

    #[test]
    fn a_split_depends_on_names_and_seed_alone() {
        let documents = |count: usize| -> Vec<Document> {
            (0..count).map(|index| document(&index.to_string(), &index.to_string())).collect()
        };
        let held_out = |count, seed, held_out| {
            let (_, held) =
                split(documents(count), &DataConfig { seed, held_out, ..DataConfig::default() });
            held.into_iter().map(|document| document.name).collect::<HashSet<_>>()
        };
        let many = held_out(2000, 0, 0.1);
        assert!((150..250).contains(&many.len()), "{}", many.len());
        assert!(held_out(1000, 0, 0.1).is_subset(&many));
        assert_ne!(many, held_out(2000, 1, 0.1));
        assert_eq!(held_out(5, 0, 1e-9).len(), 1);
        assert_eq!(held_out(5, 0, 1.0 - 1e-9).len(), 4);
    }
}
