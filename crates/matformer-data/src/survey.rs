//! What lies at some places, by names, sizes and headers: enough to choose the settings of a run, without
//! reading the data.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::format::{self, Kind};
use crate::inputs::Input;
use crate::{Error, PassedOver, Result, images, inputs, walk};

/// Bytes of a file of rows that are read: the number of rows in the rest follows from them.
const SAMPLE: u64 = 8 << 20;
/// How many times larger text is once it is unpacked, about.
const UNPACKED: u64 = 3;

/// Tables whose columns are looked at.
const TABLES: usize = 16;

/// About how much text there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSurvey {
    /// Bytes of text, unpacked.
    pub bytes: u64,
    /// Documents, where names and first rows tell how many there are.
    pub documents: Option<u64>,
}

/// Which images there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSurvey {
    /// Images, those that the data itself holds out left out.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// The short side that is the median of a sample, in pixels; 0 where no image could be read.
    pub side: usize,
    /// 3 where an image of the sample has colors, else 1.
    pub channels: usize,
}

/// Whether a folder is one of images: most of its files of a known format are, or some hold many, such as `.parquet`
/// files with a column of images.
///
/// # Errors
/// A path that is not there, a folder that cannot be walked.
pub fn holds_images(path: &Path) -> Result<bool> {
    std::fs::metadata(path).map_err(|source| Error::Path { path: path.into(), source })?;
    let files = walk::files(path, &mut PassedOver::default())?;
    let paths = || files.iter().map(|file| file.path.as_path());
    let tables = paths().filter(|path| format::suffix(path) == "parquet").take(TABLES);
    Ok(images::are_images(paths()) || { tables }.any(images::declares_images))
}

/// About how much text is in these files and folders.
///
/// # Errors
/// A path that is not there or of no known format, a folder that cannot be walked.
pub fn survey_text(paths: &[&Path]) -> Result<TextSurvey> {
    let mut all = TextSurvey { bytes: 0, documents: Some(0) };
    let mut passed = PassedOver::default();
    let mut inputs = Vec::new();
    for path in paths {
        inputs.extend(inputs::at(path, paths.len() == 1, &mut passed)?);
    }
    for input in &inputs {
        all = all.and(of_file(input));
    }
    // A text that is all there is becomes blocks.
    if let [alone] = &inputs[..]
        && alone.format.kind == Kind::Text
    {
        all.documents = None;
    }
    Ok(all)
}

impl TextSurvey {
    /// Both together.
    pub fn and(self, more: Self) -> Self {
        let documents = self.documents.zip(more.documents).map(|(all, more)| all + more);
        Self { bytes: self.bytes + more.bytes, documents }
    }
}

/// What a file holds; what is wrong with it is said when it is read.
fn of_file(input: &Input) -> TextSurvey {
    let size = std::fs::metadata(&input.path).map_or(0, |about| about.len());
    let packed = input.format.compression.is_some() || input.format.kind == Kind::Parquet;
    let bytes = if packed { size * UNPACKED } else { size };
    let documents = match input.format.kind {
        Kind::Text | Kind::Blocks { .. } => Some(1),
        Kind::Jsonl | Kind::Table { .. } => rows(input).map(|rows| rows.scaled(bytes)),
        _ => None,
    };
    TextSurvey { bytes, documents }
}

/// Rows at the beginning of a file.
struct Rows {
    rows: u64,
    bytes: u64,
    /// Whether the list is complete.
    all: bool,
}

impl Rows {
    /// The number of rows in so many bytes.
    fn scaled(&self, bytes: u64) -> u64 {
        if self.all { self.rows } else { self.rows.saturating_mul(bytes) / self.bytes.max(1) }
    }
}

fn rows(input: &Input) -> Option<Rows> {
    let file = format::open(&input.path, input.format.compression).ok()?;
    let mut sample = std::io::BufReader::new(file.take(SAMPLE));
    let (mut line, mut rows, mut bytes) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let read = sample.read_until(b'\n', &mut line).ok()? as u64;
        if read == 0 {
            return Some(Rows { rows, bytes, all: bytes < SAMPLE });
        }
        bytes += read;
        rows += u64::from(!line.trim_ascii().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root
    }

    #[test]
    fn documents_are_files_and_rows() {
        let root = place(&[
            ("a.txt", b"one"),
            ("b.md", b"two"),
            ("rows.jsonl", b"{\"text\": \"a\"}\n\n{\"text\": \"b\"}"),
            ("photo.png", b"no text"),
        ]);
        let found = |name: &str| survey_text(&[&root.path().join(name)]);
        assert_eq!(found("").unwrap(), TextSurvey { bytes: 34, documents: Some(4) });
        assert_eq!(found("a.txt").unwrap(), TextSurvey { bytes: 3, documents: None });
        assert!(found("photo.png").is_err() && found("none").is_err());
    }

    #[test]
    fn long_files_are_not_read_to_their_end() {
        let row = format!("{{\"text\": \"{}\"}}\n", "x".repeat(1000));
        let root = place(&[("rows.jsonl", row.repeat(10_000).as_bytes())]);
        let found = survey_text(&[root.path()]).unwrap();
        let documents = found.documents.unwrap();
        assert!((9_990..=10_010).contains(&documents), "{documents}");
    }

    #[test]
    fn a_folder_holds_what_most_of_its_files_are() {
        let root = place(&[
            ("pictures/a/1.png", b""),
            ("pictures/b/2.JPG", b""),
            ("pictures/about.txt", b"about"),
            ("texts/a.txt", b"a"),
            ("mnist/train-images-idx3-ubyte.gz", b""),
            ("cifar/train.bin", b""),
            ("cifar/fine_label_names.txt", b""),
        ]);
        let found = |name: &str| holds_images(&root.path().join(name));
        for images in ["pictures", "mnist", "cifar", "pictures/a/1.png"] {
            assert!(found(images).unwrap(), "{images}");
        }
        assert!(!found("texts").unwrap());
        assert!(found("none").is_err());
    }
}
