//! Requests that are wrong: each is refused by name, and the next good one is answered.

use std::{
    io::{Read, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    PROMPT,
    client::{Answer, Served},
};
use crate::support::Place;

fn good(server: &Served) {
    let body = json!({ "prompt": PROMPT, "max_tokens": 2, "temperature": 0 });
    let found = server.post("/v1/completions", &body).ok();
    assert_eq!(found["usage"]["completion_tokens"], 2);
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::trained();
    place.write("run/chat_template.jinja", "{{ raise_exception('no ' + messages[0].role) }}");
    let server = Served::start(&place, &[]);
    let long = "The hare counts dry leaves at home. ".repeat(20);
    let refused = |path: &str, field: &str, value: Value| -> Answer {
        let mut body = json!({ "prompt": "a", "max_tokens": 1 });
        if path.contains("chat") {
            body = json!({ "messages": [{ "role": "user", "content": "a" }] });
        }
        body[field] = value;
        server.post(path, &body)
    };
    let texts = "/v1/completions";
    let chat = "/v1/chat/completions";
    for (path, field, value, status, expected) in [
        (texts, "prompt", json!(5), 400, "`prompt`: found 5, expected a string, a list of strings"),
        (texts, "prompt", json!(null), 400, "`prompt`: found null"),
        (texts, "prompt", json!([]), 400, "`prompt`: found []"),
        (texts, "prompt", json!([[]]), 400, "`prompt`: found [[]]"),
        (texts, "prompt", json!(["a", [1]]), 400, "`prompt`: found [\"a\",[1]]"),
        (texts, "prompt", json!([1, -2]), 400, "`prompt`: found [1,-2]"),
        (texts, "prompt", json!([99999]), 400, "token 99999 at position 0 of the prompt"),
        (texts, "prompt", json!(long), 400, "expected fewer than the context of 32"),
        (texts, "prompt", json!(vec!["a"; 1000]), 400, "found 1000 prompts, expected at most 128"),
        (texts, "max_tokens", json!(-1), 400, "`max_tokens`: found -1, expected a whole number"),
        (
            texts,
            "max_tokens",
            json!(33),
            400,
            "`max_tokens`: found 33, expected a whole number from 0 to 32",
        ),
        (
            texts,
            "temperature",
            json!("hot"),
            400,
            "`temperature`: found \"hot\", expected a number",
        ),
        (texts, "temperature", json!(-1), 400, "`temperature` is -1, expected 0 or more"),
        (texts, "top_p", json!(2), 400, "`top_p` is 2, expected above 0, at most 1"),
        (
            texts,
            "presence_penalty",
            json!(3),
            400,
            "`presence_penalty` is 3, expected from -2 to 2",
        ),
        (texts, "logit_bias", json!({ "a": 1 }), 400, "`logit_bias`: found {\"a\":1}"),
        (texts, "logit_bias", json!({ "5000": 1 }), 400, "`logit_bias` is 5000"),
        (texts, "seed", json!(0.5), 400, "`seed`: found 0.5, expected a whole number"),
        (texts, "stop", json!([1]), 400, "`stop`: found [1]"),
        (texts, "stream", json!("yes"), 400, "`stream`: found \"yes\", expected true or false"),
        (texts, "stream_options", json!({}), 400, "`stream_options`: found {}"),
        (texts, "n", json!(0), 400, "`n`: found 0, expected a whole number from 1 to 128"),
        (texts, "logprobs", json!(21), 400, "`logprobs`: found 21"),
        (texts, "best_of", json!(3), 400, "`best_of`: found 3, expected no more than `n`"),
        (texts, "suffix", json!("end"), 400, "`suffix`: found \"end\""),
        (texts, "model", json!("gpt-4"), 404, "`model`: found \"gpt-4\", expected `run`"),
        (texts, "model", json!("run@HUGE"), 404, "`model`: found the size \"HUGE\": "),
        (texts, "model", json!("run@1%"), 404, "`model`: found the size \"1%\": "),
        (texts, "model", json!("run@8ms"), 404, "`model`: found the size \"8ms\": "),
        (texts, "model", json!("run@32x9"), 404, "`model`: found the size \"32x9\": "),
        (texts, "model", json!(["run"]), 400, "`model`: found [\"run\"], expected a string"),
        (texts, "draft", json!("HUGE"), 404, "`draft`: found the size \"HUGE\""),
        (texts, "draft", json!({ "len": 2 }), 400, "`draft`: found {\"len\":2}"),
        (texts, "policy", json!("widen"), 400, "expected `fixed`, `escalate=SUBMODEL[,NATS]`"),
        (
            texts,
            "prompts",
            json!("a"),
            400,
            "`prompts`: unknown field, expected one of best_of, draft, echo",
        ),
        (texts, "messages", json!([]), 400, "`messages`: unknown field"),
        (chat, "messages", json!([]), 400, "`messages`: found [], expected a list of messages"),
        (chat, "messages", json!([5]), 400, "`messages[0]`: found 5"),
        (
            chat,
            "messages",
            json!([{ "role": "tool", "content": "a" }]),
            400,
            "`messages[0].role`: found \"tool\"",
        ),
        (chat, "messages", json!([{ "role": "user" }]), 400, "`messages[0].content`: found null"),
        (
            chat,
            "messages",
            json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]),
            400,
            "`messages[0].content[0]`: found \"image_url\"",
        ),
        (chat, "messages", json!([{ "role": "user", "content": "a" }]), 400, "chat_template.jinja"),
        (
            chat,
            "tools",
            json!([{ "type": "function" }]),
            400,
            "`tools`: found [{\"type\":\"function\"}], expected no tools",
        ),
        (
            chat,
            "response_format",
            json!({ "type": "json_object" }),
            400,
            "`response_format`: found",
        ),
        (chat, "modalities", json!(["audio"]), 400, "`modalities`: found [\"audio\"]"),
        (chat, "top_logprobs", json!(3), 400, "`top_logprobs`: found 3"),
        (chat, "prompt", json!("a"), 400, "`prompt`: unknown field"),
        (chat, "max_tokens", json!(0), 400, "`max_tokens`: found 0"),
    ] {
        let said = refused(path, field, value).error(status);
        assert!(said.contains(expected), "{field}: {said}, expected {expected}");
    }
    let both = json!({ "prompt": "a", "echo": true, "n": 2 });
    let said = server.post(texts, &both).error(400);
    assert!(said.contains("`n`: found 2, expected 1 with `echo`"), "{said}");
    let both = json!({ "prompt": "a", "draft": "XL", "model": "run@S" });
    assert!(server.post(texts, &both).error(400).contains("`draft`: found width"));
    let both = json!({ "prompt": "a", "draft": "auto", "model": "run@S" });
    assert!(server.post(texts, &both).error(400).contains("no trained size is narrower than `S`"));
    let many = json!({ "prompt": [[1], [1, 2], [5000]] });
    let answer = server.post(texts, &many);
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap()["error"]["param"], "prompt[2]");
    good(&server);
}

#[test]
fn what_is_no_request_is_refused_or_cut_off() {
    let place = Place::trained();
    let more = ["--max-body", "20kB", "--read-timeout", "1"];
    let server = Served::start(&place, &more);
    let raw = |bytes: &[u8]| {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        Answer::read(stream)
    };
    let body = |body: &[u8]| server.send("POST", "/v1/completions", "", body);
    for (bytes, expected) in [
        (&b"{\"prompt\": "[..], "the body is not JSON: EOF"),
        (b"", "the body is not JSON"),
        (b"[]", "the body is [], expected a JSON object"),
        (b"\xff\xfe{}", "not UTF-8 from byte 0"),
        (b"{\"prompt\": \"\xc3\"}", "not UTF-8"),
        (b"{\"prompt\": \"\\ud800\"}", "not JSON"),
    ] {
        let said = body(bytes).error(400);
        assert!(said.contains(expected), "{said}");
    }
    let nested = format!("{{\"prompt\": {}", "[".repeat(10_000));
    assert!(body(nested.as_bytes()).error(400).contains("recursion"));
    let huge = format!("{{\"prompt\": \"{}\"}}", "a".repeat(30_000));
    assert!(body(huge.as_bytes()).error(413).contains("more than 20000 bytes"));
    // The same without saying so first.
    let chunks = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("1000\r\n{}\r\n", "a".repeat(4096)).repeat(10)
    );
    assert_eq!(raw(chunks.as_bytes()).unwrap().status, 413);
    assert!(server.get("/nothing").error(404).contains("no such endpoint"));
    assert!(server.get("/v1/completions").error(405).contains("the method GET"));
    assert_eq!(raw(b"HELLO\r\n\r\n").unwrap().status, 400);
    assert_eq!(raw(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").unwrap().status, 400);
    let flood = |n: usize, value: &str| {
        let headers: String = (0..n).map(|i| format!("X-{i}: {value}\r\n")).collect();
        format!("GET /health HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
    };
    for flood in [flood(1000, "a"), flood(40, &"a".repeat(4000)), flood(1, &"a".repeat(100_000))] {
        // Cut off, where more was sent than is read.
        if let Ok(answer) = raw(flood.as_bytes()) {
            assert_eq!(answer.status, 431, "{answer:?}");
        }
    }
    // A head, or a body, that never ends.
    let mut slow = server.connect();
    slow.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nX").unwrap();
    assert!(slow.read_to_end(&mut Vec::new()).is_ok(), "closed after a second");
    let head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
    let slow = raw(head).unwrap();
    assert!(slow.error(408).contains("took more than 1 s to arrive"), "{slow:?}");
    // Dropped in the middle of everything.
    for bytes in [&head[..20], &head[..], b"GET /"] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        drop(stream);
    }
    std::thread::sleep(Duration::from_millis(100));
    good(&server);
}
