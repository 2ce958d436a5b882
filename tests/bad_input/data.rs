//! Text and prepared data.

use super::train;
use crate::support::Place;

#[test]
fn text_that_is_not_there() {
    let place = Place::trained();
    place.write("other/notes.pdf", "");
    let with = |set: &str| place.refused(&["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(with("data.paths=[\"nothing\"]"), @"
    reading documents
    error: cannot read `nothing`: No such file or directory (os error 2)
    hint: relative paths in a run file start at its folder, those of --set in the working directory
    ");
    snapshot!(with("data.paths=[\"runs/.crates/train\"]"), @"
    reading documents
    error: cannot read `runs/.crates/train`: No such file or directory (os error 2)
    hint: `cargo xtask crates`, in the repository, copies Rust sources there
    ");
    snapshot!(with("data.paths=[\"other\"]"), @r"
    reading documents
    error: no text: `data.paths` has no file of a known format; passed over: 1 file of unknown format (notes.pdf)
    hint: known suffixes are `jsonl`, `csv`, `tsv`, `parquet`, `arrow` and: txt, md, rst, tex, org, rs, py, c, h, cc, cpp, hpp, cu, cuh, go, java, kt, scala, js, jsx, ts, tsx, rb, php, swift, cs, hs, ml, jl, lua, pl, r, zig, sh, sql, wgsl, toml, yaml, yml, json, html, css, xml; all but `parquet` and `arrow` also with `.gz` or `.zst`
    ");
    snapshot!(with("data.paths=[\"other/notes.pdf\"]"), @r"
    reading documents
    error: `other/notes.pdf` is of no known text format
    hint: known suffixes are `jsonl`, `csv`, `tsv`, `parquet`, `arrow` and: txt, md, rst, tex, org, rs, py, c, h, cc, cpp, hpp, cu, cuh, go, java, kt, scala, js, jsx, ts, tsx, rb, php, swift, cs, hs, ml, jl, lua, pl, r, zig, sh, sql, wgsl, toml, yaml, yml, json, html, css, xml; all but `parquet` and `arrow` also with `.gz` or `.zst`
    ");
    snapshot!(train("", &[]), @"error: `data.paths` is empty, expected: files, folders or hub names");
}

#[test]
fn too_little_text() {
    let place = Place::trained();
    place.write("short.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n{\"text\": \"e f\"}\n");
    // Judged by tokens: the text is prepared first, and stays so.
    let arguments = ["train", "run.toml", "--out", "out", "--set", "data.held_out=0.5"];
    let output =
        place.matformer(&[&arguments[..], &["--set", "data.paths=[\"short.jsonl\"]"]].concat());
    assert!(!place.path("out").exists());
    measured_snapshot!(output, @"
    exit code 2
    --- standard error
    reading documents
    training the tokenizer
    encoding documents
    data [hash]: 4 training tokens of 2 documents, 3 held-out tokens of 1
    note: the text gives a vocabulary of 259, fewer than `data.vocab_size`, which is 300
    note: 1 document held out: too few for a precise held-out loss; `data.held_out` sets their share
    error: the training text has 7 tokens; one batch of 8 rows of 32 needs 257
    hint: add text, or lower `train.tokens_per_step`
    ");
}

#[test]
fn no_text_at_all() {
    let place = Place::trained();
    place.write("empty.jsonl", "");
    place.write("one.jsonl", "{\"text\": \"one row\"}\n");
    let with = |set: &str| place.refused(&["train", "run.toml", "--out", "out", "--set", set]);
    snapshot!(with("data.paths=[\"empty.jsonl\"]"), @"
    reading documents
    error: no text: there is no row in any file of `data.paths`
    ");
    snapshot!(with("data.paths=[\"one.jsonl\"]"), @"
    reading documents
    error: no document is left for `held_out` out of 1
    hint: data is split by document: give more files than one, or a `.jsonl` file with one document per row, or change `data.held_out`
    ");
}

/// The text of a place was copied: its records in the cache are of other times until it has been read again.
fn read_again(place: &Place) {
    place.matformer(&["train", "run.toml", "--out", "other", "--set", "train.steps=1"]).ok();
    place.matformer(&["eval", "run", "--tokens", "40"]).ok();
}

/// What `train` and `eval` say after bytes of a prepared shard were changed.
fn shard(name: &str, change: impl Fn(&mut Vec<u8>)) -> [String; 2] {
    let place = Place::trained();
    read_again(&place);
    let path = place.tree().into_keys().find(|path| path.ends_with(name)).unwrap();
    let mut bytes = std::fs::read(place.path(&path)).unwrap();
    change(&mut bytes);
    place.write(&path, bytes);
    let last_two = |said: String| {
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len() - 2..].join("\n")
    };
    [&["train", "run.toml", "--out", "out"][..], &["eval", "run"]]
        .map(|arguments| last_two(place.refused(arguments)))
}

#[test]
fn shards_that_are_damaged() {
    let both = |[train, eval]: [String; 2]| {
        assert_eq!(train, eval);
        train
    };
    hashed_snapshot!(both(shard("held_out.bin", |b| b[24] ^= 1)), @"
    error: token shard `cache/[hash]/held_out.bin`: made by tokenizer [hash], expected: [hash]
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.bin", |b| b.truncate(b.len() - 1))), @"
    error: token shard `cache/[hash]/held_out.bin`: 7499 bytes of tokens, expected: 7500 (the header's count)
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.bin", |b| b.truncate(20))), @"
    error: token shard `cache/[hash]/held_out.bin`: 20 bytes are shorter than the header: 56
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.bin", |b| b[0] = b'X')), @"
    error: token shard `cache/[hash]/held_out.bin`: starts with `XFTOKENS`, expected: `MFTOKENS`
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.bin", |b| b[8] = 7)), @"
    error: token shard `cache/[hash]/held_out.bin`: format version 7, expected: 1 or 2
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.bin", |b| b[59] = 255)), @"
    error: token shard `cache/[hash]/held_out.bin`: token 65331 at position 1, expected: below 300
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(both(shard("held_out.docs.jsonl", |b| b.truncate(b.len() - 20))), @"
    error: document list `cache/[hash]/held_out.docs.jsonl`: line 13: EOF while parsing a string at line 1 column 42
    hint: remove `cache/[hash]`; it is prepared again
    ");
    let train = |change: fn(&mut Vec<u8>)| {
        let place = Place::trained();
        read_again(&place);
        let path = place.tree().into_keys().find(|path| path.ends_with("train.bin")).unwrap();
        let mut bytes = std::fs::read(place.path(&path)).unwrap();
        change(&mut bytes);
        place.write(&path, bytes);
        place.refused(&["train", "run.toml", "--out", "out"])
    };
    hashed_snapshot!(train(|b| b[24] ^= 1), @r"
    data [hash]: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13 (prepared before)
    error: token shard `cache/[hash]/train.bin`: made by tokenizer [hash], expected: [hash]
    hint: remove `cache/[hash]`; it is prepared again
    ");
    hashed_snapshot!(train(|b| b.truncate(b.len() / 2)), @r"
    data [hash]: 13.5k training tokens of 47 documents, 3.7k held-out tokens of 13 (prepared before)
    error: token shard `cache/[hash]/train.bin`: 13483 bytes of tokens, expected: 27022 (the header's count)
    hint: remove `cache/[hash]`; it is prepared again
    ");
}

#[test]
fn data_that_nothing_names() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    snapshot!(place.refused(&["eval", "slim"]), @"
    error: slim/run.toml: no such file
    hint: name the data with --data RUN: a run file, or the folder of the run that this model comes from
    ");
    snapshot!(place.refused(&["report", "slim"]), @"
    error: slim/run.toml: no such file
    hint: report needs the folder of a run; `matformer eval` measures any model folder, with the data that --data names
    ");
}
