//! Conversations: only answers are learnt and measured.

use std::path::{Path, PathBuf};

use matformer_data::{
    BatchShape, Batches, CHAT_TEMPLATE_FILE, DataConfig, Error, Prepared, TOKENIZER_FILE,
    Tokenizer, prepare,
};
use serde_json::{Value, json};

/// A folder with the small tokenizer of the fixtures, and the template of SmolLM2 beside it.
fn chat_model(root: &Path) -> PathBuf {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/chat/answers.json")).unwrap();
    let dir = root.join("model");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(TOKENIZER_FILE), fixture["tokenizer"].to_string()).unwrap();
    let config = json!({ "bos_token": "<|im_start|>", "eos_token": "<|im_end|>" });
    std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
    let template = fixture["templates"][0]["template"].as_str().unwrap();
    std::fs::write(dir.join(CHAT_TEMPLATE_FILE), template).unwrap();
    dir
}

fn messages(index: usize) -> Value {
    json!([
        { "role": "system", "content": "Be short." },
        { "role": "user", "content": format!("What is {index} and one?") },
        { "role": "assistant", "content": format!("It is {}.", index + 1) },
        { "role": "user", "content": "Sure?" },
        { "role": "assistant", "content": format!("Yes, {index} of it.") },
    ])
}

/// The answers of conversation `index`, as the template writes them.
fn answers(index: usize) -> String {
    format!("It is {}.<|im_end|>\nYes, {index} of it.<|im_end|>\n", index + 1)
}

fn config(root: &Path, rows: &str, tokenizer: &Path) -> DataConfig {
    let path = root.join("rows.jsonl");
    std::fs::write(&path, rows).unwrap();
    DataConfig {
        paths: vec![path.into()],
        chat: true,
        tokenizer: Some(tokenizer.into()),
        held_out: 0.3,
        ..DataConfig::default()
    }
}

fn prepared(config: &DataConfig, root: &Path) -> Result<Prepared, Error> {
    prepare(config, &root.join("cache"), &mut |_| {})
}

fn rows(of: impl Fn(usize) -> Value) -> String {
    (0..20).map(|index| of(index).to_string() + "\n").collect()
}

#[test]
fn only_answers_are_learnt_and_measured() {
    let root = tempfile::tempdir().unwrap();
    let model = chat_model(root.path());
    let rows = rows(|index| json!({ "messages": messages(index), "id": index }));
    let config = config(root.path(), &rows, &model);
    let prepared = prepared(&config, root.path()).unwrap();
    let tokenizer = prepared.tokenizer().unwrap();
    assert!(prepared.chat_template_path().unwrap().is_file());

    // The shards: what is flagged is the answers and nothing else.
    let mut seen = Vec::new();
    let shards = [prepared.train().unwrap(), prepared.held_out().unwrap().shard().clone()];
    for (shard, size) in shards.iter().zip([prepared.summary.train, prepared.summary.held_out]) {
        assert!(shard.is_masked());
        let documents = shard.documents().unwrap();
        for document in &documents {
            let index = document.name.rsplit_once(':').unwrap().1.parse::<usize>().unwrap() - 1;
            let flags: Vec<bool> = shard.learnt(document.text()).collect();
            let tokens = shard.iter(document.text()).zip(&flags).filter(|(_, flag)| **flag);
            let tokens: Vec<u32> = tokens.map(|(token, _)| token).collect();
            assert_eq!(tokenizer.decode(&tokens).unwrap(), answers(index));
            assert_eq!(document.answers, Some(tokens.len()));
            assert_eq!(document.bytes, answers(index).len());
            assert!(flags.len() > 2 * tokens.len(), "the questions are longer");
            seen.push(index);
            // One token begins a conversation, though the template writes it as well.
            let whole: Vec<u32> = shard.iter(document.start..document.text().end).collect();
            let text = tokenizer.decode(&whole).unwrap();
            assert!(text.starts_with("<|im_start|>system\nBe short."), "{text}");
        }
        let all = shard.learnt(0..shard.len()).filter(|flag| *flag).count();
        assert_eq!(all, documents.iter().map(|document| document.targets()).sum::<usize>());
        assert_eq!(size.answers, Some(all));
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..20));

    // The batches: a flag belongs to the target.
    let shape = BatchShape { rows: 2, seq_len: 24 };
    let batch = Batches::new(shards[0].clone(), shape, 5).unwrap().at(3, 0, 1);
    let learnt = batch.learnt.as_ref().unwrap();
    assert_eq!(learnt.len(), batch.targets.len());
    let all: Vec<u32> = shards[0].iter(0..shards[0].len()).collect();
    let flags: Vec<bool> = shards[0].learnt(0..shards[0].len()).collect();
    for (targets, learnt) in batch.targets.chunks(24).zip(learnt.chunks(24)) {
        let place = |at: &usize| all[*at..*at + 24] == *targets && flags[*at..*at + 24] == *learnt;
        assert!((0..all.len() - 24).any(|at| place(&at)), "{targets:?}");
    }

    // The windows: every answer's token is measured once.
    let held_out = prepared.held_out().unwrap();
    let measured: usize = held_out.windows(7).unwrap().map(|window| window.measured()).sum();
    assert_eq!(measured, held_out.tokens());
    assert!(held_out.windows(7).unwrap().all(|window| window.measured() > 0));
    let texts = held_out.texts(&tokenizer).unwrap();
    assert!(texts.iter().all(|text| text.starts_with("It is ")), "{texts:?}");
    assert_eq!(texts.iter().map(String::len).sum::<usize>(), held_out.bytes());
    let part = prepared.held_out_part(Some(40)).unwrap();
    assert!(part.tokens() < 40 && part.tokens() > 0 && !part.is_whole());
}

#[test]
fn pairs_and_messages_are_the_same_conversation() {
    let root = tempfile::tempdir().unwrap();
    let model = chat_model(root.path());
    let pair = |index: usize| (format!("What is {index}?"), format!("A number, {index}."));
    let hash = |rows: &str| {
        let config = config(root.path(), rows, &model);
        prepared(&config, root.path()).unwrap().data_hash()
    };
    let pairs = hash(&rows(|index| {
        let (prompt, completion) = pair(index);
        json!({ "prompt": prompt, "completion": completion })
    }));
    let lists = hash(&rows(|index| {
        let (prompt, completion) = pair(index);
        let said = |role: &str, content: String| json!({ "role": role, "content": content });
        json!({ "messages": [said("user", prompt), said("assistant", completion)] })
    }));
    assert_eq!(pairs, lists);
}

#[test]
fn what_is_no_conversation_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let model = chat_model(root.path());
    let said = |rows: &str| {
        let error = prepared(&config(root.path(), rows, &model), root.path()).unwrap_err();
        error.to_string()
    };
    let plain = said(&rows(|index| json!({ "text": format!("text {index}") })));
    assert!(
        plain.contains("line 1: no field `messages`, and no `prompt` with a `completion`"),
        "{plain}"
    );
    let silent = said(&rows(|_| json!({ "messages": [{ "role": "user", "content": "Hi" }] })));
    assert!(silent.contains("no message of the role `assistant`"), "{silent}");

    let good = rows(|index| json!({ "messages": messages(index) }));
    let without = DataConfig { tokenizer: None, ..config(root.path(), &good, &model) };
    let error = prepared(&without, root.path()).unwrap_err();
    assert!(matches!(error, Error::Config { key: "chat", .. }), "{error}");
    let text = root.path().join("a.txt");
    std::fs::write(&text, "text").unwrap();
    let named = DataConfig { paths: vec![text.into()], ..config(root.path(), &good, &model) };
    let error = prepared(&named, root.path()).unwrap_err();
    assert!(matches!(error, Error::NoConversations { .. }), "{error}");
    std::fs::remove_file(model.join(CHAT_TEMPLATE_FILE)).unwrap();
    let error = prepared(&config(root.path(), &good, &model), root.path()).unwrap_err();
    assert!(matches!(error, Error::NoChatTemplate { .. }), "{error}");
    assert!(error.hint().unwrap().contains("chat_template.jinja"));
}

#[test]
fn another_template_makes_other_data() {
    let root = tempfile::tempdir().unwrap();
    let model = chat_model(root.path());
    let good = rows(|index| json!({ "messages": messages(index) }));
    let config = config(root.path(), &good, &model);
    let first = prepared(&config, root.path()).unwrap();
    assert!(prepared(&config, root.path()).unwrap().reused);
    let path = model.join(CHAT_TEMPLATE_FILE);
    let template = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, template.replace("SmolLM", "Owl") + "\n").unwrap();
    let second = prepared(&config, root.path()).unwrap();
    assert_ne!(first.data_hash(), second.data_hash());
    Tokenizer::load(&second.tokenizer_path()).unwrap();
}
