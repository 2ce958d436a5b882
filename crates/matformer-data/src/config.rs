//! The `[data]` table of a run file.

use serde::{Deserialize, Serialize};

use crate::batches::BLOCK;
use crate::source::{self, Source};
use crate::{Error, Result};

/// The smallest vocabulary: 256 bytes and the document separator.
pub const MIN_VOCAB_SIZE: usize = 257;

/// A part of the training text with a weight: `[[data.sources]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedSource {
    /// What it is made of, as `data.paths`.
    #[serde(deserialize_with = "source::list")]
    pub paths: Vec<Source>,
    /// Its share of the training rows, as a part of the sum of all weights.
    pub weight: f64,
    /// The field of its text, if it is not `data.field`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Which text is read, how it is split, and which tokenizer it gets.
///
/// Give one of `paths` and `sources`. Relative paths start at the working directory; those in a run
/// file start at the folder of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders and hub names: text files (see [`TEXT_SUFFIXES`](crate::TEXT_SUFFIXES)) are
    /// one document each, every row of a `.jsonl`, `.csv`, `.tsv`, `.parquet` or `.arrow` file is one, and so
    /// is every object in a `.json` file that looks like rows. All but `.parquet` and `.arrow` may be packed:
    /// `.gz`, `.zst`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "source::list")]
    pub paths: Vec<Source>,
    /// Files, folders and hub names that are only measured on, all of them. Then all of `paths` is trained
    /// on, but for documents that are held out as well.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "source::list")]
    pub validation: Vec<Source>,
    /// The field of a `.jsonl` row, or the column of a `.parquet` file, that holds the text. Default
    /// `text`.
    pub field: String,
    /// Whether rows are conversations: a list of `messages` (or of the name that `field` has), or a `prompt`
    /// with its `completion`. The chat template of the tokenizer lays them out, and only answers are learnt
    /// and measured. Default false.
    pub chat: bool,
    /// The fraction of the documents of `paths` that is held out, by a hash of the document's name; of a
    /// single text file, the last part. Without effect beside `validation`. Default 0.02.
    pub held_out: f64,
    /// The size of the vocabulary that is trained, with the document separator. Default 2048.
    pub vocab_size: usize,
    /// A tokenizer to use instead of training one: a `tokenizer.json`, a folder that has one, or the
    /// hub name of a model (`owner/name` alone is one where no such path is). `vocab_size` then has
    /// no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Source>,
    /// Whether of several documents with the same text one is kept. Default true.
    pub deduplicate: bool,
    /// Whether the documents in one folder, directly below an entry of `paths` or `validation`, are not independent
    /// of each other: they are a cluster ([`DocumentSpan`](crate::DocumentSpan)). Default false.
    pub cluster_folders: bool,
    /// Documents above this size are dropped, in bytes. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file_bytes: Option<usize>,
    /// The largest share of rows and files that may be bad: malformed, not UTF-8, without `field`,
    /// null. They are skipped and counted. Default 0.01.
    pub max_bad_rows: f64,
    /// The largest share of the bytes of text that a given tokenizer may lose: by lower-casing,
    /// normalising, or characters that it does not know. Default 0.001.
    pub max_lost_bytes: f64,
    /// Whether a single bad row, or a document that a given tokenizer does not give back as it was,
    /// is an error. Default false.
    pub strict: bool,
    /// Keys the split and the sample that the tokenizer is trained on. Default 0.
    pub seed: u64,
    /// In place of `paths`: several parts of the text, each with a weight. Of every thousand rows of training,
    /// each has its share, and goes through its own text in its own epochs. Their held-out documents are measured
    /// together, without weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<WeightedSource>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            validation: Vec::new(),
            field: "text".into(),
            chat: false,
            held_out: 0.02,
            vocab_size: 2048,
            tokenizer: None,
            deduplicate: true,
            cluster_folders: false,
            max_file_bytes: None,
            max_bad_rows: 0.01,
            max_lost_bytes: 0.001,
            strict: false,
            seed: 0,
            sources: Vec::new(),
        }
    }
}

impl DataConfig {
    /// Checks every value that can be judged without reading a file.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, what was found and what is possible.
    pub fn validate(&self) -> Result<()> {
        if !self.sources.is_empty() {
            self.validate_sources()?;
        }
        let some = !self.paths.is_empty() || !self.sources.is_empty();
        check(some, "paths", "empty", "files, folders or hub names")?;
        check_part("held_out", self.held_out)?;
        check_share("max_bad_rows", self.max_bad_rows)?;
        check_share("max_lost_bytes", self.max_lost_bytes)?;
        check(
            self.tokenizer.is_some() || self.vocab_size >= MIN_VOCAB_SIZE,
            "vocab_size",
            self.vocab_size,
            "at least 257: 256 bytes and the separator",
        )?;
        let fields = self.sources.iter().filter_map(|source| source.field.as_ref());
        let named = !fields.chain([&self.field]).any(String::is_empty);
        check(named, "field", "an empty name", "the name of a field")
    }

    fn validate_sources(&self) -> Result<()> {
        let wrong =
            |found: String, expected| Err(Error::Config { key: "sources", found, expected });
        if let Some(first) = self.paths.first() {
            return wrong(format!("given beside `data.paths`, {first}"), "either of them");
        }
        if self.sources.len() == 1 {
            return wrong("one source".into(), "two or more; one alone is `data.paths`");
        }
        let is_number = |weight: f64| weight.is_finite() && weight > 0.0;
        let weights = self.sources.iter().map(|source| source.weight);
        // What is no weight is not weighed against the others.
        let sum: f64 = weights.filter(|weight| is_number(*weight)).sum();
        for (at, WeightedSource { paths, weight, .. }) in self.sources.iter().enumerate() {
            if paths.is_empty() {
                let found = format!("without `paths` in number {}", at + 1);
                return wrong(found, "files, folders or hub names");
            }
            if !(is_number(*weight) && weight / sum >= 1.0 / BLOCK as f64) {
                let found = format!("of weight {weight} in number {}", at + 1);
                return wrong(found, "weights above 0, none below a thousandth of their sum");
            }
        }
        Ok(())
    }

    /// All sources, trained on or held out.
    pub fn every_source(&self) -> impl Iterator<Item = &Source> {
        let weighted = self.sources.iter().flat_map(|source| &source.paths);
        self.paths.iter().chain(weighted).chain(&self.validation)
    }

    /// The same with others in place of each source.
    ///
    /// # Errors
    /// Those of `replace`.
    pub fn with_sources<E>(
        &self,
        replace: &mut dyn FnMut(&Source) -> Result<Vec<Source>, E>,
    ) -> Result<Self, E> {
        let mut list = |sources: &[Source]| -> Result<Vec<Source>, E> {
            let mut found = Vec::new();
            for source in sources {
                found.extend(replace(source)?);
            }
            Ok(found)
        };
        let (paths, validation) = (list(&self.paths)?, list(&self.validation)?);
        let mut sources = self.sources.clone();
        for source in &mut sources {
            source.paths = list(&source.paths)?;
        }
        Ok(Self { paths, validation, sources, ..self.clone() })
    }

    /// What is trained on: one list of sources, or several that have weights.
    pub(crate) fn groups(&self) -> Vec<&[Source]> {
        match self.sources.as_slice() {
            [] => vec![&self.paths],
            weighted => weighted.iter().map(|source| &source.paths[..]).collect(),
        }
    }

    /// The field of the text of each of these groups.
    pub(crate) fn fields(&self) -> Vec<&str> {
        match self.sources.as_slice() {
            [] => vec![&self.field],
            weighted => weighted
                .iter()
                .map(|source| source.field.as_deref().unwrap_or(&self.field))
                .collect(),
        }
    }

    /// The weight of each source, where there are several.
    pub fn weights(&self) -> Vec<f64> {
        self.sources.iter().map(|source| source.weight).collect()
    }
}

/// Checks a value of `[data]`.
///
/// # Errors
/// [`Error::Config`].
fn check(
    good: bool,
    key: &'static str,
    found: impl ToString,
    expected: &'static str,
) -> Result<()> {
    match good {
        true => Ok(()),
        false => Err(Error::Config { key, found: found.to_string(), expected }),
    }
}

/// Checks that a value of `[data]` is a part of the whole: some, but not all.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check_part(key: &'static str, found: f64) -> Result<()> {
    let good = found > 0.0 && found < 1.0;
    check(good, key, found, "a fraction between 0 and 1, both excluded")
}

/// Checks that a value of `[data]` is a share, perhaps none or all.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check_share(key: &'static str, found: f64) -> Result<()> {
    check((0.0..=1.0).contains(&found), key, found, "a share from 0 to 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(paths: &[&str]) -> DataConfig {
        DataConfig {
            paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
            ..DataConfig::default()
        }
    }

    #[test]
    fn reads_a_table_and_refuses_unknown_keys() {
        let config: DataConfig = toml::from_str("paths = [\"a\"]\nvocab_size = 512").unwrap();
        assert_eq!(config.vocab_size, 512);
        assert_eq!(config.held_out, 0.02);
        config.validate().unwrap();
        let error = toml::from_str::<DataConfig>("vocabsize = 512").unwrap_err();
        assert!(error.to_string().contains("vocabsize"), "{error}");
    }

    #[test]
    fn sources_with_weights_are_checked() {
        let read = |text: &str| toml::from_str::<DataConfig>(text).unwrap();
        let two = "[[sources]]\npaths = [\"a\"]\nweight = 3\n\
                   [[sources]]\npaths = [\"b\", \"c\"]\nweight = 1\nfield = \"body\"\n";
        let config = read(two);
        config.validate().unwrap();
        assert_eq!(config.weights(), [3.0, 1.0]);
        assert_eq!((config.groups()[1].len(), config.fields()), (2, vec!["text", "body"]));
        assert_eq!(config.every_source().count(), 3);
        assert_eq!(
            toml::from_str::<DataConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
        let said = |text: &str| read(text).validate().unwrap_err().to_string();
        assert_eq!(
            said(&format!("paths = [\"x\"]\n{two}")),
            "`data.sources` is given beside `data.paths`, x, expected: either of them"
        );
        let one = &two[..two.rfind("[[").unwrap()];
        assert!(said(one).contains("two or more; one alone is `data.paths`"));
        for weight in ["0", "-1", "0.001", "inf", "nan"] {
            let text = two.replace("weight = 1", &format!("weight = {weight}"));
            assert!(said(&text).contains("in number 2"), "{weight}: {}", said(&text));
        }
        assert!(said(&two.replace("[\"a\"]", "[]")).contains("without `paths` in number 1"));
        assert!(toml::from_str::<DataConfig>(&two.replace("weight = 1\n", "")).is_err());
    }

    #[test]
    fn names_the_key_that_is_wrong() {
        let key = |config: DataConfig| match config.validate() {
            Err(Error::Config { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(DataConfig::default()), "paths");
        assert_eq!(key(DataConfig { held_out: 0.0, ..own(&["b"]) }), "held_out");
        assert_eq!(key(DataConfig { held_out: f64::NAN, ..own(&["b"]) }), "held_out");
        assert_eq!(key(DataConfig { max_bad_rows: 1.5, ..own(&["b"]) }), "max_bad_rows");
        assert_eq!(key(DataConfig { max_bad_rows: f64::NAN, ..own(&["b"]) }), "max_bad_rows");
        assert_eq!(key(DataConfig { max_lost_bytes: -0.1, ..own(&["b"]) }), "max_lost_bytes");
        assert_eq!(key(DataConfig { vocab_size: 256, ..own(&["b"]) }), "vocab_size");
        assert_eq!(key(DataConfig { field: String::new(), ..own(&["b"]) }), "field");
        own(&["b"]).validate().unwrap();
    }
}
