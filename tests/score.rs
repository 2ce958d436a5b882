//! `matformer score`

use serde_json::Value;

use crate::support::{Output, Place, keys};

fn score(place: &Place, submodel: &str, text: &str) -> (Vec<u64>, Vec<Option<f64>>) {
    let arguments = ["score", "run", "--submodel", submodel, "--text", text, "--json"];
    let json = place.matformer(&arguments).ok().json();
    assert_eq!(keys(&json), ["submodel", "tokens", "logprobs"]);
    assert_eq!(json["submodel"], submodel);
    let list = |key: &str| json[key].as_array().unwrap().clone();
    (
        list("tokens").iter().map(|t| t.as_u64().unwrap()).collect(),
        list("logprobs").iter().map(Value::as_f64).collect(),
    )
}

#[test]
fn every_token_but_the_first_has_a_probability() {
    let place = Place::trained();
    for submodel in ["S", "XL", "32x1+256x1"] {
        let (tokens, logprobs) = score(&place, submodel, "The fox finds the old key.\n");
        assert_eq!(tokens.len(), logprobs.len());
        assert!(tokens.iter().all(|t| *t < 300));
        assert_eq!(logprobs[0], None);
        let rest: Vec<f64> = logprobs[1..].iter().map(|l| l.unwrap()).collect();
        assert!(rest.iter().all(|l| (0.0..1.0).contains(&l.exp())), "{rest:?}");
        // It has learnt something: better than an even guess among 300.
        let mean = rest.iter().sum::<f64>() / rest.len() as f64;
        assert!(mean > -(300_f64.ln()), "{submodel}: {mean}");
    }
}

#[test]
fn a_text_is_read_from_standard_input() {
    use std::{io::Write, process::Stdio};
    let place = Place::trained();
    let mut command = place.command(&["score", "run", "--submodel", "S", "--json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"The fox\n").unwrap();
    let piped = Output::of(child.wait_with_output().unwrap()).ok().json();
    let typed = ["score", "run", "--submodel", "S", "--json", "--text", "The fox"];
    assert_eq!(piped, place.matformer(&typed).ok().json());
}

#[test]
fn a_text_may_be_longer_than_the_context() {
    let place = Place::trained();
    let (short, long) = ("The bear counts two coats. The crow", "The bear counts two coats. The ");
    let long = long.to_owned() + &"crow hides a bell behind the wall. The owl ".repeat(8);
    let (first, of_first) = score(&place, "M", short);
    let (all, of_all) = score(&place, "M", &long);
    assert!(first.len() < 33 && all.len() > 3 * 32, "{} {}", first.len(), all.len());
    assert!(of_all[1..].iter().all(|l| l.is_some_and(|l| l < 0.0 && l.is_finite())));
    // What follows a token does not change its probability.
    let shared = first.iter().zip(&all).take_while(|(a, b)| a == b).count();
    assert!(shared > 10, "{first:?} {all:?}");
    for (a, b) in of_first[1..shared].iter().zip(&of_all[1..shared]) {
        assert!((a.unwrap() - b.unwrap()).abs() < 1e-4, "{a:?} {b:?}");
    }
}

#[test]
fn people_get_a_line_per_token() {
    let place = Place::trained();
    let arguments = ["score", "run", "--submodel", "60%", "--text", "The fox"];
    measured_snapshot!(place.matformer(&arguments), @r#"
    exit code 0
    --- standard output
       logprob  token
             -  "<|endoftext|>"
       [number]  "The"
       [number]  " f"
       [number]  "o"
       [number]  "x"
    L: 4 tokens, [number] nats
    [number] nats per token, [number] bits per byte
    "#);
}

#[test]
fn any_text_has_a_score() {
    let place = Place::trained();
    snapshot!(place.matformer(&["score", "run", "--text", ""]), @r#"
    exit code 0
    --- standard output
       logprob  token
             -  "<|endoftext|>"
    XL: 0 tokens, 0.000 nats
    "#);
    let (tokens, _) = score(&place, "S", "naïve 数\u{1f98a}\r\n\t-");
    assert!(tokens.len() > 10, "bytes that no merge covers: {tokens:?}");
    let (tokens, _) = score(&place, "S", "--text");
    assert!(tokens.len() > 2);
}
