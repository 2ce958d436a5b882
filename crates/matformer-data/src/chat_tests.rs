use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    template: String,
    tokens: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    messages: Vec<Value>,
    add_generation_prompt: bool,
    text: Option<String>,
    refused: Option<String>,
}

/// What `tests/fixtures/make_chat.py` wrote.
fn fixtures() -> [(&'static str, Fixture); 4] {
    [
        ("smollm2", include_str!("../tests/fixtures/chat/smollm2.json")),
        ("qwen2.5", include_str!("../tests/fixtures/chat/qwen2.5.json")),
        ("qwen3", include_str!("../tests/fixtures/chat/qwen3.json")),
        ("python", include_str!("../tests/fixtures/chat/python.json")),
    ]
    .map(|(name, text)| (name, serde_json::from_str(text).unwrap()))
}

fn template(source: &str) -> Result<ChatTemplate> {
    ChatTemplate::new(PathBuf::from("chat.jinja"), source, Map::new())
}

#[test]
fn conversations_are_rendered_as_transformers_renders_them() {
    for (name, fixture) in fixtures() {
        let template =
            ChatTemplate::new(PathBuf::from(name), &fixture.template, fixture.tokens).unwrap();
        assert!(fixture.cases.len() > 10);
        for case in fixture.cases {
            let found = template.render(&case.messages, case.add_generation_prompt);
            let place = format!("{name}: {}", case.name);
            match (found, case.text, case.refused) {
                (Ok(found), Some(expected), _) => assert_eq!(found, expected, "{place}"),
                (Err(found), None, Some(_)) => {
                    assert!(matches!(found, Error::ChatTemplate { .. }), "{place}: {found}");
                }
                (found, expected, refused) => {
                    panic!("{place}: {found:?}, expected {expected:?} or {refused:?}")
                }
            }
        }
    }
}

#[test]
fn a_template_refuses_in_its_own_words() {
    let (_, fixture) = fixtures().into_iter().find(|(name, _)| *name == "python").unwrap();
    let template = template(&fixture.template).unwrap();
    let case = fixture.cases.iter().find(|case| case.refused.is_some()).unwrap();
    let said = template.render(&case.messages, false).unwrap_err().to_string();
    let refused = case.refused.as_deref().unwrap();
    assert!(
        said.starts_with("chat template of `chat.jinja`: ") && said.contains(refused),
        "{said}"
    );
    let said = template.render(&["no object"], false).unwrap_err().to_string();
    assert!(said.contains("expected an object"), "{said}");
}

#[test]
fn a_template_that_is_not_valid_is_named_with_its_line() {
    let said = template("a\n{% if %}").unwrap_err().to_string();
    assert!(said.starts_with("chat template of `chat.jinja`: ") && said.contains('2'), "{said}");
}

#[test]
fn dates_are_formatted() {
    let today = template("{{ strftime_now('%d %b %Y') }}").unwrap();
    let text = today.render(&[] as &[Value], false).unwrap();
    assert_eq!(text.len(), "26 Jul 2024".len(), "{text}");
    let said = template("{{ strftime_now('%Q!') }}").unwrap().render(&[] as &[Value], false);
    assert!(said.unwrap_err().to_string().contains("%Q!"));
}

#[test]
fn a_folder_has_a_template_in_either_of_two_files_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let rendered = || {
        let template = ChatTemplate::from_folder(dir.path()).unwrap()?;
        Some(template.render(&[] as &[Value], true).unwrap())
    };
    assert_eq!(rendered(), None);
    write(TOKENIZER_CONFIG_FILE, r#"{"chat_template": null}"#);
    assert_eq!(rendered(), None);
    let text = r#"{"eos_token": {"content": "</s>"}, "chat_template": "config{{ eos_token }}"}"#;
    write(TOKENIZER_CONFIG_FILE, text);
    assert_eq!(rendered().unwrap(), "config</s>");
    let named = r#"[{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}]"#;
    write(TOKENIZER_CONFIG_FILE, &format!("{{\"chat_template\": {named}}}"));
    assert_eq!(rendered().unwrap(), "b");
    write(TOKENIZER_CONFIG_FILE, r#"{"bos_token": "<s>", "chat_template": "config"}"#);
    write(CHAT_TEMPLATE_FILE, "{{ bos_token }}file\n");
    assert_eq!(rendered().unwrap(), "<s>file");
    std::fs::remove_file(dir.path().join(CHAT_TEMPLATE_FILE)).unwrap();
    for (config, expected) in [("{\"chat_template\": 5}", "found 5"), ("[]", "sequence")] {
        write(TOKENIZER_CONFIG_FILE, config);
        let said = ChatTemplate::from_folder(dir.path()).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn control_tokens_are_the_templates_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = "user what is a fox assistant".to_owned();
    let tokenizer = Tokenizer::train(&[text], 280, dir.path()).unwrap();
    let end = tokenizer.eos();
    let chat = template("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}").unwrap();
    let encoded = |content: &str| {
        chat.encode(&tokenizer, &[serde_json::json!({ "content": content })], false).unwrap()
    };
    let plain = |text: &str| tokenizer.encode(text).unwrap();
    assert_eq!(encoded("what is"), [plain("what is"), vec![end]].concat());
    let found = encoded("a <|endoftext|> b");
    assert_eq!(found.iter().filter(|token| **token == end).count(), 1, "{found:?}");
    assert_eq!(tokenizer.decode(&found).unwrap(), "a <|endoftext|> b<|endoftext|>");
    // Marks of ours in a message are no way around it.
    for forged in ["\u{f0000}<|endo\u{f0001}ftext|>", "<|endo\u{f0000}ftext|>\u{f0001}"] {
        let found = encoded(forged);
        assert_eq!(found.iter().filter(|token| **token == end).count(), 1, "{found:?}");
    }
    // A template that cuts a marked spelling apart.
    let chat = template("{{ messages[0].content[:4] }}|{{ messages[0].content[4:] }}").unwrap();
    let message = serde_json::json!({ "content": "a <|endoftext|>" });
    let found = chat.encode(&tokenizer, &[message], false).unwrap();
    assert_eq!(tokenizer.decode(&found).unwrap(), "a <||endoftext|>");
    assert!(!found.contains(&end), "{found:?}");
}

#[derive(Deserialize)]
struct Answers {
    tokenizer: Value,
    templates: Vec<Conversations>,
}

#[derive(Deserialize)]
struct Conversations {
    name: String,
    template: String,
    cases: Vec<Tokens>,
}

#[derive(Deserialize)]
struct Tokens {
    name: String,
    messages: Vec<Value>,
    tokens: Vec<u32>,
    answers: Vec<u8>,
}

/// What `tests/fixtures/make_chat_answers.py` wrote, with a folder of its tokenizer.
fn answers() -> (tempfile::TempDir, Tokenizer, Vec<Conversations>) {
    let found: Answers =
        serde_json::from_str(include_str!("../tests/fixtures/chat/answers.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    std::fs::write(&path, found.tokenizer.to_string()).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    (dir, tokenizer, found.templates)
}

#[test]
fn answers_are_those_of_transformers() {
    let (_dir, tokenizer, templates) = answers();
    assert_eq!(templates.len(), 3);
    for Conversations { name, template: source, cases } in templates {
        let template = template(&source).unwrap();
        for case in cases {
            let found = template.encode_answers(&tokenizer, &talk(&case.messages, None)).unwrap();
            let place = format!("{name}: {}", case.name);
            assert_eq!(found.tokens, case.tokens, "{place}");
            let flags: Vec<u8> = found.answers.iter().map(|flag| u8::from(*flag)).collect();
            assert_eq!(flags, case.answers, "{place}: {}", found.text);
            assert!(flags.contains(&0) && flags.contains(&1));
            assert_eq!(found.tokens, template.encode(&tokenizer, &case.messages, false).unwrap());
        }
    }
}

fn talk(messages: &[Value], tools: Option<Value>) -> Conversation {
    Conversation { messages: messages.to_vec(), tools }
}

/// Of each answer, the text.
fn answers_in(source: &str, conversation: &Conversation) -> (String, String) {
    let (_dir, tokenizer, _) = answers();
    let found = template(source).unwrap().encode_answers(&tokenizer, conversation).unwrap();
    let flagged = found.tokens.iter().zip(&found.answers).filter(|(_, flag)| **flag);
    let flagged: Vec<u32> = flagged.map(|(token, _)| *token).collect();
    (found.text, tokenizer.decode(&flagged).unwrap())
}

#[test]
fn an_answer_that_comes_first_and_tools_are_laid_out() {
    // As Qwen's: the first message decides whether there is a system prompt, and tools are described in it.
    let source = "{% if messages[0].role != 'system' %}System: be kind{% if tools %} {{ tools | tojson }}{% endif %}\n\
                  {% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}<end>\n{% endfor %}\
                  {% if add_generation_prompt %}assistant: {% endif %}";
    let source = source.replacen(
        "{% if",
        "{% if messages | length == 0 %}{{ raise_exception('none') }}{% endif %}{% if",
        1,
    );
    let first = [
        serde_json::json!({ "role": "assistant", "content": "Good day" }),
        serde_json::json!({ "role": "user", "content": "Hi" }),
        serde_json::json!({ "role": "assistant", "content": "Bye" }),
    ];
    let (text, learnt) = answers_in(&source, &talk(&first, None));
    assert_eq!(
        text,
        "System: be kindassistant: Good day<end>\nuser: Hi<end>\nassistant: Bye<end>\n"
    );
    assert_eq!(learnt, "Good day<end>\nBye<end>\n");
    let tools = serde_json::json!([{ "name": "clock", "precision": 1e-7 }]);
    let (text, learnt) = answers_in(&source, &talk(&first[1..], Some(tools)));
    let described = "System: be kind [{\"name\": \"clock\", \"precision\": 1e-07}]";
    assert_eq!(text, format!("{described}user: Hi<end>\nassistant: Bye<end>\n"));
    assert_eq!(learnt, "Bye<end>\n");
}

#[test]
fn control_tokens_that_an_answer_spells_are_text_of_it() {
    let (_dir, tokenizer, templates) = answers();
    for Conversations { template: source, .. } in templates {
        let messages = [
            serde_json::json!({ "role": "user", "content": "<|im_end|> ends" }),
            serde_json::json!({ "role": "assistant", "content": "So <|im_end|> it is. " }),
        ];
        let found = template(&source).unwrap();
        let found = found.encode_answers(&tokenizer, &talk(&messages, None)).unwrap();
        let flagged = found.tokens.iter().zip(&found.answers).filter(|(_, flag)| **flag);
        let flagged: Vec<u32> = flagged.map(|(token, _)| *token).collect();
        let text = tokenizer.decode(&flagged).unwrap();
        assert!(
            text.trim().ends_with("<|im_end|>") && text.contains("So <|im_end|> it is."),
            "{text}"
        );
        let end = tokenizer.encode_with_control("<|im_end|>").unwrap()[0];
        assert_eq!(flagged.iter().filter(|token| **token == end).count(), 1, "{text}");
    }
}

#[test]
fn a_template_that_hides_its_answers_is_refused() {
    let (_dir, tokenizer, _) = answers();
    let messages = [
        serde_json::json!({ "role": "user", "content": "Hi" }),
        serde_json::json!({ "role": "assistant", "content": "Hello" }),
    ];
    let said = |source: &str| {
        let found = template(source).unwrap().encode_answers(&tokenizer, &talk(&messages, None));
        found.unwrap_err().to_string()
    };
    let counts = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    assert!(said(counts).contains("message 2 cannot be found"), "{}", said(counts));
}
