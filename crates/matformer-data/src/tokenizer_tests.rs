use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn texts() -> Vec<String> {
    let text =
        |index: usize| format!("fn f{index}(x: u32) -> u32 {{\n    x + {index}\n}}\n").repeat(5);
    (0..40).map(text).collect()
}

fn trained(vocab_size: usize) -> (tempfile::TempDir, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::train(&texts(), vocab_size, folder.path()).unwrap();
    (folder, tokenizer)
}

#[test]
fn training_twice_gives_the_same_bytes() {
    let (one, tokenizer) = trained(320);
    let (two, _) = trained(320);
    for file in [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE] {
        assert_eq!(
            fs::read(one.path().join(file)).unwrap(),
            fs::read(two.path().join(file)).unwrap()
        );
    }
    assert_eq!(tokenizer.hash(), Hash::of(&fs::read(tokenizer.path()).unwrap()));
    assert_ne!(tokenizer.hash(), trained(319).1.hash());
}

#[test]
fn the_vocabulary_is_the_separator_the_bytes_and_merges() {
    let (_folder, tokenizer) = trained(320);
    assert_eq!(tokenizer.vocab_size(), 320);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (0, 0));
    assert_eq!(tokenizer.token(0).as_deref(), Some(END_OF_TEXT));
    assert_eq!(tokenizer.token(320), None);
    let text = "fn f1(x: u32)";
    let tokens = tokenizer.encode(text).unwrap();
    assert!(tokens.len() < text.len(), "{tokens:?}");
    assert_eq!(tokenizer.decode(&[0]).unwrap(), END_OF_TEXT);
}

#[test]
fn a_token_in_a_text_keeps_the_space_before_it() {
    let folder = tempfile::tempdir().unwrap();
    // As SentencePiece has spaces: the decoder drops the first one.
    let vocab = ["<s>", "▁a", "▁bell", "s"].iter().enumerate();
    let vocab: serde_json::Map<String, Value> =
        vocab.map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let file = json!({
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        "added_tokens": [{
            "id": 0, "content": "<s>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        }],
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
    });
    let path = folder.path().join(TOKENIZER_FILE);
    fs::write_atomic(&path, file.to_string().as_bytes()).unwrap();
    let config = br#"{"bos_token": "<s>", "eos_token": "<s>"}"#;
    fs::write_atomic(folder.path().join(TOKENIZER_CONFIG_FILE), config).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    let tokens = [0, 1, 2, 3];
    assert_eq!(tokenizer.decode(&tokens[1..]).unwrap(), "a bells");
    let texts: Vec<_> = (0..4).map(|at| tokenizer.decode_one(&tokens, at).unwrap()).collect();
    assert_eq!(texts, ["<s>", " a", " bell", "s"]);
    // Bytes of one character are no text each.
    let (_folder, tokenizer) = trained(320);
    let tokens = tokenizer.encode("aé€").unwrap();
    let texts = (0..tokens.len()).map(|at| tokenizer.decode_one(&tokens, at).unwrap());
    assert_eq!(
        texts.collect::<Vec<_>>(),
        ["a", "\u{fffd}", "\u{fffd}", "\u{fffd}", "\u{fffd}", "\u{fffd}"]
    );
}

#[test]
fn the_spelling_of_the_separator_is_text() {
    let (_folder, tokenizer) = trained(320);
    let text = "a<|endoftext|>b";
    let tokens = tokenizer.encode(text).unwrap();
    assert!(!tokens.contains(&tokenizer.eos()), "{tokens:?}");
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    assert_eq!(tokenizer.encode_batch(&[text, ""]).unwrap(), [tokens, vec![]]);
}

#[test]
fn offsets_cover_the_text() {
    let (_folder, tokenizer) = trained(320);
    let text = "fn  naïve(x)\t{}\r\n";
    let spans = tokenizer.encode_with_offsets(text).unwrap();
    assert_eq!(
        spans.iter().map(|span| span.id).collect::<Vec<_>>(),
        tokenizer.encode(text).unwrap()
    );
    assert_eq!((spans[0].bytes.start, spans[spans.len() - 1].bytes.end), (0, text.len()));
    for pair in spans.windows(2) {
        let (a, b) = (&pair[0].bytes, &pair[1].bytes);
        assert!(a.end == b.start || a == b, "{a:?} {b:?}");
    }
}

#[test]
fn begin_and_end_come_from_the_configuration_beside_the_file() {
    let (folder, tokenizer) = trained(320);
    let config = folder.path().join(TOKENIZER_CONFIG_FILE);
    let load = |json: &str| {
        std::fs::write(&config, json).unwrap();
        Tokenizer::load(tokenizer.path())
    };
    let loaded = load(r#"{"eos_token": {"content": "f"}, "bos_token": "x"}"#).unwrap();
    let id = |text: &str| tokenizer.encode(text).unwrap()[0];
    assert_eq!((loaded.bos(), loaded.eos(), loaded.pad()), (id("x"), id("f"), None));
    let loaded = load(r#"{"eos_token": "f", "pad_token": "u"}"#).unwrap();
    assert_eq!((loaded.bos(), loaded.pad()), (id("f"), Some(id("u"))));
    assert!(load(r#"{"eos_token": "</s>"}"#).unwrap_err().to_string().contains("</s>"));
    assert!(load("{").is_err());
    std::fs::write(tokenizer.path(), "{}").unwrap();
    assert!(matches!(load("{}"), Err(Error::Tokenizer { .. })));
}

#[test]
fn a_vocabulary_is_as_large_as_its_largest_id() {
    let (_folder, tokenizer) = trained(320);
    let mut json: Value = serde_json::from_slice(&fs::read(tokenizer.path()).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    // No merge makes it: the hole is above all ids that a text can have.
    vocab.insert("unused".into(), json!(400));
    std::fs::write(tokenizer.path(), json.to_string()).unwrap();
    let holed = Tokenizer::load(tokenizer.path()).unwrap();
    assert_eq!(holed.vocab_size(), 401);
    assert_eq!(holed.token(399), None);
    assert_eq!(holed.rows(), 401);
}

#[test]
fn special_tokens_that_no_text_has_need_no_row() {
    let (_folder, tokenizer) = trained(320);
    assert_eq!(tokenizer.rows(), 320);
    let mut json: Value = serde_json::from_slice(&fs::read(tokenizer.path()).unwrap()).unwrap();
    let mut rows = |special: bool| {
        let token = json!({
            "id": 320, "content": "<image>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special,
        });
        let list = json["added_tokens"].as_array_mut().unwrap();
        list.retain(|token| token["id"] != 320);
        list.push(token);
        std::fs::write(tokenizer.path(), json.to_string()).unwrap();
        let loaded = Tokenizer::load(tokenizer.path()).unwrap();
        let ids = loaded.encode("an <image>").unwrap();
        assert_eq!(ids.contains(&320), !special);
        (loaded.vocab_size(), loaded.rows())
    };
    assert_eq!(rows(true), (321, 320));
    assert_eq!(rows(false), (321, 321));
}

#[test]
fn no_character_is_cut() {
    let (_folder, tokenizer) = trained(257);
    let tokens = tokenizer.encode("aé🦀").unwrap();
    assert_eq!(tokens.len(), 7);
    let kept = |most| tokenizer.whole_characters(&tokens, most).unwrap();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8].map(kept), [0, 1, 1, 3, 3, 3, 3, 7, 7]);
    // Of the first character all.
    let crab = tokenizer.encode("🦀a").unwrap();
    assert_eq!(tokenizer.whole_characters(&crab, 1).unwrap(), 4);
    // A text may hold what a cut character looks like.
    let tokens = tokenizer.encode("\u{fffd}\u{fffd}").unwrap();
    assert_eq!([2, 3, 5].map(|most| tokenizer.whole_characters(&tokens, most).unwrap()), [3, 3, 3]);
}

#[test]
fn padding_and_truncation_of_a_file_are_ignored() {
    let (_folder, tokenizer) = trained(320);
    let text = "fn main() {}\n";
    let mut json: Value = serde_json::from_slice(&fs::read(tokenizer.path()).unwrap()).unwrap();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    std::fs::write(tokenizer.path(), json.to_string()).unwrap();
    let loaded = Tokenizer::load(tokenizer.path()).unwrap();
    assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
}

#[test]
fn every_text_comes_back() {
    let (_folder, tokenizer) = trained(320);
    let odd = [
        "",
        " ",
        "\0\u{1}\u{7f}",
        "\r\n\t  \n",
        "ß ﬁ é e\u{301} 漢字 🦀👩‍🔬",
        "\u{feff}x",
        "\u{a0}\u{2028}",
        "a  b",
    ];
    for text in odd {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
    let strategy = prop_oneof![any::<String>(), "[ \\t\\r\\n<|>a-f0-9'é🦀]{0,40}"];
    proptest!(|(text in strategy)| {
        let tokens = tokenizer.encode(&text).unwrap();
        let ordinary = 1..tokenizer.vocab_size() as u32;
        prop_assert!(tokens.iter().all(|token| ordinary.contains(token)));
        prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    });
}
