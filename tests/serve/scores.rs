//! Log-probabilities, as evaluation harnesses read them.

use serde_json::{Value, json};

use super::client::Served;
use crate::support::{Place, keys};

/// What lm-evaluation-harness asks of a list of texts in tokens.
fn scored(server: &Served, prompts: &Value, more: Value) -> Vec<Value> {
    let mut body = json!({
        "model": "run", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/completions", &body).ok()["choices"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

#[test]
fn echoed_prompts_have_the_log_probabilities_of_score() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let text = "The fox finds the old key";
    let with_begin = json!({ "prompt": text });
    let tokens = server.post("/tokenize", &with_begin).ok()["tokens"].clone();
    let short: Vec<Value> = tokens.as_array().unwrap()[..4].to_vec();
    let choices = scored(&server, &json!([tokens, short, [0]]), json!({}));
    let n = tokens.as_array().unwrap().len();
    for (choice, len) in choices.iter().zip([n, 4, 1]) {
        let logprobs = &choice["logprobs"];
        assert_eq!(keys(logprobs), ["tokens", "token_logprobs", "top_logprobs", "text_offset"]);
        for key in keys(logprobs) {
            assert_eq!(logprobs[key].as_array().unwrap().len(), len + 1, "{key}: {choice}");
        }
        assert_eq!(logprobs["token_logprobs"][0], Value::Null);
        // The new token is the most likely one: its number is that of the best, to the last bit.
        let best = logprobs["top_logprobs"][len].as_object().unwrap();
        assert_eq!(best.values().collect::<Vec<_>>(), [&logprobs["token_logprobs"][len]]);
    }
    let found = numbers(&choices[0]["logprobs"]["token_logprobs"]);
    let score = place.matformer(&["score", "run", "--json", "--text", text]).ok().json();
    let expected = numbers(&score["logprobs"]);
    assert_eq!((expected.len(), expected[0]), (n, None));
    for (found, expected) in found[1..n].iter().zip(&expected[1..]) {
        assert!((found.unwrap() - expected.unwrap()).abs() < 1e-4, "{found:?} {expected:?}");
    }
    assert_eq!(numbers(&choices[1]["logprobs"]["token_logprobs"])[..4], found[..4]);
    // Greedy where the token is the best of its place.
    let top = choices[0]["logprobs"]["top_logprobs"].as_array().unwrap();
    for (top, found) in top[1..n].iter().zip(&found[1..]) {
        let best = numbers(&top.as_object().unwrap().values().cloned().collect());
        let best = best.into_iter().flatten().fold(f64::NEG_INFINITY, f64::max);
        assert!(best >= found.unwrap());
    }
    let narrow = scored(&server, &json!([tokens]), json!({ "model": "run@S" }));
    assert_ne!(narrow[0]["logprobs"], choices[0]["logprobs"], "sizes are of different minds");
}

#[test]
fn a_long_prompt_has_an_entry_for_each_token() {
    let place = super::long();
    let server = Served::start(&place, &[]);
    // The engine takes it in several parts.
    let tokens: Vec<usize> = (0..300).map(|i| i * 7 % 256).collect();
    let choices = scored(&server, &json!([tokens, tokens[..150]]), json!({}));
    let [whole, begin] = [&choices[0], &choices[1]].map(|choice| &choice["logprobs"]);
    for key in keys(whole) {
        assert_eq!(whole[key].as_array().unwrap().len(), 301, "{key}");
    }
    let numbers = [whole, begin].map(|logprobs| numbers(&logprobs["token_logprobs"]));
    for (whole, begin) in numbers[0][1..150].iter().zip(&numbers[1][1..]) {
        assert!((whole.unwrap() - begin.unwrap()).abs() < 1e-4, "{whole:?} {begin:?}");
    }
}

#[test]
fn a_new_token_that_ends_the_text_is_counted() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let end = json!({ "logit_bias": { "0": 100 } });
    let choice = scored(&server, &json!([[0, 54, 74]]), end.clone()).remove(0);
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["logprobs"]["token_logprobs"].as_array().unwrap().len(), 4);
    assert!(!choice["text"].as_str().unwrap().contains("endoftext"), "{choice}");
    // Without new tokens, the prompt alone.
    let choice = scored(&server, &json!([[0, 54, 74]]), json!({ "max_tokens": 0 })).remove(0);
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 3);
    // Where nothing is echoed, it is no part of the answer.
    let choice =
        scored(&server, &json!("The"), json!({ "echo": false, "logit_bias": { "0": 100 } }));
    assert_eq!(choice[0]["logprobs"]["tokens"], json!([]));
}

#[test]
fn an_echo_is_the_text_in_front_of_the_answer() {
    let place = Place::trained();
    let server = Served::start(&place, &[]);
    let prompt = "größer 🦊";
    let ask = |echo: bool, stream: bool| {
        let body = json!({
            "prompt": prompt, "max_tokens": 5, "temperature": 0, "echo": echo, "stream": stream, "logprobs": 0,
        });
        server.post("/v1/completions", &body)
    };
    let plain = ask(false, false).ok()["choices"][0].clone();
    let echo = ask(true, false).ok()["choices"][0].clone();
    let text = echo["text"].as_str().unwrap();
    assert_eq!(text, format!("{prompt}{}", plain["text"].as_str().unwrap()));
    let offsets = echo["logprobs"]["text_offset"].as_array().unwrap();
    let of_answer = &offsets[offsets.len() - 5];
    assert_eq!(of_answer.as_u64().unwrap() as usize, prompt.chars().count());
    assert_eq!(plain["logprobs"]["text_offset"][0], 0);
    assert_eq!(plain["logprobs"]["token_logprobs"].as_array().unwrap().len(), 5);
    let events = ask(true, true).events();
    let part = |event: &Value, key: &str| event["choices"][0]["logprobs"][key].as_array().cloned();
    for key in ["tokens", "token_logprobs", "text_offset"] {
        let streamed: Vec<Value> = events.iter().filter_map(|e| part(e, key)).flatten().collect();
        assert_eq!(json!(streamed), echo["logprobs"][key], "{key}");
    }
    assert_eq!(events[0]["choices"][0]["text"], prompt);
}
