//! What people bring on their first day: folders with other things in them, tokenizers of their own,
//! runs that are read from elsewhere.

use std::{io::Write, path::Path};

use serde_json::{Value, json};

use crate::support::{Output, Place};

/// A run file beside the data, of a model that trains in a second.
fn run_file(data: &str, train: &str) -> String {
    format!(
        "[model.lm]\nd_model = 32\nn_layers = 2\nn_heads = 2\nn_kv_heads = 1\nd_ff = 256\n\
         context = 32\n\n[data]\nheld_out = 0.2\nvocab_size = 300\n{data}\n\n[train]\n\
         steps = 2\ntokens_per_step = 64\nwarmup = 0\neval_tokens = 512\n{train}\n"
    )
}

/// A [`Place`] with nothing but `my.toml` in it.
fn empty(data: &str, train: &str) -> Place {
    let place = Place::new();
    place.remove("text");
    place.remove("run.toml");
    place.write("my.toml", run_file(data, train));
    place
}

fn rows(from: usize, to: usize) -> String {
    let row = |i| json!({ "url": i, "text": format!("The owl counts {i} coats in hall {i}.\n") });
    (from..to).map(|i| row(i).to_string() + "\n").collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap()
}

fn data_lines(output: &Output) -> Vec<&str> {
    let about = ["data ", "passed over", "files of JSON", "warning"];
    let said = output.stderr.lines();
    said.filter(|line| about.iter().any(|start| line.starts_with(start))).collect()
}

#[cfg(unix)]
#[test]
fn a_folder_with_a_run_links_packed_rows_and_a_broken_file_in_it() {
    use std::os::unix::fs::symlink;
    let place = empty("paths = [\".\"]\nmax_bad_rows = 0.02", "");
    let elsewhere = Place::new();
    place.write("c4/a.json.gz", gzip(&rows(0, 40)));
    place.write("c4/b.json", format!("[{}]", rows(40, 60).trim().replace('\n', ",")));
    place.write("package.json", "{\n  \"name\": \"mine\"\n}\n");
    place.write("broken.txt", b"caf\xe9");
    place.write("photo.png", "no text");
    place.write(".git/config", "[core]");
    symlink(elsewhere.path("text"), place.path("linked")).unwrap();
    symlink(place.path("."), place.path("c4/up")).unwrap();

    let first = place.matformer(&["train", "my.toml", "--out", "runs/a"]).ok();
    let [bad, data, passed, json] = data_lines(&first)[..] else { panic!("{first}") };
    assert!(bad.contains("broken.txt`: not UTF-8 from byte 3 on"), "{bad}");
    // 60 rows, 60 linked stories, a package file.
    let numbers = data.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let documents: usize = numbers.filter_map(|n| n.parse::<usize>().ok()).filter(|n| *n > 5).sum();
    assert!(documents >= 121 && data.ends_with("; left out: 1 bad row"), "{data}");
    assert_eq!(
        passed,
        "passed over: 1 hidden (.git), 1 run file (my.toml), 1 link to a folder above it (c4/up), \
         1 file of unknown format (photo.png)"
    );
    assert_eq!(
        json,
        "files of JSON: 2 hold rows (first `./c4/a.json.gz`), 1 is one document \
         (`./package.json`)"
    );

    // The run is no data: it is measured, and another one trained, on the same.
    let evaluated = place.matformer(&["eval", "runs/a", "--json"]).ok();
    let hash = &evaluated.json()["data"]["hash"];
    let second = place.matformer(&["train", "my.toml", "--out", "runs/b"]).ok();
    let line = data_lines(&second)[0];
    assert!(line.ends_with("(prepared before)"), "{second}");
    assert!(line.contains(&hash.as_str().unwrap()[..16]), "{line} {hash}");
    // Where more text is there, the folder is read again, and both runs are passed over.
    place.write("one-more.txt", "One more text, of a heron that stands in the river.\n");
    let third = place.matformer(&["train", "my.toml", "--out", "runs/c"]).ok();
    assert!(third.stderr.contains("2 folders of models or runs (runs/a, …)"), "{third}");
}

#[test]
fn a_run_is_measured_from_any_working_directory() {
    let place = empty("paths = [\"texts\"]", "");
    place.write("texts/rows.jsonl", rows(0, 60));
    place.matformer(&["train", "my.toml", "--out", "runs/a"]).ok();
    let here = place.matformer(&["eval", "runs/a", "--json"]).ok().json();
    std::fs::create_dir_all(place.path("deep/er")).unwrap();
    let there = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        Output::of(command.current_dir(place.path("deep/er")).output().unwrap())
    };
    let mut found = there(&["eval", "../../runs/a", "--json"]).ok().json();
    assert_eq!(found["data"], here["data"]);
    assert_eq!(found["results"], here["results"]);
    found = there(&["eval", place.path("runs/a").to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(found["data"], here["data"]);
    // A run file is read from elsewhere too, and --set has paths of where one stands.
    there(&["train", "../../my.toml", "--out", "b"]).ok();
    place.write("deep/er/own.jsonl", rows(5, 99));
    let sets = ["--set", "data.paths=[\"own.jsonl\"]"];
    there(&[&["train", "../../my.toml", "--out", "c"][..], &sets].concat()).ok();
    let paths = |run: &str| {
        let kept: toml::Table = place.read(format!("{run}/run.toml")).parse().unwrap();
        kept["data"]["paths"].to_string()
    };
    assert_eq!(paths("runs/a"), "[\"../../texts\"]");
    assert_eq!(paths("deep/er/b"), "[\"../../../texts\"]");
    assert_eq!(paths("deep/er/c"), "[\"../own.jsonl\"]");
    // Gone on with from there.
    let longer = place.read("runs/a/run.toml").replace("steps = 2", "steps = 3");
    place.write("runs/a/run.toml", longer);
    there(&["train", "../../runs/a", "--resume"]).ok();
    let same = there(&["train", "../../my.toml", "--out", "../../runs/a", "--resume"]);
    assert!(same.stderr.contains("`train.steps` is 3 there, 2 here"), "{same}");
}

#[test]
fn prepared_data_is_found_beside_the_runs() {
    let place = empty("paths = [\"texts\"]", "");
    place.write("texts/rows.jsonl", rows(0, 60));
    std::fs::create_dir_all(place.path("deep/er")).unwrap();
    let there = |folder: &str, arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env_remove("MATFORMER_CACHE").current_dir(place.path(folder));
        Output::of(command.output().unwrap()).ok()
    };
    there(".", &["train", "my.toml", "--out", "runs/a"]);
    let evaluated = there("deep/er", &["eval", "../../runs/a"]);
    assert!(!evaluated.stderr.contains("training the tokenizer"), "{evaluated}");
    let longer = place.read("runs/a/run.toml").replace("steps = 2", "steps = 3");
    place.write("runs/a/run.toml", longer);
    let resumed = there("deep/er", &["train", "../../runs/a", "--resume"]);
    assert!(resumed.stderr.contains("(prepared before)"), "{resumed}");
    assert_eq!(place.list("deep/er"), "");
}

#[test]
fn a_run_folder_has_its_own_tokenizer() {
    let place = empty("paths = [\"texts\"]\ntokenizer = \"own\"", "");
    place.write("texts/rows.jsonl", rows(0, 60));
    place.write("bytes.toml", run_file("paths = [\"texts\"]", ""));
    place.matformer(&["train", "bytes.toml", "--out", "first"]).ok();
    // Without a configuration beside it.
    place.write("own/tokenizer.json", place.read("first/tokenizer.json"));
    place.matformer(&["train", "my.toml", "--out", "runs/a"]).ok();
    place.remove("own");
    place.remove("cache");
    place.matformer(&["eval", "runs/a"]).ok();
    place.matformer(&["slice", "runs/a", "--submodel", "S", "--out", "slim"]).ok();
    assert_eq!(place.read("slim/tokenizer.json"), place.read("first/tokenizer.json"));
    assert_eq!(place.read_json("slim/tokenizer_config.json")["eos_token"], "<|endoftext|>");
    let longer = place.read("runs/a/run.toml").replace("steps = 2", "steps = 4");
    place.write("runs/a/run.toml", longer);
    place.matformer(&["train", "runs/a", "--resume"]).ok();
    // What a run started from may go too.
    let init = ["train", "bytes.toml", "--out", "runs/b", "--init", "first"];
    place.matformer(&init).ok();
    place.remove("first");
    place.matformer(&["eval", "runs/b"]).ok();
}

/// A tokenizer that writes a space as `▁` and drops the one in front of a text; its control tokens
/// are pieces of its vocabulary, and its ids have holes.
fn with_metaspace() -> String {
    let letters = ('!'..='~').chain(['\n', '▁']).map(|letter| letter.to_string());
    let words = ["▁one", "▁two", "▁three"].map(str::to_owned);
    let mut vocab = serde_json::Map::new();
    for (id, piece) in ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().enumerate() {
        vocab.insert(piece, id.into());
    }
    for (index, piece) in letters.chain(words).enumerate() {
        vocab.insert(piece, (3 + 2 * index).into());
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": metaspace, "post_processor": null, "decoder": metaspace,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    })
    .to_string()
}

#[test]
fn generation_ends_where_texts_end_and_spaces_stay() {
    let place = empty(
        "paths = [\"rows.jsonl\"]\ntokenizer = \"own\"",
        "draw = \"joint\"\nlearning_rate = 1e-2",
    );
    place.write("own/tokenizer.json", with_metaspace());
    place.write("own/tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    // Different texts, each of the same first words.
    let row = |i: usize| {
        let digits = (0..7).map(|bit| [" two", " three"][i >> bit & 1]).collect::<String>();
        json!({ "text": format!("one{digits}") }).to_string() + "\n"
    };
    place.write("rows.jsonl", (0..128).map(row).collect::<String>());
    let sets = ["--set", "train.steps=60", "--set", "train.tokens_per_step=256"];
    place.matformer(&[&["train", "my.toml", "--out", "run"][..], &sets].concat()).ok();
    let generate = ["generate", "run", "--prompt", "one two", "--max-tokens", "20"];
    let found: Value = place.matformer(&[&generate[..], &["--json"]].concat()).ok().json();
    assert_eq!(found["finish_reason"], "stop", "{found}");
    let text = found["text"].as_str().unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!((words[0], words.len()), ("", 7), "{found}");
    assert!(words[1..].iter().all(|word| ["two", "three"].contains(word)), "{found}");
    let printed = place.matformer(&generate).ok();
    assert_eq!(printed.stdout, format!("one two{text}\n"));
    // Ids have holes: the model has a row for the largest.
    let largest = serde_json::from_str::<Value>(&with_metaspace()).unwrap();
    let ids = largest["model"]["vocab"].as_object().unwrap().values();
    let largest = ids.filter_map(Value::as_u64).max().unwrap();
    assert_eq!(place.read_json("run/config.json")["vocab_size"], largest + 1);
    place.matformer(&["score", "run", "--text", "three two </s> one"]).ok();
}

#[test]
fn a_path_that_is_not_there_is_named_as_it_is_looked_for() {
    let place = Place::new();
    place.write("sub/my.toml", run_file("paths = [\"texts\"]", ""));
    let said = place.refused(&["train", "sub/my.toml"]);
    assert!(said.contains("sub/texts`: No such file"), "{said}");
    let hint = "hint: relative paths in a run file start at its folder, those of --set in the \
                working directory\n";
    assert!(said.ends_with(hint), "{said}");
    assert!(Path::new(&place.path("sub")).exists());
}
