//! `matformer serve`: the real binary, asked over its socket.

mod answers;
mod client;
mod load;
mod malformed;
#[cfg(unix)]
mod page;
mod scores;

use serde_json::{Value, json};

use crate::support::{Place, keys};
use client::Served;

const PROMPT: &str = "The fox";

/// A trained place whose model has a long context, so that answers take a while.
fn long() -> Place {
    let place = Place::new();
    let sets = ["model.lm.context=4096", "train.seq_len=32", "train.steps=2", "train.eval_every=2"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    place.matformer(&[&["train", "run.toml", "--out", "run"], &sets[..]].concat()).ok();
    place
}

#[test]
fn what_is_served_is_listed() {
    let place = Place::trained();
    let server = Served::start(&place, &["--name", "fox"]);
    let models = server.get("/v1/models").ok();
    let all = models["data"].as_array().unwrap();
    let ids: Vec<&Value> = all.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["fox", "fox@S", "fox@M", "fox@L", "fox@XL"]);
    for (model, more) in all[1..].iter().zip(&all[2..]) {
        assert!(model["parameters"].as_u64() < more["parameters"].as_u64());
    }
    for model in all {
        assert!(model["tokens_per_second"].as_f64().unwrap() > 0.0, "{model}");
        assert!(model["loss"]["nats"].as_f64().unwrap() > 0.0, "{model}");
        assert_eq!(model["max_model_len"], 32);
    }
    assert_eq!(all[0]["size"], "XL");
    assert_eq!(server.get("/v1/models/fox@M").ok(), all[2]);
    assert_eq!(server.get("/v1/models/fox@9").status, 404);
    assert_eq!(server.get("/health").ok(), json!({ "status": "ok" }));
    let page = server.get("/");
    assert!(
        page.body.contains("<title>Matformer</title>")
            && page.header("content-type").contains("html")
    );
    for part in ["page.js", "page.css"] {
        assert!(page.body.contains(part));
        assert_eq!(server.get(&format!("/{part}")).status, 200);
    }
}

#[test]
fn texts_become_tokens_and_come_back() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let post = |path: &str, body: Value| server.post(path, &body).ok();
    let text = "The fox 🦊 — <|endoftext|>!";
    let body = json!({ "prompt": text, "add_special_tokens": false });
    let found = post("/tokenize", body);
    assert_eq!(keys(&found), ["count", "max_model_len", "tokens", "token_strs"]);
    let tokens = found["tokens"].as_array().unwrap();
    assert!(tokens.contains(&json!(0)), "clients find the id of a control token so: {found}");
    assert_eq!(post("/detokenize", json!({ "tokens": tokens }))["prompt"], text);
    let with = post("/tokenize", json!({ "prompt": "a", "return_token_strs": true }));
    assert_eq!(with["token_strs"], json!(["<|endoftext|>", "a"]));
    let info = server.get("/tokenizer_info").ok();
    assert_eq!(info["eos_token"], "<|endoftext|>");
    assert_eq!((&info["bos_token"], &info["chat_template"]), (&info["eos_token"], &Value::Null));
    let refused = server.post("/detokenize", &json!({ "tokens": [99999] }));
    assert!(refused.error(400).contains("`tokens`: found [99999], expected a list of tokens"));
    let refused = server.post("/tokenize", &json!({}));
    assert!(refused.error(400).contains("expected either `prompt`"));
}

#[test]
fn what_happens_is_counted_and_logged_without_the_prompt() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let secret = "The secret hare";
    let body = json!({ "prompt": secret, "model": "run@S", "max_tokens": 3, "draft": null });
    server.post("/v1/completions", &body).ok();
    server.post("/v1/completions", &json!({ "prompt": secret, "stop": 5 })).error(400);
    server.get("/not/there");
    let counted = server.get("/metrics");
    assert!(counted.header("content-type").starts_with("text/plain"));
    for line in [
        "matformer_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 1",
        "matformer_requests_total{endpoint=\"/v1/completions\",status=\"400\"} 1",
        "matformer_requests_total{endpoint=\"other\",status=\"404\"} 1",
        "matformer_answers_total{size=\"S\",outcome=\"whole\"} 1",
        "matformer_new_tokens_total{size=\"S\"} 3",
        "matformer_first_token_seconds_count 1",
        "matformer_requests_active 0",
    ] {
        assert!(counted.body.lines().any(|found| found == line), "{line}: {}", counted.body);
    }
    let log = server.end();
    assert!(log.contains("completion at S: "), "{log}");
    assert!(log.contains("POST /v1/completions 400"), "{log}");
    assert!(!log.contains("secret") && !log.contains("not/there"), "{log}");
}

#[test]
fn keys_are_asked_for() {
    let place = Place::trained();
    place.write("keys", "first\n\n second \n");
    let server = Served::start(&place, &["--api-key-file", "keys"]);
    let body = json!({ "prompt": PROMPT, "max_tokens": 1 });
    let ask = |key: Option<&str>| {
        let header = key.map(|key| format!("Authorization: {key}\r\n")).unwrap_or_default();
        server.send("POST", "/v1/completions", &header, body.to_string().as_bytes())
    };
    for wrong in [None, Some("Bearer firs"), Some("first"), Some("Bearer "), Some("Basic first")] {
        let refused = ask(wrong);
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        assert!(refused.error(401).contains("expected one of the server's API keys"));
    }
    ask(Some("Bearer first")).ok();
    ask(Some("Bearer second")).ok();
    for path in ["/v1/models", "/metrics", "/tokenizer_info"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    for path in ["/health", "/", "/page.js"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    place.write("none", "\n");
    let said = place.refused(&["serve", "run", "--api-key-file", "none"]);
    assert!(said.contains("none: has no keys"), "{said}");
}

#[test]
fn what_cannot_be_served_is_said() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let port = server.address.port().to_string();
    let said = place.refused(&["serve", "run", "--port", &port]);
    assert!(said.contains("cannot listen at 127.0.0.1:") && said.contains("in use"), "{said}");
    let said = place.refused(&["serve", "text"]);
    assert!(said.contains("matformer.json"), "{said}");
    let said = place.refused(&["serve", "run", "--submodel", "HUGE", "--port", "0"]);
    assert!(said.contains("HUGE"), "{said}");
}
