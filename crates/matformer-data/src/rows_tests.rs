use std::io::Write;
use std::path::Path;

use super::*;
use crate::format::Format;

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
    let name: String = name.into();
    let input = Input::new(&path, name.clone(), name.clone(), format);
    let inputs = vec![Input { name, named: true, ..input }];
    let max_bytes = config.max_file_bytes.unwrap_or(usize::MAX);
    let wanted = Wanted { field: config.field.clone(), max_bytes, tokenizer: None, chat: None };
    let mut found = Found::default();
    let result = found
        .read(&inputs, (std::slice::from_ref(&wanted), config.max_bad_rows), &mut |_| {})
        .and_then(|()| found.check_bad(config));
    let mut documents = found.documents;
    documents.sort_by(|a, b| Names(&inputs).order(a, b));
    let (train, dropped, notes) = (0, Dropped::default(), Vec::new());
    let (wanted, validation) = (vec![wanted], false);
    let census = Census { inputs, wanted, documents, train, validation, dropped, notes };
    let mut texts = Texts::new(&census);
    let text = |document: &Entry| {
        let text = texts.get(document).unwrap().text(&census.wanted[0]).unwrap();
        (census.name(document), text)
    };
    (result, census.documents.iter().map(text).collect())
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
    let expected = [pair("r.jsonl:1", "one"), pair("r.jsonl:3", "two"), pair("r.jsonl:4", "three")];
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
        assert!(matches!(&error, Error::Damaged { .. }), "{name}: {error:?}");
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
    assert!(said.contains("\n  `r.jsonl`, line 990: ") && said.ends_with("and 6 more"), "{said}");
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

#[test]
fn tables_have_a_header_and_quoted_fields() {
    let csv = b"\xef\xbb\xbfid,text\n1,one\n2,\"two, \"\"2\"\"\nlines\"\n3,\n4\n5,five,more\n";
    let (dropped, documents) = read("r.csv", csv);
    let five = pair("r.csv:5", "five");
    assert_eq!(documents, [pair("r.csv:1", "one"), pair("r.csv:2", "two, \"2\"\nlines"), five]);
    assert_eq!((dropped.empty, dropped.bad_rows), (1, 1));
    assert_eq!(read("r.tsv.gz", &gzip(b"text\tn\na, b\t1\n")).1, [pair("r.tsv.gz:1", "a, b")]);
    let (result, _) = read_with("r.csv", b"id,body\n1,x\n", &DataConfig::default());
    let said = result.unwrap_err().to_string();
    assert_eq!(said, "`r.csv` has no column of text `text`, there are: id, body");
}
