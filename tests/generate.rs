//! `matformer generate`

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Output, Place, keys};

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
        assert_eq!(keys(drafted), ["proposed", "kept", "rejected", "kept_at_once"]);
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
    assert!(alone.contains("--draft <SUBMODEL|auto>"), "{alone}");
    let format = refused(&["--dtype", "q4_0"]);
    assert!(format.contains("expected f32, bf16 or q8_0"), "{format}");
}

/// The command with a text on standard input.
fn piped(place: &Place, arguments: &[&str], text: &str) -> Output {
    let mut command = place.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Output::of(child.wait_with_output().unwrap())
}

#[test]
fn a_prompt_may_come_from_standard_input() {
    let place = Place::trained();
    let plain = generate(&place, &["--max-tokens", "6"]);
    let arguments = ["generate", "run", "--max-tokens", "6", "--json"];
    assert_eq!(piped(&place, &arguments, "The fox\n").ok().json(), plain);
}

#[test]
fn stop_strings_end_the_text() {
    let place = Place::trained();
    let plain = generate(&place, &["--max-tokens", "20"]);
    let text = plain["text"].as_str().unwrap();
    let (at, _) = text.char_indices().nth(5).unwrap();
    let stop = &text[at..at + 3];
    let cut = text.find(stop).unwrap();
    let json = generate(&place, &["--max-tokens", "20", "--stop", "@@", "--stop", stop]);
    assert_eq!((&json["text"], &json["finish_reason"]), (&text[..cut].into(), &"stop".into()));
    let human = ["generate", "run", "--prompt", PROMPT, "--max-tokens", "20", "--stop", stop];
    assert_eq!(place.matformer(&human).ok().stdout, format!("{PROMPT}{}\n", &text[..cut]));
}

#[test]
fn log_probabilities_are_those_that_score_gives() {
    let place = Place::trained();
    let json = generate(&place, &["--dtype", "f32", "--max-tokens", "4", "--logprobs", "2"]);
    let found: Vec<&Value> = json["logprobs"].as_array().unwrap().iter().collect();
    assert_eq!(found.len(), 4);
    for (each, token) in found.iter().zip(json["tokens"].as_array().unwrap()) {
        assert_eq!(each["top"][0][0], *token, "greedy: the most likely one is chosen");
        assert_eq!(each["top"].as_array().unwrap().len(), 2);
    }
    let text = format!("{PROMPT}{}", json["text"].as_str().unwrap());
    let score = place.matformer(&["score", "run", "--json", "--text", &text]).ok().json();
    let scored = score["logprobs"].as_array().unwrap();
    for (ours, theirs) in found.iter().zip(&scored[scored.len() - 4..]) {
        let off = ours["chosen"].as_f64().unwrap() - theirs.as_f64().unwrap();
        assert!(off.abs() < 1e-4, "{off}");
    }
}

#[test]
fn policies_and_drafts_of_any_size() {
    let place = Place::trained();
    let with = |more: &[&str]| {
        let json = generate(&place, &[&["--max-tokens", "12", "--logprobs", "0"], more].concat());
        (json["tokens"].clone(), json["logprobs"].clone())
    };
    let (s, xl) = (with(&["--submodel", "S"]), with(&[]));
    assert_ne!(s.1, xl.1, "sizes are of different minds");
    assert_eq!(with(&["--draft", "auto"]).0, xl.0);
    assert_eq!(with(&["--draft", "auto", "--draft-min-p", "0.3", "--draft-len", "2"]).0, xl.0);
    assert_eq!(with(&["--submodel", "S", "--policy", "escalate=XL,1000"]), s);
    assert_ne!(with(&["--submodel", "S", "--policy", "escalate=XL,0"]).1, s.1);
    assert_eq!(with(&["--policy", "phases=XL"]), xl);
    assert_ne!(with(&["--policy", "phases=S"]).1, xl.1);
    let refused = |more: &[&str]| {
        place.refused(&[&["generate", "run", "--prompt", PROMPT][..], more].concat())
    };
    let snapshots = [
        (&["--policy", "widen"][..], "expected `fixed`, `escalate=SUBMODEL[,NATS]` or"),
        (&["--policy", "escalate=XL,much"], "expected a number of nats behind the comma"),
        (&["--policy", "phases=HUGE"], "HUGE"),
        (&["--submodel", "S", "--draft", "auto"], "no trained size is narrower than `S`"),
        (&["--submodel", "XL", "--policy", "escalate=S"], "`policy`: found width"),
        (&["--submodel", "S", "--policy", "escalate=XL", "--draft", "S"], "`draft` and a policy"),
        (&["--draft-min-p", "1", "--draft", "S"], "from 0 to below 1"),
        (&["--logit-bias", "5"], "expected a token id and a number"),
        (&["--logit-bias", "99999=1"], "`logit_bias` is 99999"),
        (&["--prompts", "a.jsonl"], "cannot be used with"),
    ];
    for (more, expected) in snapshots {
        let said = refused(more);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}

fn without_logprobs(answers: &[Value]) -> Vec<Value> {
    let mut answers = answers.to_vec();
    for answer in &mut answers {
        answer.as_object_mut().unwrap().remove("logprobs");
    }
    answers
}

/// The log-probability of each token of the answers that have any.
fn logprobs(answers: &[Value]) -> impl Iterator<Item = f64> {
    let tokens = answers.iter().filter_map(|answer| answer["logprobs"].as_array()).flatten();
    tokens.map(|token| token["chosen"].as_f64().unwrap())
}

#[test]
fn many_prompts_are_answered_in_order() {
    let place = Place::trained();
    let rows = [
        json!({ "prompt": PROMPT }),
        json!({ "prompt": "The stag", "max_tokens": 3, "submodel": "S" }),
        json!({ "prompt": "The hare", "temperature": 1, "seed": 5, "stop": ["e", "a"], "logprobs": 0 }),
        json!({ "prompt": "", "max_tokens": 1, "stop": "q", "logit_bias": { "7": 100 } }),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n\n")).collect();
    place.write("prompts.jsonl", &lines);
    // A product of few rows sums up in another order than that of one, which shows in rounded formats, and in the last
    // digit of log-probabilities.
    let common = ["--dtype", "f32", "--max-tokens", "9", "--draft", "S", "--draft-len", "2"];
    let many = |slots: &str| -> Vec<Value> {
        let arguments =
            [&["generate", "run", "--prompts", "prompts.jsonl", "--slots", slots], &common[..]];
        let printed = place.matformer(&arguments.concat()).ok().stdout;
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let [found, one_by_one] = ["3", "1"].map(many);
    assert_eq!(without_logprobs(&found), without_logprobs(&one_by_one));
    let of = [&found, &one_by_one].map(|answers| logprobs(answers).collect::<Vec<f64>>());
    assert_eq!(of.each_ref().map(Vec::len), [4, 4]);
    for (found, expected) in of[0].iter().zip(&of[1]) {
        assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
    }
    assert_eq!(found.len(), 4);
    assert_eq!(found[0], generate(&place, &common));
    let alone = ["--max-tokens", "3", "--submodel", "S", "--draft", "S", "--draft-len", "2"];
    let arguments = [&["generate", "run", "--prompt", "The stag", "--json"], &alone[..]].concat();
    assert_eq!(found[1], place.matformer(&arguments).ok().json());
    assert_eq!(
        found[2]["logprobs"].as_array().unwrap().len(),
        found[2]["tokens"].as_array().unwrap().len()
    );
    assert!(!found[2]["text"].as_str().unwrap().contains(['e', 'a']), "{}", found[2]["text"]);
    assert_eq!(found[3]["tokens"], json!([7]));
    let arguments = ["generate", "run", "--prompts", "-", "--max-tokens", "2"];
    assert_eq!(piped(&place, &arguments, &lines).ok().stdout.lines().count(), 4);
}

#[test]
fn rows_that_ask_for_what_there_is_not_are_named() {
    let place = Place::trained();
    let refused = |rows: &str| {
        place.write("prompts.jsonl", rows);
        place.refused(&["generate", "run", "--prompts", "prompts.jsonl"])
    };
    let first = "{\"prompt\": \"a\"}\n";
    for (row, expected) in [
        ("{\"prompt\": \"a\", \"tokens\": 3}", "prompts.jsonl, line 2: unknown field `tokens`"),
        ("{\"text\": \"a\"}", "prompts.jsonl, line 2: unknown field `text`"),
        ("{\"max_tokens\": 3}", "prompts.jsonl, line 2: missing field `prompt`"),
        ("a line of text", "prompts.jsonl, line 2: expected value"),
        ("{\"prompt\": \"a\", \"submodel\": \"HUGE\"}", "prompts.jsonl, line 2: "),
        (
            "{\"prompt\": \"a\", \"top_p\": 2}",
            "prompts.jsonl, line 2: `top_p` is 2, expected above 0",
        ),
        ("{\"prompt\": \"a\", \"submodel\": \"5%\"}", "prompts.jsonl, line 2: "),
    ] {
        let said = refused(&format!("{first}{row}\n"));
        assert!(said.contains(expected), "{row}: {said}");
    }
    let long = format!("{{\"prompt\": \"{}\"}}", "The hare counts dry leaves at home. ".repeat(4));
    let said = refused(&format!("{first}{long}\n"));
    assert!(said.contains("prompts.jsonl, line 2: ") && said.contains("80 tokens"), "{said}");
    assert!(refused("\n").contains("no rows"));
    let said = place.refused(&["generate", "run", "--prompts", "none.jsonl"]);
    assert!(said.contains("none.jsonl"), "{said}");
}

#[test]
fn log_probabilities_need_a_place() {
    let place = Place::trained();
    let asked = ["generate", "run", "--prompt", "The", "--logprobs", "1"];
    snapshot!(place.refused(&asked), @"
    error: --logprobs: text has no room for them
    hint: add --json, or give prompts as --prompts FILE
    ");
}
