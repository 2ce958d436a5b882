//! From text files to batches and back, through the public interface.

use std::path::Path;

use matformer_data::{
    BatchShape, Batches, DataConfig, Error, Lost, Prepared, Shard, Stage, TOKENIZER_FILE,
    Tokenizer, find_prepared, prepare, prepare_for,
};
use serde_json::{Value, json};

/// Forty documents with odd characters among them.
fn corpus(root: &Path) -> DataConfig {
    let data = root.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for index in 0..40 {
        let text = format!("// naïve №{index} 🦀\r\nfn f{index}() -> u32 {{\n\t{index}\n}}\n")
            .repeat(1 + index % 7);
        std::fs::write(data.join(format!("{index}.rs")), text).unwrap();
    }
    DataConfig { paths: vec![data.into()], held_out: 0.2, vocab_size: 300, ..DataConfig::default() }
}

fn quietly(config: &DataConfig, cache: &Path) -> Prepared {
    prepare(config, cache, &mut |_| {}).unwrap()
}

#[test]
fn text_comes_back_from_the_shards() {
    let root = tempfile::tempdir().unwrap();
    let config = corpus(root.path());
    let prepared = quietly(&config, &root.path().join("cache"));
    let (tokenizer, held_out) = (prepared.tokenizer().unwrap(), prepared.held_out().unwrap());
    assert_eq!(held_out.documents().len(), prepared.summary.held_out.documents);
    let texts = held_out.texts(&tokenizer).unwrap();
    for (document, text) in held_out.documents().iter().zip(&texts) {
        assert_eq!(
            std::fs::read_to_string(root.path().join("data").join(&document.name)).unwrap(),
            *text
        );
        assert_eq!(document.bytes, text.len());
    }
    let train = prepared.train().unwrap();
    let summary = prepared.summary.train;
    // One separator in front of each document, and one behind the last.
    assert_eq!(train.len(), summary.tokens + summary.documents + 1);
    let tokens: Vec<u32> = train.iter(0..train.len()).collect();
    let separators = tokens.iter().filter(|token| **token == tokenizer.eos()).count();
    assert_eq!(separators, summary.documents + 1);
    assert_eq!(tokens.last(), Some(&tokenizer.eos()));

    let baselines = prepared.baselines(&held_out).unwrap();
    assert!((3.0..6.0).contains(&baselines.byte_unigram), "{baselines:?}");
    assert!((1.0..16.0).contains(&baselines.gzip), "{baselines:?}");
}

#[test]
fn a_folder_is_reused_until_its_text_or_config_changes() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let config = corpus(root.path());
    let first = quietly(&config, &cache);
    assert!(!first.reused);
    let again = quietly(&config, &cache);
    assert!(again.reused);
    assert_eq!((again.dir(), &again.summary), (first.dir(), &first.summary));
    assert_eq!(Prepared::open(first.dir()).unwrap().summary, first.summary);

    let larger = quietly(&DataConfig { vocab_size: 310, ..config.clone() }, &cache);
    assert_ne!(larger.data_hash(), first.data_hash());
    let resplit = quietly(&DataConfig { seed: 1, ..config.clone() }, &cache);
    assert_ne!(resplit.data_hash(), first.data_hash());
    std::fs::write(root.path().join("data/0.rs"), "// changed").unwrap();
    let changed = quietly(&config, &cache);
    assert!(!changed.reused && changed.data_hash() != first.data_hash());
    // Four folders, their index, the tag of a cache, and nothing half-made.
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 6);
}

/// The stages of a preparation.
fn stages(config: &DataConfig, cache: &Path) -> (Prepared, Vec<Stage>) {
    let mut stages = Vec::new();
    let prepared = prepare(config, cache, &mut |progress| stages.push(progress.stage)).unwrap();
    stages.dedup();
    (prepared, stages)
}

#[test]
fn what_was_prepared_is_found_without_reading_the_text() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let first = quietly(&config, &cache);
    let (again, read) = stages(&config, &cache);
    assert_eq!((again.dir(), again.reused, read), (first.dir(), true, vec![]));
    let found = |config: &DataConfig| {
        find_prepared(config, &cache, &mut |_| {}).unwrap().map(|found| found.dir().to_owned())
    };
    assert_eq!(found(&config).as_deref(), Some(first.dir()));
    assert_eq!(found(&DataConfig { seed: 1, ..config.clone() }), None);
    // Another time of a file: the text is read, and is the same.
    let file = std::fs::File::open(root.path().join("data/0.rs")).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    file.set_modified(std::time::SystemTime::now() - hour).unwrap();
    assert_eq!(found(&config), None);
    let (again, read) = stages(&config, &cache);
    assert_eq!((again.dir(), again.reused, read), (first.dir(), true, vec![Stage::Read]));
    assert_eq!(stages(&config, &cache).1, []);
}

#[test]
fn what_was_prepared_is_used_when_the_text_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let first = quietly(&config, &cache);
    assert_eq!(first.gone, None);
    std::fs::remove_dir_all(root.path().join("data")).unwrap();
    let (again, read) = stages(&config, &cache);
    assert_eq!((again.data_hash(), again.reused, read), (first.data_hash(), true, vec![]));
    assert!(again.gone.as_ref().unwrap().starts_with("cannot read `"), "{:?}", again.gone);
    let own = prepare_for(&config, &first.tokenizer_path(), &cache, &mut |_| {}).unwrap();
    assert_eq!((own.dir(), &own.gone), (first.dir(), &again.gone));
    let other = DataConfig { seed: 1, ..config };
    let error = prepare(&other, &cache, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Path { .. }), "{error:?}");
}

#[test]
fn one_prepares_and_the_others_wait() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let made: Vec<(Prepared, Vec<Stage>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| stages(&config, &cache))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|(prepared, _)| !prepared.reused).count(), 1);
    for (prepared, stages) in &made {
        let encoded = stages.contains(&Stage::Encode) || stages.contains(&Stage::Tokenizer);
        assert_eq!(encoded, !prepared.reused, "{stages:?}");
        assert_eq!(prepared.dir(), made[0].0.dir());
    }
}

#[test]
fn a_normal_form_of_unicode_is_reported_and_allowed() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let own = quietly(&config, &cache);
    let path = root.path().join("nfc").join(TOKENIZER_FILE);
    changed(&own.tokenizer_path(), &path, |json| json["normalizer"] = json!({"type": "NFC"}));
    let text = "cafe\u{301} ".repeat(900);
    std::fs::write(root.path().join("data/decomposed.rs"), &text).unwrap();
    let config = DataConfig { tokenizer: Some(path.into()), ..config };
    let prepared = quietly(&config, &cache);
    let Lost { documents, bytes, normalised, .. } = prepared.summary.lost.clone();
    assert_eq!((documents, bytes, normalised), (1, 3 * 900, 3 * 900));
    let documents =
        [prepared.train().unwrap(), Shard::open(&prepared.dir().join("held_out.bin")).unwrap()]
            .map(|shard| shard.documents().unwrap())
            .concat();
    let document = documents.iter().find(|document| document.name == "decomposed.rs").unwrap();
    assert_eq!(document.bytes, text.len(), "of the original");
    let error = prepare(&DataConfig { strict: true, ..config }, &cache, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Lossy { .. }), "{error}");
}

#[test]
fn a_long_text_has_the_tokens_that_it_has_in_one_piece() {
    let root = tempfile::tempdir().unwrap();
    let config = corpus(root.path());
    let long = |index: usize| format!("the {index}th line; it's naïve 🦀\r\n\n  and more");
    let long: String = (0..20_000).map(long).collect();
    std::fs::write(root.path().join("data/long.rs"), &long).unwrap();
    let prepared = quietly(&config, &root.path().join("cache"));
    let tokenizer = prepared.tokenizer().unwrap();
    assert!(tokenizer.encode_batch(&[&long, "a"]).unwrap()[0] == tokenizer.encode(&long).unwrap());
}

#[test]
fn token_files_of_nanogpt_and_llm_c_are_text_of_their_tokenizer() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let own = quietly(&config, &cache);
    let tokenizer = own.tokenizer().unwrap();
    let ids = |texts: &[&str]| -> Vec<u8> {
        let end = [tokenizer.eos()];
        let tokens = texts.iter().flat_map(|text| [tokenizer.encode(text).unwrap(), end.to_vec()]);
        tokens.flatten().flat_map(|token| (token as u16).to_le_bytes()).collect()
    };
    let folder = root.path().join("ids");
    std::fs::create_dir_all(&folder).unwrap();
    let (train, held_out) = (ids(&["fn f1() {}", "naïve 🦀\n"]), ids(&["held out"]));
    std::fs::write(folder.join("val.bin"), &held_out).unwrap();
    let header = |version: u32, bytes: &[u8]| {
        let words = [20_240_520, version, (train.len() / 2) as u32].map(u32::to_le_bytes).concat();
        [&words[..], &[0; 1024 - 12], bytes].concat()
    };
    let given = DataConfig {
        paths: vec![folder.clone().into()],
        tokenizer: Some(own.tokenizer_path().into()),
        ..config
    };
    let mut hashes = Vec::new();
    for bytes in [train.clone(), header(1, &train)] {
        std::fs::write(folder.join("train.bin"), bytes).unwrap();
        let prepared = quietly(&given, &cache);
        assert_eq!(prepared.held_out().unwrap().texts(&tokenizer).unwrap(), ["held out"]);
        assert_eq!((prepared.summary.train.documents, prepared.summary.train.bytes), (2, 22));
        hashes.push(prepared.data_hash());
    }
    assert_eq!(hashes[0], hashes[1]);
    let refused = |bytes: &[u8], config: &DataConfig| {
        std::fs::write(folder.join("train.bin"), bytes).unwrap();
        prepare(config, &cache, &mut |_| {}).unwrap_err().to_string()
    };
    let said = refused(&header(2, &train), &given);
    assert!(said.ends_with("as token ids: llm.c's version 2, expected: 1"), "{said}");
    let said = refused(&header(1, &train[2..]), &given);
    assert!(said.ends_with("(the header's count)"), "{said}");
    assert!(refused(&train[1..], &given).ends_with("expected: two for each token"));
    assert!(refused(&[255, 255], &given).contains("token 65535, expected: below 300"));
    let said = refused(&train, &DataConfig { tokenizer: None, ..given });
    assert!(
        said.ends_with("holds token ids, expected: their tokenizer in `data.tokenizer`"),
        "{said}"
    );
}

#[test]
fn a_folder_that_is_renamed_holds_the_same_data() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let first = quietly(&config, &cache);
    let renamed = root.path().join("elsewhere/other");
    std::fs::create_dir_all(renamed.parent().unwrap()).unwrap();
    std::fs::rename(root.path().join("data"), &renamed).unwrap();
    let again = quietly(&DataConfig { paths: vec![renamed.into()], ..config }, &cache);
    assert!(again.reused);
    assert_eq!(again.data_hash(), first.data_hash());
}

#[test]
fn the_same_text_gives_the_same_bytes_anywhere() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let prepared =
        [&one, &two].map(|root| quietly(&corpus(root.path()), &root.path().join("cache")));
    let [first, second] = &prepared;
    assert_eq!(first.dir().file_name(), second.dir().file_name());
    for entry in std::fs::read_dir(first.dir()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |prepared: &Prepared| std::fs::read(prepared.dir().join(&name)).unwrap();
        assert!(read(first) == read(second), "{name:?}");
    }
    let [a, b] = prepared.map(|prepared| {
        let batches =
            Batches::new(prepared.train().unwrap(), BatchShape { rows: 2, seq_len: 16 }, 3)
                .unwrap();
        batches.at(5, 0, 1)
    });
    assert_eq!(a, b);
}

#[test]
fn progress_goes_through_the_stages_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let config = corpus(root.path());
    let prepared =
        prepare(&config, &root.path().join("cache"), &mut |progress| seen.push(progress)).unwrap();
    let mut stages: Vec<Stage> = seen.iter().map(|progress| progress.stage).collect();
    stages.dedup();
    assert_eq!(stages, [Stage::Read, Stage::Tokenizer, Stage::Encode]);
    let last = seen[seen.len() - 1];
    assert_eq!(
        (last.done, last.total),
        (last.total, prepared.summary.train.bytes + prepared.summary.held_out.bytes)
    );
}

#[test]
fn a_given_tokenizer_is_taken_over_unless_it_loses_text() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let config = corpus(root.path());
    let own = quietly(&config, &cache);
    let given = DataConfig { tokenizer: Some(own.tokenizer_path().into()), ..config };
    let prepared = quietly(&given, &cache);
    // Where the tokenizer comes from is no part of the data.
    assert_eq!(prepared.data_hash(), own.data_hash());
    assert_eq!(prepared.tokenizer().unwrap().hash(), own.tokenizer().unwrap().hash());
}

/// A change of a `tokenizer.json`, saved as one of its own.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(from).unwrap()).unwrap();
    change(&mut json);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::write(to, json.to_string()).unwrap();
}

#[test]
fn a_tokenizer_that_loses_text_gets_the_same_verdict_whatever_the_split() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let config = corpus(root.path());
    let own = quietly(&config, &cache);
    let path = root.path().join("lower").join(TOKENIZER_FILE);
    changed(&own.tokenizer_path(), &path, |json| json["normalizer"] = json!({"type": "Lowercase"}));
    std::fs::write(root.path().join("data/upper.rs"), "// UPPER\n").unwrap();
    let lower = DataConfig { tokenizer: Some(path.clone().into()), ..config };
    for seed in 0..6 {
        let lossy = DataConfig { seed, ..lower.clone() };
        let prepared = quietly(&lossy, &cache);
        let lost = prepared.summary.lost;
        let first = Some("upper.rs".to_owned());
        assert_eq!((lost.documents, lost.bytes, lost.first), (1, 5, first), "seed {seed}");

        let strict = DataConfig { strict: true, ..lossy };
        let error = prepare(&strict, &cache, &mut |_| {}).unwrap_err();
        let said = format!("tokenizer `{}` loses 5 of ", path.display());
        assert!(error.to_string().starts_with(&said), "{error}");
        assert!(error.to_string().contains("in 1 of 41 documents (first `upper.rs`)"));
    }
    std::fs::write(root.path().join("data/upper.rs"), "// UPPER\n".repeat(40)).unwrap();
    for held_out in [0.01, 0.99] {
        let error = prepare(&DataConfig { held_out, ..lower.clone() }, &cache, &mut |_| {});
        assert!(matches!(error, Err(Error::Lossy { .. })), "{held_out}: {error:?}");
    }
    let all = DataConfig { max_lost_bytes: 1.0, ..lower };
    assert_eq!(quietly(&all, &cache).summary.lost.bytes, 200);
}

/// A Unigram tokenizer as SentencePiece makes them: control tokens are pieces of its vocabulary.
fn unigram(folder: &Path) -> std::path::PathBuf {
    let mut vocab = vec![json!(["<unk>", 0.0]), json!(["<s>", 0.0]), json!(["</s>", 0.0])];
    let letters = (' '..='~').filter(|letter| *letter != ' ').chain(['\n', '▁']);
    vocab.extend(letters.map(|letter| json!([letter.to_string(), -5.0])));
    vocab.extend(["one", "▁one", "two", "▁two", "▁three"].map(|piece| json!([piece, -2.0])));
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false});
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": metaspace, "post_processor": null, "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false},
    });
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(TOKENIZER_FILE);
    std::fs::write(&path, json.to_string()).unwrap();
    std::fs::write(
        folder.join("tokenizer_config.json"),
        r#"{"bos_token": "<s>", "eos_token": "</s>"}"#,
    )
    .unwrap();
    path
}

/// Twenty short documents.
fn small(root: &Path, tokenizer: &Path) -> DataConfig {
    let data = root.join("data");
    std::fs::create_dir_all(&data).unwrap();
    for index in 0..20 {
        std::fs::write(data.join(format!("{index}.txt")), format!("one two {index}</s>b")).unwrap();
    }
    DataConfig {
        paths: vec![data.into()],
        held_out: 0.2,
        tokenizer: Some(tokenizer.into()),
        ..DataConfig::default()
    }
}

#[test]
fn a_text_has_the_same_tokens_whenever_it_is_encoded() {
    let root = tempfile::tempdir().unwrap();
    let own = quietly(&corpus(root.path()), &root.path().join("cache"));
    let path = root.path().join("dropout").join(TOKENIZER_FILE);
    changed(&own.tokenizer_path(), &path, |json| json["model"]["dropout"] = json!(0.5));
    let (plain, dropout) = (own.tokenizer().unwrap(), Tokenizer::load(&path).unwrap());
    let text = "fn f12() -> u32 {\n\t12\n}\n".repeat(9);
    assert_eq!(dropout.encode(&text).unwrap(), plain.encode(&text).unwrap());
}

#[test]
fn control_tokens_spelled_in_a_text_are_text() {
    let root = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::load(&unigram(root.path())).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (1, 2));
    for text in ["a</s>b", "</s>", "<s>", "x <s> one", "<s></s>"] {
        let tokens = tokenizer.encode(text).unwrap();
        assert!(tokens.iter().all(|token| *token > 2), "{text}: {tokens:?}");
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
    // Those that a model gives are no text.
    let prompt = [&[1], &tokenizer.encode("one").unwrap()[..]].concat();
    let two = tokenizer.encode("two</s>").unwrap();
    let next = [&two[..], &[2, 1], &tokenizer.encode("three").unwrap()].concat();
    assert_eq!(tokenizer.continuation(&prompt, &next).unwrap(), " two</s> three");
    assert_eq!(tokenizer.continuation(&[1], &two).unwrap(), "two</s>");
}

#[test]
fn documents_begin_with_bos_and_end_with_eos() {
    let root = tempfile::tempdir().unwrap();
    let config = small(root.path(), &unigram(&root.path().join("tokenizer")));
    let prepared = quietly(&config, &root.path().join("cache"));
    assert_eq!(prepared.summary.lost, Lost::default());
    for file in ["train.bin", "held_out.bin"] {
        let shard = Shard::open(&prepared.dir().join(file)).unwrap();
        let tokens: Vec<u32> = shard.iter(0..shard.len()).collect();
        let documents = shard.documents().unwrap();
        assert!(!documents.is_empty());
        for document in &documents {
            assert_eq!(tokens[document.start], 1);
            assert_eq!(tokens[document.text().end], 2);
            assert!(tokens[document.text()].iter().all(|token| *token > 2));
        }
        assert_eq!(documents.last().unwrap().text().end + 1, tokens.len());
    }
}

#[test]
fn the_files_beside_a_tokenizer_shape_the_data() {
    let root = tempfile::tempdir().unwrap();
    let (cache, folder) = (root.path().join("cache"), root.path().join("tokenizer"));
    let path = unigram(&folder);
    let config = small(root.path(), &path);
    let first = quietly(&config, &cache);
    let say = |json: &str| std::fs::write(folder.join("tokenizer_config.json"), json).unwrap();
    say(r#"{"bos_token": "<s>", "eos_token": "</s>", "chat_template": "x"}"#);
    let chat = quietly(&config, &cache);
    assert!(!chat.reused, "the folder of a run takes the file over");
    assert_eq!(chat.data_hash(), first.data_hash());
    say(r#"{"eos_token": "</s>"}"#);
    let without_bos = quietly(&config, &cache);
    assert!(!without_bos.reused);
    assert_ne!(without_bos.data_hash(), first.data_hash(), "other separators, other data");
    // The same in a cache of its own.
    let elsewhere = quietly(&config, &root.path().join("other"));
    assert_eq!(elsewhere.data_hash(), without_bos.data_hash());
    assert_eq!(elsewhere.tokenizer().unwrap().bos(), 2);
}

#[test]
fn a_tokenizer_without_configuration_gets_one() {
    let root = tempfile::tempdir().unwrap();
    let (cache, folder) = (root.path().join("cache"), root.path().join("tokenizer"));
    let own = quietly(&corpus(root.path()), &cache);
    let alone = folder.join(TOKENIZER_FILE);
    changed(&own.tokenizer_path(), &alone, |_| {});
    let config = DataConfig { tokenizer: Some(alone.into()), ..corpus(root.path()) };
    let prepared = quietly(&config, &cache);
    let written: Value =
        serde_json::from_slice(&std::fs::read(prepared.tokenizer_config_path()).unwrap()).unwrap();
    assert_eq!(written["eos_token"], "<|endoftext|>");
    assert_eq!(written["tokenizer_class"], "PreTrainedTokenizerFast");

    // What older versions of transformers write beside it says it too.
    let old = unigram(&root.path().join("old"));
    std::fs::remove_file(old.with_file_name("tokenizer_config.json")).unwrap();
    let said = Tokenizer::load(&old).unwrap_err().to_string();
    let reason = "`tokenizer_config.json` beside it names no `eos_token`, and it has no token \
                  `<|endoftext|>`";
    assert!(said.ends_with(reason), "{said}");
    let map = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#;
    std::fs::write(old.with_file_name("special_tokens_map.json"), map).unwrap();
    let prepared = quietly(&small(&root.path().join("short"), &old), &cache);
    let tokenizer = prepared.tokenizer().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (1, 2));
}

#[test]
fn a_damaged_folder_is_an_error_with_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let prepared = quietly(&corpus(root.path()), &root.path().join("cache"));
    let edit = |file: &str, from: &str, to: &str| {
        let path = prepared.dir().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
    };
    edit("tokenizer.json", "\"truncation\": null,", "");
    assert!(matches!(prepared.train(), Err(Error::Prepared { what: "token shard", .. })));
    edit("summary.json", "\"format_version\": 3", "\"format_version\": 99");
    let error = Prepared::open(prepared.dir()).unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
    let folder = prepared.dir().display();
    assert!(error.hint().unwrap().starts_with(&format!("remove `{folder}`; ")));
    assert!(matches!(Prepared::open(root.path()), Err(Error::File(_))));
}

#[test]
fn a_folder_that_lacks_a_file_is_prepared_again() {
    let root = tempfile::tempdir().unwrap();
    let (cache, config) = (root.path().join("cache"), corpus(root.path()));
    let first = quietly(&config, &cache);
    let files: Vec<_> =
        std::fs::read_dir(first.dir()).unwrap().map(|e| e.unwrap().path()).collect();
    let whole: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for file in &files {
        std::fs::remove_file(file).unwrap();
        // What a killed process left goes at the same time.
        std::fs::create_dir_all(cache.join(".tmp-killed/sub")).unwrap();
        let again = quietly(&config, &cache);
        assert!(!again.reused, "{file:?}");
        assert_eq!((again.dir(), &again.summary), (first.dir(), &first.summary));
        for (file, bytes) in files.iter().zip(&whole) {
            assert!(std::fs::read(file).unwrap() == *bytes, "{file:?}");
        }
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 3, "{file:?}");
    }
    std::fs::remove_dir_all(first.dir()).unwrap();
    std::fs::write(first.dir(), "a file").unwrap();
    assert_eq!(quietly(&config, &cache).summary, first.summary);
}

#[test]
fn bad_rows_are_in_the_summary() {
    let root = tempfile::tempdir().unwrap();
    let config = corpus(root.path());
    let good = quietly(&config, &root.path().join("cache"));
    std::fs::write(root.path().join("data/rows.jsonl"), "[]\n{\"text\": \"x\"}\n").unwrap();
    let config = DataConfig { max_bad_rows: 0.1, ..config };
    let prepared = quietly(&config, &root.path().join("cache"));
    assert_eq!(prepared.summary.dropped.bad_rows, 1);
    assert_ne!(prepared.data_hash(), good.data_hash());
    let strict = DataConfig { strict: true, ..config };
    let error = prepare(&strict, &root.path().join("cache"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::BadRows { bad: 1, read: 42, .. }), "{error}");
}
