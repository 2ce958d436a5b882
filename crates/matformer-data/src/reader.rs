//! Files become named documents; what is no text is named, counted and left out.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use matformer_core::fs;

use crate::counts::{BadRow, Dropped, Taken};
use crate::format::{self, Format, Kind};
use crate::json::{self, Layout};
use crate::{DataConfig, Error, Result, parquet};

/// Bad rows that are named; the rest are counted.
const NAMED: usize = 5;
/// What some editors put in front of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One text with its name: `folder/path/in/it.rs`, `rows.jsonl:17`, `owner/name/rows.parquet:17` or
/// `crate/src/lib.rs`; no machine path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Unique within both splits.
    pub name: String,
    /// The text, as it was in the file, but for a byte order mark in front of it.
    pub text: String,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// The name of its document, or what stands in front of `:17` in the names of its rows. Holds
    /// no machine path.
    pub name: String,
    /// What errors call it: its path, or its hub name.
    pub label: String,
    /// What it holds.
    pub format: Format,
}

/// Reads files and counts what it leaves out.
pub(crate) struct Reader<'a> {
    field: &'a str,
    max_bytes: usize,
    /// Rows and files, good or bad.
    read: usize,
    dropped: Dropped,
    /// The first of them.
    bad: Vec<BadRow>,
    taken: Taken,
}

impl<'a> Reader<'a> {
    /// A reader of the field `field` that leaves out documents of more than `max_bytes`.
    pub(crate) fn new(field: &'a str, max_bytes: usize) -> Self {
        Self {
            field,
            max_bytes,
            read: 0,
            dropped: Dropped::default(),
            bad: Vec::new(),
            taken: Taken::default(),
        }
    }

    /// Adds the documents of a file to `out`.
    ///
    /// # Errors
    /// A file that cannot be read or unpacked, or has no such column; bad rows are no errors yet.
    pub(crate) fn read(&mut self, input: &Input, out: &mut Vec<Document>) -> Result<()> {
        match input.format.kind {
            Kind::Text => {
                let file = format::open(&input.path, input.format.compression)?;
                self.text(input, file, out)
            }
            Kind::Json | Kind::Jsonl => self.json(input, out),
            Kind::Parquet => {
                let (field, mut number) = (self.field, 0);
                parquet::rows(&input.path, &input.label, field, &mut |row| {
                    number += 1;
                    let text = match row {
                        Some(bytes) => utf8(bytes.to_vec()),
                        None => Err(format!("`{field}` is null")),
                    };
                    self.row(input, ("row", number), text, out);
                })
            }
        }
    }

    /// A whole file as one document.
    fn text(&mut self, input: &Input, file: impl Read, out: &mut Vec<Document>) -> Result<()> {
        let most = (self.max_bytes as u64).saturating_add(BYTE_ORDER_MARK.len() as u64 + 1);
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map_err(|error| unreadable(input, error))?;
        self.read += 1;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.len() > self.max_bytes {
            self.dropped.too_large += 1;
            return Ok(());
        }
        match utf8(bytes) {
            Ok(text) => self.keep(input.name.clone(), text, out),
            Err(reason) => self.bad(input, None, reason),
        }
        Ok(())
    }

    /// The rows of a file of JSON, or the file as one document. Its first lines mostly tell which; an
    /// array, or objects over several lines, is held in memory.
    fn json(&mut self, input: &Input, out: &mut Vec<Document>) -> Result<()> {
        let failed = |error| unreadable(input, error);
        let mut file = format::open(&input.path, input.format.compression)?;
        let mut start = Vec::new();
        let first = next_line(&mut file, &mut start).map_err(failed)?;
        let more = next_line(&mut file, &mut start).map_err(failed)? > first;
        let first_line = start[..first].strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start[..first]);
        let by_name = input.format.kind == Kind::Jsonl;
        let mut layout = Layout::of_start(first_line, more);
        if layout.is_none() {
            file.read_to_end(&mut start).map_err(failed)?;
            let json = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start);
            layout = Some(Layout::of_all(json, self.field));
        }
        match layout {
            Some(Layout::Objects) => {
                self.taken.rows.add(&input.label);
                let json = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start);
                self.objects(input, json, out);
                Ok(())
            }
            // Lines that are no objects are counted as bad rows.
            Some(Layout::Whole) if by_name => self.lines(input, start.chain(file), out),
            Some(Layout::Cut) => {
                self.read += 1;
                self.bad(input, None, "a JSON array that ends in the middle".into());
                Ok(())
            }
            Some(Layout::Lines) => {
                if !by_name {
                    self.taken.rows.add(&input.label);
                }
                self.lines(input, start.chain(file), out)
            }
            Some(Layout::Whole) | None => {
                self.taken.documents.add(&input.label);
                self.text(input, start.chain(file), out)
            }
        }
    }

    /// Every object of an array, or of a file, as one document.
    fn objects(&mut self, input: &Input, json: &[u8], out: &mut Vec<Document>) {
        for (index, object) in json::objects(json).unwrap_or_default().into_iter().enumerate() {
            let text = json::text_of(&json[object], self.field);
            self.row(input, ("object", index + 1), text, out);
        }
    }

    /// Every line of a file as one document.
    fn lines(
        &mut self,
        input: &Input,
        mut file: impl BufRead,
        out: &mut Vec<Document>,
    ) -> Result<()> {
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            let read = file.read_until(b'\n', &mut line);
            if read.map_err(|error| unreadable(input, error))? == 0 {
                return Ok(());
            }
            number += 1;
            let row = match number {
                1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line),
                _ => &line,
            };
            let row = row.trim_ascii();
            if !row.is_empty() {
                self.row(input, ("line", number), json::text_of(row, self.field), out);
            }
        }
    }

    fn row(
        &mut self,
        input: &Input,
        (unit, number): (&str, usize),
        text: Result<String, String>,
        out: &mut Vec<Document>,
    ) {
        self.read += 1;
        match text {
            Ok(text) => self.keep(format!("{}:{number}", input.name), text, out),
            Err(reason) => self.bad(input, Some(format!("{unit} {number}")), reason),
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

    fn bad(&mut self, input: &Input, place: Option<String>, reason: String) {
        self.dropped.bad_rows += 1;
        if self.bad.len() < NAMED {
            self.bad.push(BadRow { file: input.label.clone(), place, reason });
        }
    }

    /// What was left out, after a warning that names the first bad rows, and what was taken for rows.
    ///
    /// # Errors
    /// [`Error::BadRows`] if there are more of them than `config` allows.
    pub(crate) fn finish(self, config: &DataConfig) -> Result<(Dropped, Taken)> {
        let (bad, read) = (self.dropped.bad_rows, self.read);
        let allowed = (!config.strict).then_some(config.max_bad_rows);
        if bad as f64 > allowed.unwrap_or(0.0) * read as f64 {
            return Err(Error::BadRows { bad, read, allowed, first: self.bad });
        }
        for row in &self.bad {
            tracing::warn!("skipped {row}");
        }
        if bad > self.bad.len() {
            tracing::warn!("skipped {} more bad rows", bad - self.bad.len());
        }
        Ok((self.dropped, self.taken))
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// Adds the lines of a file to `out` up to the next one that is not blank; the bytes that `out` has.
fn next_line(file: &mut impl BufRead, out: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        let before = out.len();
        if file.read_until(b'\n', out)? == 0 {
            return Ok(before);
        }
        let line = &out[before..];
        if !line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii().is_empty() {
            return Ok(out.len());
        }
    }
}

/// Why reading a file failed: its packing is damaged, or the system says so.
fn unreadable(input: &Input, error: std::io::Error) -> Error {
    let format = match input.format.compression {
        Some(format::Compression::Gzip) => "gzip",
        Some(format::Compression::Zstd) => "zstd",
        None => return fs::error(&input.path, "read")(error).into(),
    };
    Error::Unreadable { file: input.label.clone(), format, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    /// A file of these bytes, read with the field `text`; what `finish` says of it and its documents
    /// as (name, text).
    fn read_with(
        name: &str,
        bytes: &[u8],
        config: &DataConfig,
    ) -> (Result<Dropped>, Vec<(String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let format = Format::of(Path::new(name)).unwrap();
        let input = Input { path, name: name.into(), label: name.into(), format };
        let mut reader = Reader::new(&config.field, config.max_file_bytes.unwrap_or(usize::MAX));
        let mut documents = Vec::new();
        let result = reader.read(&input, &mut documents).and_then(|()| reader.finish(config));
        let result = result.map(|(dropped, _)| dropped);
        (result, documents.into_iter().map(|document| (document.name, document.text)).collect())
    }

    fn read(name: &str, bytes: &[u8]) -> (Dropped, Vec<(String, String)>) {
        let config = DataConfig { max_bad_rows: 1.0, ..DataConfig::default() };
        let (dropped, documents) = read_with(name, bytes, &config);
        (dropped.unwrap(), documents)
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.into(), text.into())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    #[test]
    fn rows_are_documents_named_by_line() {
        let rows = "{\"text\": \"one\", \"id\": 1}\n\n{\"text\": \"two\"}\r\n{\"text\": \"three\"}";
        let expected =
            [pair("r.jsonl:1", "one"), pair("r.jsonl:3", "two"), pair("r.jsonl:4", "three")];
        assert_eq!(read("r.jsonl", rows.as_bytes()), (Dropped::default(), expected.to_vec()));
    }

    #[test]
    fn json_that_looks_like_rows_is_rows_whatever_its_suffix() {
        let one = [pair("r.json.gz:1", "one"), pair("r.json.gz:2", "two")];
        let lines = b"{\"text\": \"one\", \"n\": NaN}\n{\"text\": \"two\"}\n";
        assert_eq!(read("r.json.gz", &gzip(lines)).1, one);
        let named =
            |name: &str| one.clone().map(|(place, text)| (place.replace("r.json.gz", name), text));
        assert_eq!(read("r.ndjson", lines).1, named("r.ndjson"));
        let array = b"\xef\xbb\xbf\n[{\"text\": \"one\"},\n {\"text\": \"two\"}]\n";
        assert_eq!(read("r.json", array).1, named("r.json"));
        assert_eq!(read("r.jsonl", array).1, named("r.jsonl"));
        let pretty = b"{\n  \"text\": \"one\"\n}\n{\n  \"text\": \"two\"\n}\n";
        assert_eq!(read("r.json", pretty).1, named("r.json"));
        let blank = b"\n\n{\"text\": \"one\"}\n\n\n{\"text\": \"two\"}";
        let found = read("r.json", blank).1;
        assert_eq!(found, [pair("r.json:3", "one"), pair("r.json:6", "two")]);
        // What does not look like rows is a document.
        let package = b"{\n  \"name\": \"x\"\n}\n";
        let whole = |bytes: &[u8]| vec![pair("p.json", str::from_utf8(bytes).unwrap())];
        assert_eq!(read("p.json", package).1, whole(package));
        assert_eq!(read("p.json", b"// no JSON\n{").1, whole(b"// no JSON\n{"));
        assert_eq!(read("p.json", b"[1, 2]").1, whole(b"[1, 2]"));
        assert_eq!(read("p.json", b"").0.empty, 1);
        assert_eq!(read("p.jsonl", b"").0, Dropped::default());
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(read("a.txt", b"\xef\xbb\xbfx").1, [pair("a.txt", "x")]);
        let rows = b"\xef\xbb\xbf{\"text\": \"\xef\xbb\xbfx\"}\n";
        assert_eq!(read("a.jsonl", rows).1, [pair("a.jsonl:1", "\u{feff}x")]);
        assert_eq!(read("a.txt", b"\xef\xbb\xbf").0.empty, 1);
        let small = DataConfig { max_file_bytes: Some(3), ..DataConfig::default() };
        assert_eq!(read_with("a.txt", b"\xef\xbb\xbfabc", &small).1, [pair("a.txt", "abc")]);
        assert_eq!(read_with("a.txt", b"\xef\xbb\xbfabcd", &small).0.unwrap().too_large, 1);
        assert_eq!(read_with("a.txt", b"abcdefgh", &small).0.unwrap().too_large, 1);
    }

    #[test]
    fn packed_files_are_unpacked_member_by_member() {
        let rows = [&b"{\"text\": \"one\"}\n{\"te"[..], b"xt\": \"two\"}\n"];
        let expected = [pair("r.jsonl.gz:1", "one"), pair("r.jsonl.gz:2", "two")];
        assert_eq!(read("r.jsonl.gz", &gzip(&rows.concat())).1, expected);
        assert_eq!(read("r.jsonl.gz", &rows.map(gzip).concat()).1, expected);
        let expected = [pair("r.jsonl.zst:1", "one"), pair("r.jsonl.zst:2", "two")];
        assert_eq!(read("r.jsonl.zst", &zstd(&rows.concat())).1, expected);
        assert_eq!(read("r.jsonl.zst", &rows.map(zstd).concat()).1, expected);
        assert_eq!(read("a.txt.gz", &gzip("ä".as_bytes())).1, [pair("a.txt.gz", "ä")]);
        assert_eq!(read("a.md.zst", &zstd(b"b")).1, [pair("a.md.zst", "b")]);
    }

    #[test]
    fn damaged_packing_is_an_error_that_names_the_file() {
        let rows = b"{\"text\": \"one\"}\n".repeat(50);
        let (gz, zst) = (gzip(&rows), zstd(&rows));
        let mut flipped = gz.clone();
        flipped[12] ^= 0xff;
        for (name, bytes) in [
            ("r.jsonl.gz", &gz[..gz.len() - 5]),
            ("r.jsonl.gz", &gz[..10]),
            ("r.jsonl.gz", &flipped),
            ("r.jsonl.gz", b"plain"),
            ("r.txt.gz", &gz[..gz.len() - 5]),
            ("r.jsonl.zst", &zst[..zst.len() - 5]),
            ("r.jsonl.zst", b"plain"),
            ("r.txt.zst", &zst[..zst.len() / 2]),
        ] {
            let error = read_with(name, bytes, &DataConfig::default()).0.unwrap_err();
            assert!(matches!(&error, Error::Unreadable { .. }), "{name}: {error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn bad_rows_are_counted_and_say_why() {
        for (row, reason) in [
            (&b"{\"body\": \"x\", \"id\": 1}"[..], "no field `text`, there are: body, id"),
            (b"{\"text\": 3}", "`text` is a number, expected: a string"),
            (b"{\"text\": null}", "`text` is null, expected: a string"),
            (b"[\"text\"]", "a list, expected: an object"),
            (b"{\"text\": \r\n", "not JSON: EOF while parsing a value at column 8"),
            (b"{}", "no field `text`, there are: none"),
            (b"{\"text\": \"\\ud800\"}", "not JSON: "),
            (b"{\"text\": \"\xff\"}", "not JSON: invalid unicode code point"),
        ] {
            let rows = [b"{\"text\": \"good\"}\n", row].concat();
            let strict = DataConfig { strict: true, ..DataConfig::default() };
            let (result, documents) = read_with("r.jsonl", &rows, &strict);
            assert_eq!(documents, [pair("r.jsonl:1", "good")]);
            let Err(Error::BadRows { bad: 1, read: 2, first, .. }) = result else {
                panic!("{result:?}");
            };
            let said = first[0].to_string();
            assert!(said.starts_with(&format!("`r.jsonl`, line 2: {reason}")), "{said}");
        }
        let (dropped, _) = read("cut.json", b"[\n{\"text\": \"x\"},\n{\"text\":");
        assert_eq!(dropped.bad_rows, 1);
        let deep = [b"{\"text\": ".to_vec(), b"[".repeat(100_000)].concat();
        assert_eq!(read("r.jsonl", &deep).0.bad_rows, 1);
        let (dropped, documents) = read("latin1.txt", b"caf\xe9");
        assert_eq!((dropped.bad_rows, documents.len()), (1, 0));
    }

    #[test]
    fn more_bad_rows_than_allowed_are_an_error_that_names_five() {
        let rows = |bad: usize| {
            let good = "{\"text\": \"x\"}\n".repeat(1000 - bad);
            good + &"{}\n".repeat(bad)
        };
        let at = |bad, config: &DataConfig| read_with("r.jsonl", rows(bad).as_bytes(), config).0;
        let config = DataConfig::default();
        assert_eq!(at(10, &config).unwrap().bad_rows, 10);
        let error = at(11, &config).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(
            "11 of 1000 rows and files are bad, more than `data.max_bad_rows` = 0.01 allows:\n"
        ));
        assert_eq!(said.lines().count(), 7);
        assert!(
            said.contains("\n  `r.jsonl`, line 990: ") && said.ends_with("and 6 more"),
            "{said}"
        );
        assert!(at(11, &DataConfig { max_bad_rows: 0.02, ..config.clone() }).is_ok());
        let strict = DataConfig { strict: true, max_bad_rows: 0.5, ..config };
        assert!(at(1, &strict).unwrap_err().hint().unwrap().contains("data.strict"));
        assert!(at(0, &strict).is_ok());
    }

    #[test]
    fn dropped_says_what_there_is() {
        let dropped = Dropped { too_large: 0, duplicate: 2, empty: 3, bad_rows: 1 };
        assert_eq!(dropped.to_string(), "1 bad row, 3 empty, 2 duplicates");
        assert_eq!(Dropped::default().to_string(), "none");
    }
}
