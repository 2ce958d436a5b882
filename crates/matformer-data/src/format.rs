//! What a file holds, by the end of its name, and how it is opened.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use matformer_core::fs;

use crate::Result;

/// Suffixes of the files that are read as text, one document each; a `.json` file that looks like
/// rows is read as rows. Files in `.jsonl`, `.csv`, `.tsv`, `.parquet` and `.arrow` are read
/// row by row.
pub const TEXT_SUFFIXES: &[&str] = &[
    "txt", "md", "rst", "tex", "org", // prose
    "rs", "py", "c", "h", "cc", "cpp", "hpp", "cu", "cuh", "go", "java", "kt", "scala", "js",
    "jsx", "ts", "tsx", "rb", "php", "swift", "cs", "hs", "ml", "jl", "lua", "pl", "r", "zig",
    "sh", "sql", "wgsl", // source
    "toml", "yaml", "yml", "json", "html", "css", "xml", // markup
];

/// Suffixes of the files in which every line is a JSON object.
const LINES: &[&str] = &["jsonl", "ndjson", "jsonlines"];

/// How a file becomes documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole file is one.
    Text,
    /// Every line is a JSON object with one.
    Jsonl,
    /// Rows, or one document: its content tells.
    Json,
    /// Every row of a column is one.
    Parquet,
    /// The same in a file of Arrow.
    Arrow,
    /// A header, and a document in every row of a column.
    Table { delimiter: u8 },
    /// Ids of tokens.
    Tokens,
    /// A text that is all there is: blocks of it are, and those that begin at byte `train` or behind
    /// it are held out.
    Blocks { train: u64 },
}

/// What a file of text or lines is packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub kind: Kind,
    pub compression: Option<Compression>,
}

impl Format {
    /// A file of token ids.
    pub(crate) const TOKENS: Self = Self { kind: Kind::Tokens, compression: None };

    /// The format of a file by its name, if it is a known one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let (inner, compression) = match suffix(path).as_str() {
            "gz" => (suffix(&path.with_extension("")), Some(Compression::Gzip)),
            "zst" => (suffix(&path.with_extension("")), Some(Compression::Zstd)),
            plain => (plain.to_owned(), None),
        };
        let kind = match (inner.as_str(), compression) {
            (lines, _) if LINES.contains(&lines) => Kind::Jsonl,
            ("json", _) => Kind::Json,
            ("parquet", None) => Kind::Parquet,
            ("arrow", None) => Kind::Arrow,
            ("csv", _) => Kind::Table { delimiter: b',' },
            ("tsv", _) => Kind::Table { delimiter: b'\t' },
            (known, _) if TEXT_SUFFIXES.contains(&known) => Kind::Text,
            _ => return None,
        };
        Some(Self { kind, compression })
    }

    /// The name of the file's contents: packing a file does not rename its documents.
    pub(crate) fn unpacked_name(self, name: &str) -> &str {
        match self.compression {
            Some(_) => name.rsplit_once('.').map_or(name, |(name, _)| name),
            None => name,
        }
    }
}

impl Compression {
    /// A reader of what is packed in `path`; all members of a gzip file and all frames of a zstd
    /// file, one after the other.
    fn open(self, file: File) -> io::Result<Box<dyn BufRead + Send>> {
        let file = BufReader::new(file);
        Ok(match self {
            Self::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(file))),
            Self::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(file)?)),
        })
    }
}

/// Opens a file for reading what is packed in it, if anything is.
pub(crate) fn open(
    path: &Path,
    compression: Option<Compression>,
) -> Result<Box<dyn BufRead + Send>> {
    let file = fs::open(path)?;
    match compression {
        Some(compression) => Ok(compression.open(file).map_err(fs::error(path, "unpack"))?),
        None => Ok(Box::new(BufReader::with_capacity(1 << 16, file))),
    }
}

/// The lower-case suffix of a file name, without its dot.
pub(crate) fn suffix(path: &Path) -> String {
    path.extension().map(|suffix| suffix.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        let of = |name: &str| Format::of(Path::new(name));
        let format = |kind, compression| Some(Format { kind, compression });
        assert_eq!(of("a/b.JSONL"), format(Kind::Jsonl, None));
        assert_eq!(of("b.jsonl.gz"), format(Kind::Jsonl, Some(Compression::Gzip)));
        assert_eq!(of("b.txt.ZST"), format(Kind::Text, Some(Compression::Zstd)));
        assert_eq!(of("b.ndjson"), format(Kind::Jsonl, None));
        assert_eq!(of("c4.json.gz"), format(Kind::Json, Some(Compression::Gzip)));
        assert_eq!(of("b.parquet"), format(Kind::Parquet, None));
        assert_eq!(of("b.arrow"), format(Kind::Arrow, None));
        let table = Kind::Table { delimiter: b'\t' };
        assert_eq!(of("b.tsv.gz"), format(table, Some(Compression::Gzip)));
        for unknown in ["b.parquet.gz", "b.gz", "gz", "b", "b.tar.gz", "b.png", ".txt", "b.gz.gz"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn names_of_contents_leave_the_packing_out() {
        let name = |name: &str| Format::of(Path::new(name)).unwrap().unpacked_name(name).to_owned();
        assert_eq!(name("a/b.jsonl.GZ"), "a/b.jsonl");
        assert_eq!(name("b.txt.zst"), "b.txt");
        assert_eq!(name("b.v2.txt"), "b.v2.txt");
    }
}
