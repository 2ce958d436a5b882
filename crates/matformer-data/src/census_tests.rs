use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use super::names::by_digits;
use super::*;
use crate::format::Format;
use crate::{Hash, Source};

fn read(files: &[(&str, &[u8])], change: impl FnOnce(&mut DataConfig)) -> Result<Census> {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    for (path, bytes) in files {
        let path = data.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let paths = vec![Path::new(&data).into()];
    let mut config = DataConfig { paths, held_out: 0.5, ..DataConfig::default() };
    change(&mut config);
    let census = Census::take(&config, None, &mut |_| {})?;
    // All texts come back by their places.
    let mut texts = Texts::new(&census);
    for document in &census.documents {
        let text = texts.get(document)?.text(&census.wanted[0]).unwrap();
        assert_eq!(Hash::of(text.as_bytes()).as_bytes()[..16], document.hash);
    }
    Ok(census)
}

fn names(census: &Census) -> Vec<String> {
    let mut names: Vec<_> = census.documents.iter().map(|entry| census.name(entry)).collect();
    names.sort_unstable();
    names
}

/// The names in each split, in their order.
fn splits(census: &Census) -> [Vec<String>; 2] {
    census.splits().map(|split| split.iter().map(|entry| census.name(entry)).collect())
}

#[test]
fn what_is_no_text_is_counted() {
    let files: [(&str, &[u8]); 6] = [
        ("a.txt", b"a"),
        ("b.rs", b"b"),
        ("empty.md", b""),
        ("latin1.md", b"\xe9"),
        ("large.md", b"0123456789"),
        ("rows.jsonl", b"{\"body\": \"c\", \"text\": 3}\n{\"text\": \"0123456789\"}"),
    ];
    let census = read(&files, |config| {
        config.max_file_bytes = Some(9);
        config.max_bad_rows = 0.5;
    })
    .unwrap();
    assert_eq!(names(&census), ["a.txt", "b.rs"]);
    let dropped = Dropped { too_large: 2, duplicate: 0, empty: 1, bad_rows: 2 };
    assert_eq!(census.dropped, dropped);
    let by_body = |config: &mut DataConfig| {
        config.field = "body".into();
        config.max_bad_rows = 0.5;
    };
    let all = read(&files, by_body).unwrap();
    assert_eq!(names(&all)[2..], ["large.md", "rows.jsonl:1"]);
    let Err(Error::BadRows { bad: 2, read: 7, .. }) = read(&files, |_| {}) else { panic!() };
}

#[test]
fn a_wrong_field_is_refused_at_the_first_row() {
    let rows = "{\"body\": \"c\", \"id\": 3}\n".repeat(500);
    let said = |files: &[(&str, &[u8])]| read(files, |_| {}).unwrap_err();
    let error = said(&[("README.md", b"about"), ("rows.jsonl", rows.as_bytes())]);
    let message = error.to_string();
    assert!(
        message.ends_with("rows.jsonl`, line 1: no field `text`, there are: body, id"),
        "{message}"
    );
    assert_eq!(
        error.hint().unwrap(),
        "name the field of the text with `data.field`; for conversations, set `data.chat`"
    );
    // Among many other files it is a bad row.
    let files: Vec<String> = (0..300).map(|index| format!("{index}.txt")).collect();
    let mut files: Vec<(&str, &[u8])> =
        files.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    files.push(("x.jsonl", b"{\"body\": \"c\"}"));
    assert_eq!(read(&files, |_| {}).unwrap().dropped.bad_rows, 1);
}

#[test]
fn documents_are_in_the_order_of_their_names() {
    let row = |index: usize| format!("{{\"text\": \"row {index}\"}}\n");
    let rows: String = (1..=1234).map(row).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(rows.replace("row", "packed").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let array = format!("[{}]", rows.replace("row", "array").trim_end().replace('\n', ",\n"));
    let files: [(&str, &[u8]); 6] = [
        ("b.jsonl", rows.as_bytes()),
        ("b.jsonl-more/a.txt", b"other"),
        ("b.jsonl.txt", b"text"),
        ("b.jsonl:12.txt", b"between"),
        ("a.jsonl.gz", &packed),
        ("c.json", array.as_bytes()),
    ];
    let [train, held_out] = splits(&read(&files, |_| {}).unwrap());
    assert!(train.is_sorted() && held_out.is_sorted());
    assert_eq!(train.len() + held_out.len(), 3 * 1234 + 3);
    let place = |name: &str| train.iter().chain(&held_out).position(|found| found == name);
    assert!(place("b.jsonl:1000").is_some() && place("b.jsonl:12.txt").is_some());
}

#[test]
fn numbers_are_in_the_order_of_their_digits() {
    let mut numbers: Vec<u32> =
        (0..1200).chain([u32::MAX, u32::MAX - 1, 1 << 31, 42_949]).collect();
    numbers.sort_unstable_by(|a, b| by_digits(*a, *b));
    let mut texts: Vec<String> = numbers.iter().map(u32::to_string).collect();
    texts.sort_unstable();
    assert!(numbers.iter().map(u32::to_string).eq(texts));
}

#[test]
fn a_text_that_is_all_there_is_ends_held_out() {
    let line = |index: usize| format!("line {index} of the play\n");
    let text: String = (0..100_000).map(line).collect();
    let read = |name: &str, bytes: &[u8]| {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let config =
            DataConfig { paths: vec![path.into()], held_out: 0.1, ..DataConfig::default() };
        let census = Census::take(&config, None, &mut |_| {}).unwrap();
        let mut texts = Texts::new(&census);
        let [train, held_out] = census.splits().map(|split| {
            let text = |entry| texts.get(entry).unwrap().text(&census.wanted[0]).unwrap();
            split.iter().map(text).collect::<Vec<_>>()
        });
        (splits(&census), train, held_out, census.notes.concat())
    };
    let (names, train, held_out, note) = read("input.txt", text.as_bytes());
    assert_eq!([train.concat(), held_out.concat()].concat(), text, "nothing is lost");
    assert_eq!((train.len(), names[0][0].as_str()), (2, "input.txt:00000001"));
    assert!(held_out.len() > 40 && held_out.iter().all(|block| block.ends_with('\n')));
    let share = held_out.concat().len() as f64 / text.len() as f64;
    assert!((0.1..0.2).contains(&share), "{share}");
    assert!(
        note.ends_with("input.txt` is all there is: its last 10 % are held out, in blocks"),
        "{note}"
    );
    // The same packed; and without the end of a line.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    assert_eq!(read("input.txt.gz", &packer.finish().unwrap()).1, train);
    let (_, train, held_out, _) = read("long.txt", "é".repeat(20_000).as_bytes());
    assert_eq!((train.concat().len(), held_out.concat().len()), (36_000, 4_000));
}

#[test]
fn validation_is_given_and_kept_whole() {
    let files: [(&str, &[u8]); 4] =
        [("t/a.txt", b"one"), ("t/b.txt", b"two"), ("v/a.txt", b"two"), ("v/b.txt", b"three")];
    let census = read(&files, |config| {
        let Source::Path(root) = config.paths[0].clone() else { panic!() };
        config.paths = vec![root.join("t").into()];
        config.validation = vec![root.join("v").into()];
    })
    .unwrap();
    assert_eq!(splits(&census), [vec!["t/a.txt"], vec!["v/a.txt", "v/b.txt"]]);
    assert_eq!(census.dropped.duplicate, 1);
}

#[test]
fn the_files_of_a_folder_are_a_cluster_where_that_is_asked_for() {
    let files: [(&str, &[u8]); 6] = [
        ("t/a/1.txt", b"1"),
        ("t/a/deep/2.txt", b"2"),
        ("t/b/3.txt", b"3"),
        ("t/4.txt", b"4"),
        ("v/c/5.txt", b"5"),
        ("v/d/6.txt", b"6"),
    ];
    let clusters = |cluster_folders: bool| {
        let census = read(&files, |config| {
            let Source::Path(root) = config.paths[0].clone() else { panic!() };
            config.paths = vec![root.join("t").into()];
            config.validation = vec![root.join("v").into()];
            config.cluster_folders = cluster_folders;
        })
        .unwrap();
        let of = |entry: &Entry| census.cluster(entry).cloned().unwrap_or_default();
        census.splits().map(|split| split.iter().map(of).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(clusters(true), [" a a b", "c d"]);
    assert_eq!(clusters(false), ["   ", " "]);
}

#[test]
fn duplicates_do_not_take_documents_from_the_held_out_split() {
    let rows = |copies: usize, deduplicate: bool| {
        let rows = (0..200).map(|i| format!("{{\"text\": \"row {i}\"}}\n")).collect::<String>();
        let change = |config: &mut DataConfig| {
            config.held_out = 0.2;
            config.deduplicate = deduplicate;
        };
        let census = read(&[("a.jsonl", rows.repeat(copies).as_bytes())], change).unwrap();
        (census.splits()[1].len(), census.dropped.duplicate)
    };
    for (copies, dropped) in [(1, 0), (3, 400)] {
        let (held_out, duplicates) = rows(copies, true);
        assert!((25..60).contains(&held_out), "{copies}: {held_out}");
        assert_eq!(duplicates, dropped);
    }
    let (held_out, duplicates) = rows(3, false);
    assert!((80..170).contains(&held_out) && duplicates == 0, "{held_out}");
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
    let (error, hint) = said(&[("a.jsonl", b"{\"text\": \"a\"}")]);
    assert_eq!(error, "no document is left for `held_out` out of 1");
    assert!(hint.contains("split by document"));
}

#[test]
fn a_split_depends_on_names_and_seed_alone() {
    let held_out = |count: u32, seed, held_out| {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("a.jsonl");
        let name: String = "a".into();
        let format = Format::of(&path).unwrap();
        let inputs = [Input::new(&path, name.clone(), name, format)];
        let entry = |row| Entry { hash: [0; 16], bytes: 1, input: 0, row, held_out: false };
        let mut documents: Vec<Entry> = (0..count).map(entry).collect();
        let config = DataConfig { seed, held_out, ..DataConfig::default() };
        split(&mut documents, Names(&inputs), &config);
        let held = documents.into_iter().filter(|entry| entry.held_out);
        held.map(|entry| entry.row).collect::<HashSet<_>>()
    };
    let many = held_out(2000, 0, 0.1);
    assert!((150..250).contains(&many.len()), "{}", many.len());
    assert!(held_out(1000, 0, 0.1).is_subset(&many));
    assert_ne!(many, held_out(2000, 1, 0.1));
    assert_eq!(held_out(5, 0, 1e-9).len(), 1);
    assert_eq!(held_out(5, 0, 1.0 - 1e-9).len(), 4);
}

#[test]
fn a_file_that_changes_between_the_passes_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let config = DataConfig { paths: vec![path.clone().into()], ..DataConfig::default() };
    let census = Census::take(&config, None, &mut |_| {}).unwrap();
    std::fs::write(&path, "{\"text\": \"a\"}\n").unwrap();
    let mut texts = Texts::new(&census);
    let read: Result<Vec<_>> = census.documents.iter().map(|entry| texts.get(entry)).collect();
    assert!(matches!(read, Err(Error::Changed { .. })), "{read:?}");
}

#[test]
fn a_table_without_the_column_is_read_only_if_it_is_named() {
    let files: [(&str, &[u8]); 4] = [
        ("a.txt", b"a"),
        ("b.txt", b"b"),
        ("numbers.csv", b"x,y\n1,2\n"),
        ("texts.csv", b"text\nc\n"),
    ];
    let census = read(&files, |_| {}).unwrap();
    assert_eq!(names(&census), ["a.txt", "b.txt", "texts.csv:1"]);
    let note = census.notes.concat();
    assert!(note.starts_with("without the column of `data.field`, not read: 1 table (`"), "{note}");
    let named = read(&files, |config| {
        let Source::Path(root) = config.paths[0].clone() else { panic!() };
        config.paths.push(root.join("numbers.csv").into());
    });
    assert!(matches!(named, Err(Error::Column { .. })), "{named:?}");
}
