//! From text files to batches and back, through the public interface.

use std::path::Path;

use matformer_data::{
    BatchShape, Batches, DataConfig, Error, Prepared, Stage, TOKENIZER_FILE, Tokenizer, prepare,
};

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
        assert_eq!(std::fs::read_to_string(root.path().join(&document.name)).unwrap(), *text);
        assert_eq!(document.bytes, text.len());
    }
    let train = prepared.train().unwrap();
    let summary = prepared.summary.train;
    assert_eq!(train.len(), summary.tokens + summary.documents);
    let separators = train.iter(0..train.len()).filter(|&token| token == tokenizer.bos()).count();
    assert_eq!(separators, summary.documents);

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
    // Four folders, the tag of a cache, and nothing half-made.
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 5);
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

    let path = root.path().join(TOKENIZER_FILE);
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(own.tokenizer_path()).unwrap()).unwrap();
    json["normalizer"] = serde_json::json!({"type": "Lowercase"});
    std::fs::write(&path, json.to_string()).unwrap();
    assert!(Tokenizer::load(&path).is_ok());
    std::fs::write(root.path().join("data/upper.rs"), "// UPPER").unwrap();
    let lossy = DataConfig { tokenizer: Some(path.into()), held_out: 0.99, ..given };
    assert!(matches!(prepare(&lossy, &cache, &mut |_| {}), Err(Error::Lossy { .. })));
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
    assert!(matches!(prepared.train(), Err(Error::Shard { .. })));
    edit("summary.json", "\"format_version\": 2", "\"format_version\": 99");
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
    // Transformers' file may be missing: not every tokenizer comes with one.
    for file in files.iter().filter(|file| !file.ends_with("tokenizer_config.json")) {
        std::fs::remove_file(file).unwrap();
        // What a killed process left goes at the same time.
        std::fs::create_dir_all(cache.join(".tmp-killed/sub")).unwrap();
        let again = quietly(&config, &cache);
        assert!(!again.reused, "{file:?}");
        assert_eq!((again.dir(), &again.summary), (first.dir(), &first.summary));
        for (file, bytes) in files.iter().zip(&whole) {
            assert!(std::fs::read(file).unwrap() == *bytes, "{file:?}");
        }
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 2, "{file:?}");
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
