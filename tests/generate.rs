//! `matformer generate`

use serde_json::Value;

use crate::support::{Place, keys};

const PROMPT: &str = "The fox";

fn generate(place: &Place, more: &[&str]) -> Value {
    let arguments = [&["generate", "run", "--prompt", PROMPT, "--json"], more].concat();
    place.matformer(&arguments).ok().json()
}

#[test]
fn greedy_is_deterministic_and_reads_the_same_as_json() {
    let place = Place::trained();
    let more = ["--max-tokens", "9", "--submodel", "32x1+64x1"];
    let json = generate(&place, &more);
    assert_eq!(keys(&json), ["submodel", "prompt", "text", "tokens", "finish_reason"]);
    assert_eq!((&json["submodel"], &json["prompt"]), (&"32x1+64x1".into(), &PROMPT.into()));
    assert_eq!(json["finish_reason"], "length");
    assert_eq!(json["tokens"].as_array().unwrap().len(), 9);
    assert_eq!(generate(&place, &more), json);
    assert_eq!(
        generate(&place, &[&more[..], &["--temperature", "3", "--top-k", "1"]].concat()),
        json
    );
    let human =
        place.matformer(&[&["generate", "run", "--prompt", PROMPT], &more[..]].concat()).ok();
    assert_eq!(human.stdout, format!("{PROMPT}{}\n", json["text"].as_str().unwrap()));
    assert_eq!(human.stderr, "");
}

#[test]
fn greedy_takes_the_likeliest_token() {
    let place = Place::trained();
    let text = generate(&place, &["--max-tokens", "1"])["text"].as_str().unwrap().to_owned();
    let last = |text: &str| {
        let json = place.matformer(&["score", "run", "--json", "--text", text]).ok().json();
        json["logprobs"].as_array().unwrap().last().unwrap().as_f64().unwrap()
    };
    let best = last(&format!("{PROMPT}{text}"));
    for other in ["!", "7", "\n", " the", "Q"] {
        assert!(best >= last(&format!("{PROMPT}{other}")), "{text:?} {other:?}");
    }
}

#[test]
fn samples_follow_their_seed() {
    let place = Place::trained();
    let sample = |seed: &str| {
        generate(&place, &["--temperature", "1", "--max-tokens", "20", "--seed", seed])["tokens"]
            .clone()
    };
    assert_eq!(sample("3"), sample("3"));
    assert_ne!(sample("3"), sample("4"));
}

#[test]
fn the_context_bounds_the_length() {
    let place = Place::trained();
    let score = place.matformer(&["score", "run", "--json", "--text", PROMPT]).ok().json();
    let json = generate(&place, &["--max-tokens", "500"]);
    let count = |json: &Value| json["tokens"].as_array().unwrap().len();
    assert_eq!(count(&score) + count(&json), 32);
    assert_eq!(generate(&place, &["--max-tokens", "0"])["text"], "");
    let said =
        place.matformer(&["generate", "run", "--prompt", PROMPT, "--max-tokens", "500"]).ok();
    let note =
        format!("note: {} of 500 tokens: the context, which holds 32, is full\n", count(&json));
    assert_eq!(said.stderr, note);
}

#[test]
fn a_prompt_may_be_empty() {
    let place = Place::trained();
    let arguments = ["generate", "run", "--prompt", "", "--max-tokens", "3", "--json"];
    let json = place.matformer(&arguments).ok().json();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 3);
}

#[test]
fn drafts_do_not_change_the_text_and_packed_weights_hardly_do() {
    let place = Place::trained();
    let plain = generate(&place, &["--max-tokens", "20"]);
    for more in [&["--draft", "S"][..], &["--draft", "S", "--draft-len", "3"]] {
        let json = generate(&place, &[&["--max-tokens", "20"], more].concat());
        assert_eq!((&json["text"], &json["tokens"]), (&plain["text"], &plain["tokens"]));
        let drafted = &json["drafted"];
        assert_eq!(keys(drafted), ["proposed", "kept", "kept_at_once"]);
        assert!(drafted["kept"].as_u64() <= drafted["proposed"].as_u64(), "{drafted}");
    }
    assert_eq!(plain.get("drafted"), None);
    for dtype in ["bf16", "q8_0"] {
        let json = generate(&place, &["--max-tokens", "5", "--dtype", dtype]);
        assert_eq!(json["tokens"].as_array().unwrap().len(), 5);
    }
}

#[test]
fn what_cannot_draft_is_refused() {
    let place = Place::trained();
    let refused = |more: &[&str]| {
        place.refused(&[&["generate", "run", "--prompt", PROMPT][..], more].concat())
    };
    let wide = refused(&["--submodel", "S", "--draft", "XL"]);
    assert!(wide.contains("`draft`: found width"), "{wide}");
    let alone = refused(&["--draft-len", "3"]);
    assert!(alone.contains("--draft <SUBMODEL>"), "{alone}");
    let format = refused(&["--dtype", "q4_0"]);
    assert!(format.contains("expected f32, bf16 or q8_0"), "{format}");
}
