//! What is answered: the same as `generate`, whole or in pieces, at any size.

use serde_json::{Value, json};

use super::{PROMPT, client::Served};
use crate::support::{Place, keys};

fn completion(server: &Served, more: Value) -> Value {
    let mut body = json!({ "model": "run", "prompt": PROMPT, "max_tokens": 12, "temperature": 0 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let whole = server.post("/v1/completions", &body).ok();
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let mut events = server.post("/v1/completions", &body).events();
    // The last event is of what was used.
    let last = events.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    // How many drafted tokens there were depends on times.
    for tokens in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][tokens], whole["usage"][tokens], "{tokens}");
    }
    let choices = whole["choices"].as_array().unwrap();
    for choice in choices {
        let of_choice = |event: &&Value| event["choices"][0]["index"] == choice["index"];
        let pieces: Vec<&Value> = events.iter().filter(of_choice).collect();
        let text: String =
            pieces.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(choice["text"], text, "in pieces: {body}");
        let reason = &pieces.last().unwrap()["choices"][0]["finish_reason"];
        assert_eq!(choice["finish_reason"], *reason, "{body}");
    }
    for event in &events {
        assert_eq!((&event["model"], &event["usage"]), (&whole["model"], &Value::Null));
    }
    whole
}

/// What `generate` prints with the same options.
fn generated(place: &Place, more: &[&str]) -> Value {
    let arguments =
        ["generate", "run", "--prompt", PROMPT, "--json", "--dtype", "f32", "--max-tokens", "12"];
    place.matformer(&[&arguments, more].concat()).ok().json()
}

#[test]
fn answers_are_those_of_generate() {
    let place = Place::trained();
    let server = Served::start(&place, &["--slots", "3"]);
    for (asked, options, size) in [
        (json!({}), &[][..], "XL"),
        (json!({ "model": "run@S" }), &["--submodel", "S"], "S"),
        (json!({ "model": "run@32x1,64x1" }), &["--submodel", "32x1+64x1"], "32x1+64x1"),
        (json!({ "model": "run@64" }), &["--submodel", "64"], "M"),
        (json!({ "draft": "S" }), &["--draft", "S"], "XL"),
        (
            json!({ "draft": { "size": "auto", "len": 2, "min_p": 0.1 } }),
            &["--draft", "auto"],
            "XL",
        ),
        (
            json!({ "temperature": 1, "seed": 5, "top_p": 0.9 }),
            &["--temperature", "1", "--seed", "5", "--top-p", "0.9"],
            "XL",
        ),
        (
            json!({ "temperature": 1.5, "seed": 7, "top_k": 40, "min_p": 0.01 }),
            &["--temperature", "1.5", "--seed", "7", "--top-k", "40", "--min-p", "0.01"],
            "XL",
        ),
        (
            json!({ "frequency_penalty": 1.5, "presence_penalty": 0.5, "repetition_penalty": 1.2 }),
            &[
                "--frequency-penalty",
                "1.5",
                "--presence-penalty",
                "0.5",
                "--repetition-penalty",
                "1.2",
            ],
            "XL",
        ),
        (json!({ "logit_bias": { "40": 5 } }), &["--logit-bias", "40=5"], "XL"),
        (json!({ "stop": ["e", "o"] }), &["--stop", "e", "--stop", "o"], "XL"),
        (
            json!({ "model": "run@S", "policy": "escalate=XL,0.5" }),
            &["--submodel", "S", "--policy", "escalate=XL,0.5"],
            "S",
        ),
        (json!({ "policy": "phases=S" }), &["--policy", "phases=S"], "XL"),
    ] {
        let found = completion(&server, asked.clone());
        let expected = generated(&place, options);
        let choice = &found["choices"][0];
        assert_eq!(choice["text"], expected["text"], "{asked}");
        assert_eq!(choice["finish_reason"], expected["finish_reason"], "{asked}");
        assert_eq!(found["model"], format!("run@{size}"), "{asked}");
    }
    let full = completion(&server, json!({ "max_tokens": 32 }));
    assert_eq!(full["usage"]["total_tokens"], 32, "the context is full");
    assert_eq!(full["choices"][0]["finish_reason"], "length");
    let percent = completion(&server, json!({ "model": "run@60%" }));
    let expected = generated(&place, &["--submodel", "60%"]);
    assert_eq!(percent["choices"][0]["text"], expected["text"]);
    assert_eq!(percent["model"], format!("run@{}", expected["submodel"].as_str().unwrap()));
}

#[test]
fn an_answer_has_openais_form() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let found = completion(&server, json!({ "max_tokens": 3, "user": "me", "logit_bias": null }));
    let expected = ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"];
    assert_eq!(keys(&found), expected);
    assert_eq!(found["object"], "text_completion");
    let choice = &found["choices"][0];
    assert_eq!(keys(choice), ["index", "text", "logprobs", "finish_reason"]);
    let prompt = found["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(found["usage"]["completion_tokens"], 3);
    assert_eq!(found["usage"]["total_tokens"], prompt + 3);
    let drafted = completion(&server, json!({ "draft": { "size": "S", "len": 3 } }));
    let details = &drafted["usage"]["completion_tokens_details"];
    assert!(details["accepted_prediction_tokens"].is_u64(), "{drafted}");
    // Several prompts, several answers to each, and what is left out.
    let many = json!({ "prompt": ["The fox", "The owl", ""], "n": 2, "temperature": 1, "seed": 3 });
    let found = completion(&server, many);
    let indices: Vec<_> =
        found["choices"].as_array().unwrap().iter().map(|c| &c["index"]).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    let own = completion(&server, json!({ "prompt": "The owl", "temperature": 1, "seed": 4 }));
    assert_eq!(own["choices"][0]["text"], found["choices"][3]["text"], "seeds count up");
    let tokens = completion(&server, json!({ "prompt": [0, 54, 74] }));
    let lists = completion(&server, json!({ "prompt": [[0, 54, 74], [0]] }));
    assert_eq!(tokens["choices"][0]["text"], lists["choices"][0]["text"]);
    // Without a seed each request has its own.
    let body = json!({ "prompt": PROMPT, "max_tokens": 12 });
    let sampled = || server.post("/v1/completions", &body).ok()["choices"][0]["text"].clone();
    assert_ne!(sampled(), sampled());
}

#[test]
fn conversations_are_laid_out_by_the_template() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let messages = json!([{ "role": "user", "content": "fox" }]);
    let refused = server.post("/v1/chat/completions", &json!({ "messages": messages }));
    assert!(refused.error(400).contains("the model has no chat template"), "{refused:?}");
    drop(server);
    let template =
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    place.write("run/chat_template.jinja", template);
    let server = Served::start(&place, &[]);
    let parts = json!([{ "type": "text", "text": "f" }, { "type": "text", "text": "ox" }]);
    let body = json!({
        "model": "run@M", "temperature": 0, "max_completion_tokens": 6, "logprobs": true, "top_logprobs": 2,
        "messages": [{ "role": "user", "content": parts, "name": null }],
    });
    let found = server.post("/v1/chat/completions", &body).ok();
    assert_eq!(found["object"], "chat.completion");
    let message = &found["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    let plain =
        json!({ "model": "run@M", "prompt": "user: fox\n", "max_tokens": 6, "temperature": 0 });
    let plain = server.post("/v1/completions", &plain).ok();
    assert_eq!(message["content"], plain["choices"][0]["text"]);
    assert_eq!(found["usage"], plain["usage"]);
    let scores = found["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(scores.len(), 6);
    assert_eq!(keys(&scores[0]), ["token", "logprob", "bytes", "top_logprobs"]);
    assert_eq!(scores[0]["top_logprobs"].as_array().unwrap().len(), 2);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &streamed).events();
    let deltas: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
    assert_eq!(*deltas[0], json!({ "role": "assistant", "content": "" }));
    let text: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(message["content"], text);
    let tokens = server.post("/tokenize", &json!({ "messages": messages })).ok();
    assert_eq!(tokens["count"], found["usage"]["prompt_tokens"]);
    assert_eq!(server.get("/tokenizer_info").ok()["chat_template"], template);
    place.write("run/chat_template.jinja", "{% if %}");
    let said = place.refused(&["serve", "run", "--port", "0"]);
    assert!(said.contains("chat_template.jinja"), "{said}");
}
