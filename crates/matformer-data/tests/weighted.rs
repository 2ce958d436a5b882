//! Sources with weights: a shard of several parts, each in its own batches.

use std::path::Path;

use matformer_data::{BatchShape, DataConfig, Error, Prepared, WeightedSource, prepare};

/// Two files of rows whose texts say where they are from, with other fields and sizes.
fn config(root: &Path, weights: [f64; 2]) -> DataConfig {
    let row = |field: &str, word: &str, index: usize| {
        format!("{{\"{field}\": \"{}\"}}\n", format!("{word} {index} ").repeat(6))
    };
    let file = |name: &str, field: &str, word: &str, rows: usize| {
        let path = root.join(name);
        let text: String = (0..rows).map(|index| row(field, word, index)).collect();
        std::fs::write(&path, text).unwrap();
        path
    };
    let (owls, hares) =
        (file("owls.jsonl", "text", "owl", 40), file("hares.jsonl", "body", "hare", 400));
    let source = |path: &Path, weight, field: Option<&str>| WeightedSource {
        paths: vec![path.into()],
        weight,
        field: field.map(str::to_owned),
    };
    DataConfig {
        sources: vec![source(&owls, weights[0], None), source(&hares, weights[1], Some("body"))],
        vocab_size: 400,
        held_out: 0.2,
        ..DataConfig::default()
    }
}

fn prepared(config: &DataConfig, root: &Path) -> Result<Prepared, Error> {
    prepare(config, &root.join("cache"), &mut |_| {})
}

#[test]
fn batches_have_each_source_by_its_weight() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), [3.0, 1.0]);
    let prepared = prepared(&config, root.path()).unwrap();
    let [owls, hares] = &prepared.summary.sources[..] else { panic!("{:?}", prepared.summary) };
    let train = prepared.summary.train;
    assert_eq!(owls.size.documents + hares.size.documents, train.documents);
    assert_eq!(owls.size.bytes + hares.size.bytes, train.bytes);
    let (shard, tokenizer) = (prepared.train().unwrap(), prepared.tokenizer().unwrap());
    // Each part has its texts, from the separator in front of the first to the one behind the last.
    assert_eq!((owls.tokens.start, hares.tokens.end), (0, shard.len()));
    assert_eq!(owls.tokens.end, hares.tokens.start + 1);
    for (part, word, other) in [(owls, "owl", "hare"), (hares, "hare", "owl")] {
        let tokens: Vec<u32> = shard.iter(part.tokens.clone()).collect();
        let text = tokenizer.decode(&tokens).unwrap();
        assert!(text.starts_with("<|endoftext|>") && text.ends_with("<|endoftext|>"));
        assert!(text.contains(word) && !text.contains(other));
    }
    let shape = BatchShape { rows: 4, seq_len: 16 };
    let batches = prepared.batches(&config.weights(), shape, 1).unwrap();
    let rows = (0..250).flat_map(|step| batches.at(step, 0, 1).inputs);
    let rows: Vec<u32> = rows.collect();
    let of_owls = |row: &&[u32]| tokenizer.decode(row).unwrap().contains("owl");
    assert_eq!(rows.chunks(16).filter(of_owls).count(), 750, "of a thousand");
    // Held-out documents are measured together, and know their source.
    let held_out = prepared.held_out().unwrap();
    let texts = held_out.texts(&tokenizer).unwrap();
    for (document, text) in held_out.documents().iter().zip(&texts) {
        assert_eq!(document.source, Some(usize::from(text.contains("hare"))), "{text}");
    }
    for word in ["owl", "hare"] {
        assert!(texts.iter().any(|text| text.contains(word)), "{word}");
    }
    assert!(matches!(prepared.batches(&[1.0], shape, 1), Err(Error::Prepared { .. })));
}

#[test]
fn other_weights_are_of_the_same_text() {
    let root = tempfile::tempdir().unwrap();
    let first = prepared(&config(root.path(), [3.0, 1.0]), root.path()).unwrap();
    let heavier = config(root.path(), [1.0, 9.0]);
    for name in ["owls.jsonl", "hares.jsonl"] {
        std::fs::remove_file(root.path().join(name)).unwrap();
    }
    // What was prepared is found though the text is gone.
    let second = prepared(&heavier, root.path()).unwrap();
    assert!(second.reused && second.dir() == first.dir() && second.gone.is_some());
}

#[test]
fn a_source_of_which_nothing_is_left_is_named() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config(root.path(), [1.0, 1.0]);
    let copy = root.path().join("copy.jsonl");
    std::fs::copy(root.path().join("owls.jsonl"), &copy).unwrap();
    config.sources[1] = WeightedSource { paths: vec![copy.into()], weight: 1.0, field: None };
    let error = prepared(&config, root.path()).unwrap_err();
    assert!(matches!(error, Error::NoDocument { number: 2, .. }), "{error}");
    assert!(error.hint().unwrap().contains("data.deduplicate"));
    // Without the field of its own, the rows of the second lack theirs.
    let mut config = self::config(root.path(), [1.0, 1.0]);
    config.sources[1].field = None;
    let error = prepared(&config, root.path()).unwrap_err().to_string();
    assert!(error.contains("hares.jsonl") && error.contains("no field `text`"), "{error}");
}
