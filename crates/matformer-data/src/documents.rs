//! Text files, folders and `.jsonl` rows become named documents in two splits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

use crate::config::CORPUS_MAX_FILE_BYTES;
use crate::hash::Hasher;
use crate::{DataConfig, Error, Hash, Result, crates};

/// Suffixes of the files that are read as text, one document each. `.jsonl` files are read row by
/// row.
pub const TEXT_SUFFIXES: &[&str] = &[
    "txt", "md", "rst", "tex", "org", // prose
    "rs", "py", "c", "h", "cc", "cpp", "hpp", "cu", "cuh", "go", "java", "kt", "scala", "js",
    "jsx", "ts", "tsx", "rb", "php", "swift", "cs", "hs", "ml", "jl", "lua", "pl", "r", "zig",
    "sh", "sql", "wgsl", // source
    "toml", "yaml", "yml", "json", "html", "css", "xml", // markup
];

/// One text with its name: `folder/path/in/it.rs`, `rows.jsonl:17`, or `crate/src/lib.rs`; no
/// machine path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique within both splits.
    pub name: String,
    /// The text, as it was in the file.
    pub text: String,
}

/// How many documents were left out, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Larger than `max_file_bytes`.
    pub too_large: usize,
    /// The same text as an earlier document; the one in train stays.
    pub duplicate: usize,
    /// Not UTF-8.
    pub not_utf8: usize,
    /// No text at all.
    pub empty: usize,
}

/// The documents of both splits, each sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// Trained on.
    pub train: Vec<Document>,
    /// Only measured on.
    pub held_out: Vec<Document>,
    /// What was left out.
    pub dropped: Dropped,
}

impl Documents {
    /// Reads what `config` names: drops what is too large, not UTF-8, empty or a duplicate, and
    /// splits the rest.
    ///
    /// The texts are held in memory.
    ///
    /// # Errors
    /// A file that cannot be read, a bad row, a crate that is not there, two documents of one name,
    /// an empty split.
    pub fn read(config: &DataConfig) -> Result<Self> {
        config.validate()?;
        let limit = if config.corpus.is_some() { CORPUS_MAX_FILE_BYTES } else { usize::MAX };
        let mut reader = Reader::with_limit(config.max_file_bytes.unwrap_or(limit));
        let (train, held_out) = match &config.corpus {
            Some(corpus) => crates::read(corpus, &mut reader)?,
            None => {
                reader.field.clone_from(&config.field);
                let mut documents = Vec::new();
                for path in &config.paths {
                    reader.path(path, &mut documents)?;
                }
                split(documents, config)
            }
        };
        Self::assemble(train, held_out, reader.dropped)
    }

    /// Sorts by name, drops duplicates (train first, so that a text in both splits stays in train),
    /// and checks names.
    fn assemble(
        train: Vec<Document>,
        held_out: Vec<Document>,
        mut dropped: Dropped,
    ) -> Result<Self> {
        let (mut names, mut texts) = (HashSet::new(), HashSet::new());
        let mut keep = |mut documents: Vec<Document>| {
            documents.sort_by(|a, b| a.name.cmp(&b.name));
            for document in &documents {
                if !names.insert(document.name.clone()) {
                    return Err(Error::SameName { name: document.name.clone() });
                }
            }
            let before = documents.len();
            documents.retain(|document| texts.insert(Hash::of(document.text.as_bytes())));
            dropped.duplicate += before - documents.len();
            Ok(documents)
        };
        let (train, held_out) = (keep(train)?, keep(held_out)?);
        let documents = train.len() + held_out.len();
        for (split, kept) in [("train", &train), ("held_out", &held_out)] {
            if kept.is_empty() {
                return Err(Error::EmptySplit { split, documents });
            }
        }
        Ok(Self { train, held_out, dropped })
    }
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

/// Reads files and counts what it leaves out.
pub(crate) struct Reader {
    max_bytes: usize,
    field: String,
    dropped: Dropped,
}

impl Reader {
    /// A reader that leaves out documents of more than `max_bytes`.
    pub(crate) fn with_limit(max_bytes: usize) -> Self {
        Self { max_bytes, field: "text".into(), dropped: Dropped::default() }
    }

    /// A file or a folder that a person named.
    fn path(&mut self, path: &Path, out: &mut Vec<Document>) -> Result<()> {
        let name =
            path.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
        let found = std::fs::metadata(path).map_err(fs::error(path, "read"))?;
        if found.is_dir() {
            let known = |suffix: &str| suffix == "jsonl" || TEXT_SUFFIXES.contains(&suffix);
            return self.folder(path, &name, known, out);
        }
        match suffix(path).as_str() {
            "jsonl" => self.rows(path, &name, out),
            known if TEXT_SUFFIXES.contains(&known) => self.text(path, name, out),
            _ => Err(Error::Suffix { path: path.into() }),
        }
    }

    /// Every file below `root` with a wanted suffix; hidden entries and folders tagged as caches
    /// (`CACHEDIR.TAG`, which Cargo puts into `target`) are passed over.
    pub(crate) fn folder(
        &mut self,
        root: &Path,
        name: &str,
        wanted: impl Fn(&str) -> bool,
        out: &mut Vec<Document>,
    ) -> Result<()> {
        let visible = |entry: &walkdir::DirEntry| {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let cache = entry.file_type().is_dir() && entry.path().join("CACHEDIR.TAG").is_file();
            entry.depth() == 0 || !(hidden || cache)
        };
        for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(visible) {
            let entry = entry.map_err(|source| Error::Walk { path: root.into(), source })?;
            let suffix = suffix(entry.path());
            if !entry.file_type().is_file() || !wanted(&suffix) {
                continue;
            }
            let inside = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let mut name = name.to_owned();
            for part in inside.components() {
                name.push('/');
                name.push_str(&part.as_os_str().to_string_lossy());
            }
            match suffix.as_str() {
                "jsonl" => self.rows(entry.path(), &name, out)?,
                _ => self.text(entry.path(), name, out)?,
            }
        }
        Ok(())
    }

    /// A whole file as one document.
    fn text(&mut self, path: &Path, name: String, out: &mut Vec<Document>) -> Result<()> {
        match String::from_utf8(fs::read(path)?) {
            Ok(text) => self.keep(name, text, out),
            Err(_) => {
                self.dropped.not_utf8 += 1;
                tracing::warn!("`{}` is not UTF-8 and is left out", path.display());
            }
        }
        Ok(())
    }

    /// Every row of a `.jsonl` file as one document.
    fn rows(&mut self, path: &Path, name: &str, out: &mut Vec<Document>) -> Result<()> {
        for (index, row) in fs::read(path)?.split(|&byte| byte == b'\n').enumerate() {
            if row.trim_ascii().is_empty() {
                continue;
            }
            let line = index + 1;
            let text = self.row(row).map_err(|reason| Error::Row {
                path: PathBuf::from(path),
                line,
                reason,
            })?;
            self.keep(format!("{name}:{line}"), text, out);
        }
        Ok(())
    }

    fn row(&self, row: &[u8]) -> Result<String, String> {
        let mut value: serde_json::Value =
            serde_json::from_slice(row).map_err(|error| error.to_string())?;
        match value.get_mut(&self.field).map(serde_json::Value::take) {
            Some(serde_json::Value::String(text)) => Ok(text),
            Some(_) => Err(format!("field `{}` is not a string", self.field)),
            None => Err(format!("no field `{}`", self.field)),
        }
    }

    fn keep(&mut self, name: String, text: String, out: &mut Vec<Document>) {
        if text.is_empty() {
            self.dropped.empty += 1;
        } else if text.len() > self.max_bytes {
            self.dropped.too_large += 1;
        } else {
            out.push(Document { name, text });
        }
    }
}

/// The lower-case suffix of a file name, without its dot.
fn suffix(path: &Path) -> String {
    path.extension().map(|suffix| suffix.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// Everything below `root`, half of it held out; names without the temporary folder.
    fn read(root: &Path, change: impl FnOnce(&mut DataConfig)) -> Result<Documents> {
        let mut config =
            DataConfig { paths: vec![root.join("data")], held_out: 0.5, ..DataConfig::default() };
        change(&mut config);
        Documents::read(&config)
    }

    fn names(documents: &Documents) -> Vec<&str> {
        let mut names: Vec<_> = documents
            .train
            .iter()
            .chain(&documents.held_out)
            .map(|document| document.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn reads_text_and_passes_over_the_rest() {
        let root = folder(&[
            ("data/a.txt", b"a"),
            ("data/sub/b.RS", b"b"),
            ("data/image.png", b"x"),
            ("data/.git/c.txt", b"x"),
            ("data/target/CACHEDIR.TAG", b""),
            ("data/target/d.rs", b"x"),
            ("data/empty.md", b""),
            ("data/latin1.md", b"\xe9"),
            ("data/large.md", b"0123456789"),
        ]);
        let documents = read(root.path(), |config| config.max_file_bytes = Some(9)).unwrap();
        assert_eq!(names(&documents), ["data/a.txt", "data/sub/b.RS"]);
        let dropped = Dropped { too_large: 1, duplicate: 0, not_utf8: 1, empty: 1 };
        assert_eq!(documents.dropped, dropped);
        let all = read(root.path(), |_| {}).unwrap();
        assert!(names(&all).contains(&"data/large.md"));
    }

    #[test]
    fn duplicates_are_dropped_and_train_keeps_its_copy() {
        let document = |name: &str, text: &str| Document { name: name.into(), text: text.into() };
        let train = vec![document("z", "same"), document("y", "same"), document("x", "other")];
        let held_out = vec![document("a", "same"), document("b", "own")];
        let documents = Documents::assemble(train, held_out, Dropped::default()).unwrap();
        assert_eq!(documents.train, [document("x", "other"), document("y", "same")]);
        assert_eq!(documents.held_out, [document("b", "own")]);
        assert_eq!(documents.dropped.duplicate, 2);
    }

    #[test]
    fn jsonl_rows_are_documents() {
        let rows = "{\"text\": \"one\", \"id\": 1}\n\n{\"text\": \"two\"}\r\n{\"text\": \"three\"}";
        let root = folder(&[("data/rows.jsonl", rows.as_bytes())]);
        let documents = read(root.path(), |_| {}).unwrap();
        assert_eq!(
            names(&documents),
            ["data/rows.jsonl:1", "data/rows.jsonl:3", "data/rows.jsonl:4"]
        );
        let file =
            read(root.path(), |config| config.paths = vec![root.path().join("data/rows.jsonl")])
                .unwrap();
        assert_eq!(names(&file)[0], "rows.jsonl:1");
    }

    #[test]
    fn a_bad_row_is_named() {
        for (row, field, reason) in [
            ("{\"body\": \"x\"}", "text", "no field `text`"),
            ("{\"text\": 3}", "text", "field `text` is not a string"),
            ("{\"text\": \"x\"}", "body", "no field `body`"),
            ("[\"text\"]", "text", "no field `text`"),
            ("{\"text\": ", "text", "EOF"),
        ] {
            let root = folder(&[("data/rows.jsonl", format!("\n{row}").as_bytes())]);
            let error = read(root.path(), |config| config.field = field.into()).unwrap_err();
            assert!(matches!(error, Error::Row { line: 2, .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let root = folder(&[("data/rows.jsonl", b"{\"text\": \"\xff\"}")]);
        assert!(matches!(read(root.path(), |_| {}), Err(Error::Row { line: 1, .. })));
        let root = folder(&[("data/rows.jsonl", b"{\"body\": \"a\"}\n{\"body\": \"b\"}")]);
        assert_eq!(
            names(&read(root.path(), |config| config.field = "body".into()).unwrap()).len(),
            2
        );
    }

    #[test]
    fn unknown_missing_and_twice_named_files_are_errors() {
        let root =
            folder(&[("data/a.txt", b"a"), ("data/b.parquet", b"b"), ("more/data/a.txt", b"c")]);
        let paths = |paths: &[&str]| {
            let paths = paths.iter().map(|path| root.path().join(path)).collect();
            read(root.path(), |config| config.paths = paths)
        };
        assert!(matches!(paths(&["data/b.parquet"]), Err(Error::Suffix { .. })));
        assert!(paths(&["nowhere"]).unwrap_err().to_string().contains("nowhere"));
        assert!(
            matches!(paths(&["data", "more/data"]), Err(Error::SameName { name }) if name == "data/a.txt")
        );
        assert!(matches!(
            paths(&["data/a.txt"]),
            Err(Error::EmptySplit { split: "held_out", documents: 1 })
        ));
    }

    #[test]
    fn a_split_depends_on_names_and_seed_alone() {
        let documents = |count: usize| -> Vec<Document> {
            (0..count)
                .map(|index| Document { name: index.to_string(), text: index.to_string() })
                .collect()
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
