//! Text that a user brings: its formats, its faults, and what has a name on the hub.

#[path = "../crates/matformer-data/tests/support/hub.rs"]
mod hub;

use std::{path::Path, process::Command, sync::Arc};

use parquet::{
    data_type::{ByteArray, ByteArrayType},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};

use crate::support::{Output, Place};
use hub::HubServer;

/// `rows` different texts of about 1000 bytes, the same in every call.
fn texts(rows: usize) -> impl Iterator<Item = String> {
    const WORDS: [&str; 16] = [
        "river", "stone", "walks", "under", "the", "old", "bridge", "and", "counts", "seven",
        "lamps", "while", "nobody", "in", "town", "sleeps",
    ];
    let mut state = 7_u64;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) as usize
    };
    (0..rows).map(move |row| {
        let mut text = format!("Row {row}:");
        while text.len() < 1000 {
            text += [" ", " ", " ", ",\n"][draw() % 4];
            text += WORDS[draw() % WORDS.len()];
        }
        text
    })
}

fn jsonl(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| json!({ "id": text.len(), "text": text }).to_string() + "\n").collect()
}

fn parquet(path: &Path, texts: &[String]) {
    let schema = parse_message_type("message rows { REQUIRED BYTE_ARRAY text (UTF8); }").unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = texts.iter().map(|text| text.as_str().into()).collect();
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// `train` on `paths` for one step, into `out`.
fn arguments<'a>(paths: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let sets = [paths, "train.steps=1", "train.warmup=0"];
    let sets = sets.iter().chain(more).flat_map(|set| ["--set", set]);
    ["train", "run.toml", "--out", out].into_iter().chain(sets).collect()
}

fn train(place: &Place, paths: &str, out: &str) -> Output {
    place.matformer(&arguments(paths, out, &[])).ok()
}

/// The line that says what the text is.
fn data_line(output: &Output) -> &str {
    output.stderr.lines().find(|line| line.starts_with("data ")).unwrap()
}

/// The numbers of the data line that follow its hash.
fn numbers(line: &str) -> Vec<&str> {
    let (_, after) = line.split_once(':').unwrap();
    after.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|n| !n.is_empty()).collect()
}

#[test]
fn a_single_text_trains_and_ends_held_out() {
    let place = Place::new();
    let story = (0..12).map(|index| place.read(format!("text/story-{index:02}.txt")));
    place.write("input.txt", story.collect::<String>());
    let said = train(&place, "data.paths=[\"input.txt\"]", "run").stderr;
    let note = "`input.txt` is all there is: its last 20 % are held out, in blocks";
    assert!(said.contains(note), "{said}");
}

#[test]
fn held_out_files_can_be_named() {
    let place = Place::new();
    place.write("test.csv", "id,text\n1,\"A held-out story, of a crow.\"\n2,And of a toad.\n");
    let sets = ["data.validation=[\"test.csv\"]"];
    let output = place.matformer(&arguments("data.paths=[\"text\"]", "run", &sets)).ok();
    let [_, documents, _, held_out] = numbers(data_line(&output))[..] else { panic!("{output}") };
    assert_eq!((documents, held_out), ("60", "2"));
    // The run file of the run says so, from its own folder.
    assert!(place.read("run/run.toml").contains("validation = [\"../test.csv\"]"));
    place.matformer(&["eval", "run", "--submodels", "S"]).ok();
}

#[test]
fn conversations_are_learnt_by_their_answers() {
    let place = Place::new();
    let fixture = include_str!("../crates/matformer-data/tests/fixtures/chat/answers.json");
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    place.write("chat/tokenizer.json", fixture["tokenizer"].to_string());
    let template = fixture["templates"][0]["template"].as_str().unwrap();
    place.write("chat/chat_template.jinja", template);
    let row = |index: usize| {
        let (prompt, completion) = (format!("What says owl {index}?"), format!("Hoo, {index}!"));
        json!({ "prompt": prompt, "completion": completion }).to_string() + "\n"
    };
    place.write("rows.jsonl", (0..60).map(row).collect::<String>());
    let paths = "data.paths=[\"rows.jsonl\"]";
    let output =
        place.matformer(&arguments(paths, "run", &["data.chat=true", "data.tokenizer=chat"]));
    let output = output.ok();
    assert!(output.stderr.contains("only answers are learnt: "), "{output}");
    assert_eq!(place.read("run/chat_template.jinja"), template);
    // It is measured by its answers, with the template of its own folder.
    place.remove("chat");
    place.matformer(&["eval", "run", "--submodels", "S"]).ok();
    let without = place.refused(&arguments(paths, "out", &["data.chat=true"]));
    snapshot!(without, @"error: `data.chat` is true, expected: a tokenizer with a chat template in `data.tokenizer`, or false");
    let text = place.refused(&arguments(paths, "out", &[]));
    assert!(text.contains("for conversations, set `data.chat`"), "{text}");
}

#[test]
fn sources_with_weights_train_and_are_found_again() {
    let place = Place::new();
    place.write("owls.jsonl", jsonl(texts(60)));
    let run = "[model.lm]\nd_model = 16\nn_layers = 2\nn_heads = 2\nn_kv_heads = 1\nd_ff = 32\n\
               width_multiple = 4\ncontext = 16\n[data]\nvocab_size = 400\nheld_out = 0.2\n\
               [[data.sources]]\npaths = [\"owls.jsonl\"]\nweight = 3\n\
               [[data.sources]]\npaths = [\"text\"]\nweight = 1\n\
               [train]\nsteps = 4\ntokens_per_step = 64\nwarmup = 1\n";
    place.write("two.toml", run);
    let output = place.matformer(&["train", "two.toml", "--out", "runs/two"]).ok();
    assert!(output.stderr.contains("75.0 % of the rows\nsource 2: "), "{output}");
    let kept = place.read("runs/two/run.toml");
    assert!(kept.contains("[[data.sources]]") && kept.contains("[\"../../owls.jsonl\"]"), "{kept}");
    // Each source has a held-out loss of its own.
    assert!(output.stderr.contains("step 4  of source 2   S "), "{output}");
    let text = place.matformer(&["eval", "runs/two", "--submodels", "S,XL"]).ok().stdout;
    assert!(text.contains("loss by source  source 1: ") && text.contains("source 2: "), "{text}");
    let json = place.matformer(&["eval", "runs/two", "--submodels", "S", "--json"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let of = &json["results"][0];
    let [first, second] = [0, 1].map(|at| &of["sources"][at]);
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let mean =
        [first, second].map(|of| number(&of["loss"]) * number(&of["tokens"])).iter().sum::<f64>()
            / number(&json["data"]["tokens"]);
    assert!((mean - number(&of["loss"])).abs() < 1e-9, "{json}");
    place.write("runs/two/run.toml", kept.replace("steps = 4\n", "steps = 6\n"));
    place.matformer(&["train", "runs/two", "--resume"]).ok();
    place.write("two.toml", run.replace("weight = 1\n", "weight = 1\nwieght = 2\n"));
    let typo = place.refused(&["train", "two.toml", "--out", "runs/typo"]);
    assert!(typo.contains("wieght"), "{typo}");
    place.write("two.toml", run.replace("[data]\n", "[data]\npaths = [\"text\"]\n"));
    let both = place.refused(&["train", "two.toml", "--out", "runs/both"]);
    assert!(both.contains("`data.sources` is given beside `data.paths`, "), "{both}");
}

#[test]
fn five_megabytes_of_rows() {
    let place = Place::new();
    let rows = jsonl(texts(5000));
    assert!((5_000_000..5_500_000).contains(&rows.len()), "{}", rows.len());
    place.write("my.jsonl", rows);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/lm/small.toml");
    // The file as it is, but for a model and a run that are small enough for a test.
    let smaller = [
        "data.paths=[\"my.jsonl\"]",
        "data.vocab_size=512",
        "model.lm.d_model=32",
        "model.lm.n_layers=2",
        "model.lm.n_heads=2",
        "model.lm.n_kv_heads=1",
        "model.lm.d_ff=256",
        "model.lm.context=64",
        "train.steps=2",
        "train.warmup=0",
        "train.tokens_per_step=256",
        "train.eval_tokens=512",
        "train.eval_every=2",
    ];
    let sets = smaller.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> =
        ["train", config, "--out", "runs/mine"].into_iter().chain(sets).collect();
    measured_snapshot!(place.matformer(&arguments), @r"
    exit code 0
    --- standard error
    reading documents
    training the tokenizer
    encoding documents
    data [hash]: 1.26M training tokens of 4881 documents, 30.6k held-out tokens of 119
    step 1/2  loss M [number]  lr 4.00e-3  norm [number]  [rate] tokens/s  [time] left
    step 2/2  loss S [number]  lr 2.20e-3  norm [number]  [rate] tokens/s  [time] left
    step 2  held-out loss S [number]  M [number]  L [number]  XL [number]
    runs/mine: trained 2 steps
    ");
    assert!(place.path("runs/mine/matformer.json").exists());
}

#[test]
fn packing_changes_nothing() {
    let place = Place::new();
    let texts: Vec<String> = texts(300).collect();
    let rows = jsonl(texts.iter().cloned());
    place.write("plain/my.jsonl", &rows);
    place.write("zst/my.jsonl.zst", zstd::encode_all(rows.as_bytes(), 3).unwrap());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, rows.as_bytes()).unwrap();
    place.write("gz/my.jsonl.gz", gz.finish().unwrap());
    place.write("parquet/.keep", "");
    parquet(&place.path("parquet/my.parquet"), &texts);

    let plain = train(&place, "data.paths=[\"plain/my.jsonl\"]", "plain/run");
    let zst = train(&place, "data.paths=[\"zst/my.jsonl.zst\"]", "zst/run");
    assert_eq!(data_line(&zst), format!("{} (prepared before)", data_line(&plain)));
    let gz = train(&place, "data.paths=[\"gz/my.jsonl.gz\"]", "gz/run");
    assert_eq!(data_line(&gz), data_line(&zst));
    // Rows of another file have other names, so another split and another hash.
    let rows = train(&place, "data.paths=[\"parquet/my.parquet\"]", "parquet/run");
    let hash = |output: &Output| data_line(output).split(':').next().unwrap().to_owned();
    assert_ne!(hash(&rows), hash(&plain));
    let documents = |output: &Output| -> usize {
        let numbers = numbers(data_line(output)).into_iter();
        numbers.filter_map(|number| number.parse::<usize>().ok()).sum()
    };
    assert_eq!(documents(&rows), 300, "{rows}");
}

/// 300 rows, some of which are none.
fn with_bad_rows(bad: &[(usize, &str)]) -> String {
    let mut rows: Vec<String> =
        texts(300).map(|text| json!({ "text": text }).to_string()).collect();
    bad.iter().for_each(|&(line, row)| rows[line - 1] = row.to_owned());
    rows.join("\r\n")
}

const BAD: [(usize, &str); 3] =
    [(17, "{\"text\": \"cut off"), (40, "{\"body\": \"no text\"}"), (299, "{\"text\": 3}")];

#[test]
fn bad_rows_are_skipped_by_name() {
    let place = Place::new();
    place.write("my.jsonl", with_bad_rows(&BAD));
    measured_snapshot!(train(&place, "data.paths=[\"my.jsonl\"]", "run"), @"
    exit code 0
    --- standard error
    reading documents
    warning: skipped `my.jsonl`, line 17: not JSON: EOF while parsing a string at column 17
    warning: skipped `my.jsonl`, line 40: no field `text`, there are: body
    warning: skipped `my.jsonl`, line 299: `text` is a number, expected: a string
    training the tokenizer
    encoding documents
    data [hash]: 106.6k training tokens of 230 documents, 31.1k held-out tokens of 67; left out: 3 bad rows
    step 1/1  loss M [number]  lr 1.00e-2  norm [number]  [rate] tokens/s  [time] left
    step 1  held-out loss S [number]  M [number]  L [number]  XL [number]
    run: trained 1 step
    ");
    let again = train(&place, "data.paths=[\"my.jsonl\"]", "again");
    assert!(data_line(&again).ends_with("; left out: 3 bad rows (prepared before)"), "{again}");
}

#[test]
fn bad_rows_are_refused_where_none_may_be() {
    let place = Place::new();
    place.write("my.jsonl", with_bad_rows(&BAD));
    let paths = "data.paths=[\"my.jsonl\"]";
    snapshot!(place.refused(&arguments(paths, "run", &["data.strict=true"])), @"
    reading documents
    error: 3 of 300 rows and files are bad, `data.strict` allows none:
      `my.jsonl`, line 17: not JSON: EOF while parsing a string at column 17
      `my.jsonl`, line 40: no field `text`, there are: body
      `my.jsonl`, line 299: `text` is a number, expected: a string
    hint: fix them, or remove `data.strict` to skip them
    ");
}

#[test]
fn too_many_bad_rows_are_refused() {
    let place = Place::new();
    place.write("my.jsonl", with_bad_rows(&BAD));
    let paths = "data.paths=[\"my.jsonl\"]";
    let more = [(1, "[]"), (2, "{}"), (3, "null"), (4, "x")];
    place.write("more.jsonl", with_bad_rows(&[&BAD[..], &more].concat()));
    let paths_of_more = "data.paths=[\"more.jsonl\"]";
    snapshot!(place.refused(&arguments(paths_of_more, "run", &[])), @"
    reading documents
    error: 7 of 300 rows and files are bad, more than `data.max_bad_rows` = 0.01 allows:
      `more.jsonl`, line 1: a list, expected: an object
      `more.jsonl`, line 2: no field `text`, there are: none
      `more.jsonl`, line 3: null, expected: an object
      `more.jsonl`, line 4: not JSON: expected value at column 1
      `more.jsonl`, line 17: not JSON: EOF while parsing a string at column 17
      and 2 more
    hint: `data.field` names the field of the text; raise `data.max_bad_rows` to skip bad rows
    ");
    snapshot!(place.refused(&arguments(paths, "run", &["data.field=body"])), @"
    reading documents
    error: 299 of 300 rows and files are bad, more than `data.max_bad_rows` = 0.01 allows:
      `my.jsonl`, line 1: no field `body`, there are: text
      `my.jsonl`, line 2: no field `body`, there are: text
      `my.jsonl`, line 3: no field `body`, there are: text
      `my.jsonl`, line 4: no field `body`, there are: text
      `my.jsonl`, line 5: no field `body`, there are: text
      and 294 more
    hint: `data.field` names the field of the text; raise `data.max_bad_rows` to skip bad rows
    ");
    snapshot!(place.refused(&arguments(paths, "run", &["data.max_bad_rows=2"])), @"error: `data.max_bad_rows` is 2, expected: a share from 0 to 1");
}

#[test]
fn damaged_files_are_refused() {
    let place = Place::new();
    let texts: Vec<String> = texts(40).collect();
    parquet(&place.path("whole.parquet"), &texts);
    let whole = std::fs::read(place.path("whole.parquet")).unwrap();
    place.write("cut.parquet", &whole[..whole.len() / 2]);
    let packed = zstd::encode_all(jsonl(texts.into_iter()).as_bytes(), 3).unwrap();
    place.write("cut.jsonl.zst", &packed[..packed.len() / 2]);
    place.write("plain.jsonl.gz", "{\"text\": \"not packed\"}\n");
    let with = |paths| place.refused(&arguments(paths, "run", &[]));
    snapshot!(with("data.paths=[\"cut.parquet\"]"), @"
    reading documents
    error: `cut.parquet` cannot be read as parquet: Invalid Parquet file. Corrupt footer
    hint: it is damaged, or not what its name says
    ");
    snapshot!(with("data.paths=[\"cut.jsonl.zst\"]"), @"
    reading documents
    error: `cut.jsonl.zst` cannot be read as zstd: incomplete frame
    hint: it is damaged, or not what its name says
    ");
    snapshot!(with("data.paths=[\"plain.jsonl.gz\"]"), @"
    reading documents
    error: `plain.jsonl.gz` cannot be read as gzip: invalid gzip header
    hint: it is damaged, or not what its name says
    ");
    snapshot!(place.refused(&arguments("data.paths=[\"whole.parquet\"]", "run", &["data.field=body"])), @"
    reading documents
    error: `whole.parquet` has no column of text `body`, there are: text
    hint: name the column of the text with `data.field`
    ");
}

#[test]
fn paths_that_do_not_serve() {
    let place = Place::new();
    let with = |paths| place.refused(&arguments(paths, "run", &[]));
    snapshot!(with("data.paths=my.jsonl"), @r#"error: --set: invalid type: string "my.jsonl", expected a list, such as ["my.jsonl", "texts"] in `data.paths`"#);
    snapshot!(with("data.paths=[\"hf:name\"]"), @"error: --set: `hf:name` is no hub name, expected: `hf:owner/name`, `hf:owner/name:path/in/it`, `hf:owner/name@revision:path/in/it` in `data.paths`");
}

#[test]
fn a_tokenizer_may_be_that_of_another_model() {
    let place = Place::trained();
    let paths = "data.paths=[\"text\"]";
    let of_model = place.matformer(&arguments(paths, "again", &["data.tokenizer=run"])).ok();
    assert_eq!(place.read("again/tokenizer.json"), place.read("run/tokenizer.json"));
    assert!(!of_model.stderr.contains("training the tokenizer"), "{of_model}");
    let with = |tokenizer| place.refused(&arguments(paths, "out", &[tokenizer]));
    snapshot!(with("data.tokenizer=run/checkpoints"), @"
    error: no tokenizer at `run/checkpoints`; tried: `run/checkpoints/tokenizer.json`
    hint: name a `tokenizer.json`, a folder with one, or a model on the hub: `hf:owner/name`
    ");
    snapshot!(with("data.tokenizer=gone/tokenizer.json"), @"
    error: no tokenizer at `gone/tokenizer.json`; tried: `gone/tokenizer.json`
    hint: name a `tokenizer.json`, a folder with one, or a model on the hub: `hf:owner/name`
    ");
}

#[test]
fn ids_of_special_tokens_are_those_of_the_tokenizer() {
    let place = Place::trained();
    let ids = |folder: &str, file: &str| {
        let json = place.read_json(format!("{folder}/{file}"));
        let id = |key: &str| json.get(key).cloned();
        ["bos_token_id", "eos_token_id", "pad_token_id"].map(id)
    };
    let files = ["config.json", "generation_config.json"];
    for file in files {
        assert_eq!(ids("run", file), [0, 0, 0].map(|id| Some(json!(id))), "our own tokenizer");
    }
    // Someone's own: other tokens begin and end a text, and none is there for padding.
    let vocabulary = place.read_json("run/tokenizer.json")["model"]["vocab"].clone();
    let tokenizer = place.read("run/tokenizer.json");
    place.write("own/tokenizer.json", &tokenizer);
    let id = |token: &str| vocabulary.get(token).cloned();
    let train = |config: Value, out: &str| {
        place.write("own/tokenizer_config.json", config.to_string());
        let paths = "data.paths=[\"text\"]";
        place.matformer(&arguments(paths, out, &["data.tokenizer=own"])).ok();
    };
    train(json!({ "bos_token": "B", "eos_token": { "content": "E" } }), "next");
    place.matformer(&["slice", "next", "--submodel", "M", "--out", "slim"]).ok();
    for (folder, file) in ["next", "slim"].into_iter().flat_map(|f| files.map(|file| (f, file))) {
        assert_eq!(ids(folder, file), [id("B"), id("E"), None], "{folder}/{file}");
    }
    // The same vocabulary and other tokens: the data is not that which was prepared before.
    train(json!({ "bos_token": "C", "eos_token": "E", "pad_token": "P" }), "other");
    assert_eq!(ids("other", files[0]), [id("C"), id("E"), id("P")]);
    assert!(id("B") != id("E") && id("B").is_some());
}

/// A command that knows this hub, keeps its files in `hf`, and is offline or not.
fn on_hub(place: &Place, server: &HubServer, offline: bool, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    for name in ["HF_TOKEN", "HF_HUB_CACHE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.endpoint).env("HF_HOME", "hf");
    command.env("HF_HUB_OFFLINE", if offline { "1" } else { "0" });
    command
}

#[test]
fn names_on_the_hub() {
    let place = Place::new();
    let rows = jsonl(texts(60));
    let server = HubServer::start(
        "datasets/owner/stories",
        &[("README.md", b"# About"), ("data/train.jsonl", rows.as_bytes())],
    );
    let paths = "data.paths=[\"hf:owner/stories\"]";
    let run = |offline, out| {
        Output::of(on_hub(&place, &server, offline, &arguments(paths, out, &[])).output().unwrap())
    };
    snapshot!(run(true, "offline"), @"
    exit code 2
    --- standard error
    error: `hf:owner/stories` is not in the cache `hf/hub`, and HF_HUB_OFFLINE is set
    hint: unset HF_HUB_OFFLINE to download it, or set HF_HOME to where the cache is
    ");
    let online = run(false, "online").ok();
    assert!(online.stderr.starts_with("downloading\nreading documents\n"), "{online}");
    server.requests();
    let offline = run(true, "offline").ok();
    assert_eq!(data_line(&offline), format!("{} (prepared before)", data_line(&online)));
    assert_eq!(server.requests(), [""; 0], "offline");
    let held_out = place.list("cache");
    assert!(held_out.contains("held_out.docs.jsonl"), "{held_out}");
    for (path, text) in place.tree().iter().filter(|(path, _)| path.ends_with("train.docs.jsonl")) {
        let text = String::from_utf8_lossy(text);
        assert!(text.starts_with("{\"name\":\"owner/stories/data/train.jsonl:"), "{path:?}");
    }
    let absent = ["data.paths=[\"hf:owner/other:a.txt\"]"];
    let output = on_hub(&place, &server, false, &arguments(absent[0], "absent", &[])).output();
    snapshot!(Output::of(output.unwrap()), @"
    exit code 2
    --- standard error
    downloading
    error: `hf:owner/other:a.txt`: not there, or not open to you (HTTP 404)
    hint: check the name: text comes from dataset repositories, tokenizers from model repositories; private or gated ones need HF_TOKEN
    ");
    let tokenizer = arguments(paths, "out", &["data.tokenizer=owner/model"]);
    let output = Output::of(on_hub(&place, &server, true, &tokenizer).output().unwrap());
    snapshot!(output, @"
    exit code 2
    --- standard error
    error: no tokenizer at `owner/model`; tried: `owner/model`, `owner/model/tokenizer.json`, the hub (`hf:owner/model` is not in the cache `hf/hub`, and HF_HUB_OFFLINE is set)
    hint: name a `tokenizer.json`, a folder with one, or a model on the hub: `hf:owner/name`
    ");
}

#[test]
fn a_hub_that_does_not_answer_is_a_failure() {
    let place = Place::new();
    let server = HubServer { endpoint: "http://127.0.0.1:1".into(), state: Arc::default() };
    let arguments = arguments("data.paths=[\"hf:owner/stories\"]", "run", &[]);
    let output = Output::of(on_hub(&place, &server, false, &arguments).output().unwrap());
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("error: `hf:owner/stories`: io: "), "{output}");
    assert!(output.stderr.contains("hint: run it again to continue; HF_HUB_OFFLINE=1"), "{output}");
    assert!(!place.path("run").exists());
}
