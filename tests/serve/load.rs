//! Many at the same time, too many, clients that go away, and a server that is asked to stop.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{PROMPT, client::Served, long};
use crate::support::Place;

/// An answer that takes a while.
fn lengthy(tokens: usize) -> Value {
    // The end of the text is as unlikely as it can be.
    json!({
        "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "stream": true, "logit_bias": { "0": -100 },
    })
}

/// Waits until a line of `/metrics` is there.
fn wait_for(server: &Served, line: &str) {
    let started = Instant::now();
    loop {
        let counted = server.get("/metrics").body;
        if counted.lines().any(|found| found == line) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{line}: {counted}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn mixed_sizes_at_the_same_time_get_what_they_get_alone() {
    let place = Place::trained();
    let server = Served::start(&place, &["--slots", "4"]);
    let sizes = ["S", "M", "L", "XL", "32x1,64x1", "60%"];
    let prompts = ["The fox", "The owl counts", "A bell", ""];
    let ask = |i: usize| {
        let mut body = json!({
            "model": format!("run@{}", sizes[i % sizes.len()]), "prompt": prompts[i % prompts.len()],
            "max_tokens": 3 + i % 12, "temperature": i % 2, "seed": i, "stream": true,
        });
        if i % 5 == 4 && i % sizes.len() == 3 {
            body["draft"] = json!("S");
        }
        body
    };
    let all = 24;
    let alone: Vec<_> =
        (0..all).map(|i| server.stream("/v1/completions", &ask(i)).text()).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= 4 * all {
                        return;
                    }
                    let found = server.stream("/v1/completions", &ask(at % all)).text();
                    assert_eq!(found, alone[at % all], "{}", ask(at % all));
                }
            });
        }
    });
    wait_for(&server, "matformer_requests_active 0");
}

#[test]
fn too_many_are_told_to_come_back() {
    let place = long();
    let server = Served::start(&place, &["--slots", "1", "--queue", "1"]);
    let mut first = server.stream("/v1/completions", &lengthy(4000));
    assert!(first.next().is_some());
    thread::scope(|scope| {
        let second = scope.spawn(|| server.stream("/v1/completions", &lengthy(2)).text());
        wait_for(&server, "matformer_texts_waiting 1");
        let refused = server.post("/v1/completions", &lengthy(1));
        assert!(refused.error(429).contains("1 requests are waiting already"));
        assert_eq!(refused.header("retry-after"), "1");
        // Its client goes away: the slot is free for the one that waits.
        drop(first);
        assert_eq!(second.join().unwrap().1, "length");
    });
    wait_for(&server, "matformer_answers_total{size=\"XL\",outcome=\"dropped by the client\"} 1");
    wait_for(&server, "matformer_texts_running 0");
}

#[test]
fn a_client_that_goes_away_while_it_waits_is_forgotten() {
    let place = long();
    let server = Served::start(&place, &["--slots", "1"]);
    let mut body = lengthy(4000);
    body["stream"] = json!(false);
    let text = body.to_string();
    let mut stream = server.connect();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    wait_for(&server, "matformer_texts_running 1");
    drop(stream);
    wait_for(&server, "matformer_texts_running 0");
}

#[test]
fn an_answer_that_takes_too_long_is_cut() {
    let place = long();
    let server = Served::start(&place, &["--timeout", "0.2"]);
    let mut body = lengthy(4000);
    let mut events = server.stream("/v1/completions", &body);
    let mut last = Value::Null;
    while let Some(event) = events.next() {
        last = event;
    }
    assert_eq!(last["error"]["code"], "timeout", "{last}");
    body["stream"] = json!(false);
    assert!(server.post("/v1/completions", &body).error(504).contains("ask for fewer tokens"));
    wait_for(&server, "matformer_texts_running 0");
}

#[test]
fn sizes_are_narrower_while_others_wait() {
    let place = long();
    let server = Served::start(&place, &["--slots", "1", "--narrow-when-busy"]);
    let model = |body: &Value| server.post("/v1/completions", body).ok()["model"].clone();
    let plain = json!({ "prompt": PROMPT, "max_tokens": 1 });
    assert_eq!(model(&plain), "run@XL");
    let running = server.stream("/v1/completions", &lengthy(4000));
    wait_for(&server, "matformer_texts_running 1");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| model(&plain));
        wait_for(&server, "matformer_texts_waiting 1");
        let next = scope.spawn(|| model(&plain));
        wait_for(&server, "matformer_texts_waiting 2");
        let named =
            scope.spawn(|| model(&json!({ "model": "run@XL", "prompt": PROMPT, "max_tokens": 1 })));
        wait_for(&server, "matformer_texts_waiting 3");
        drop(running);
        assert_eq!(waiting.join().unwrap(), "run@XL", "nobody waited before it");
        assert_eq!(next.join().unwrap(), "run@L");
        assert_eq!(named.join().unwrap(), "run@XL", "what is named is what answers");
    });
}

#[cfg(unix)]
#[test]
fn streams_end_whole_when_the_server_is_stopped() {
    let place = long();
    let before = place.tree();
    let mut server = Served::start(&place, &["--slots", "4", "--grace", "60"]);
    let tokens = 400;
    let alone = server.stream("/v1/completions", &lengthy(tokens)).text();
    assert_eq!(alone.1, "length");
    let mut streams: Vec<_> =
        (0..6).map(|_| server.stream("/v1/completions", &lengthy(tokens))).collect();
    let first = streams[0].next().unwrap();
    server.signal("-TERM");
    // A new request is refused as soon as the signal has arrived.
    let started = Instant::now();
    loop {
        let mut body = lengthy(1);
        body["stream"] = json!(false);
        let answer = server.post("/v1/completions", &body);
        if answer.status == 503 {
            assert!(answer.error(503).contains("shutting down"));
            assert!(!answer.header("retry-after").is_empty());
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    let rest = streams[0].text();
    assert_eq!(first["choices"][0]["text"].as_str().unwrap().to_owned() + &rest.0, alone.0);
    for stream in &mut streams[1..] {
        assert_eq!(stream.text(), alone);
    }
    let (code, took) = server.wait();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let said = server.said();
    assert!(said.contains("SIGTERM: new requests are refused"), "{said}");
    assert!(said.contains("stopped: every request had its whole answer"), "{said}");
    assert!(place.tree() == before, "a server writes nothing");
}

#[cfg(unix)]
#[test]
fn the_grace_has_an_end() {
    let place = long();
    let mut server = Served::start(&place, &["--grace", "0.3"]);
    let mut stream = server.stream("/v1/completions", &lengthy(4000));
    assert!(stream.next().is_some());
    server.signal("-INT");
    let mut last = Value::Null;
    while let Some(event) = stream.next() {
        last = event;
    }
    assert_eq!(last["error"]["code"], "shutting_down", "{last}");
    assert_eq!(server.wait().0, Some(0));
    assert!(server.said().contains("longer than --grace"), "it says so");
}

#[cfg(unix)]
#[test]
fn a_killed_server_harms_nothing() {
    let place = Place::trained();
    let before = place.tree();
    let server = Served::start(&place, &[]);
    let body = json!({ "prompt": PROMPT, "max_tokens": 4, "temperature": 0 });
    let text = server.post("/v1/completions", &body).ok()["choices"][0]["text"].clone();
    server.signal("-KILL");
    server.end();
    assert!(place.tree() == before);
    let again = Served::start(&place, &[]);
    assert_eq!(again.post("/v1/completions", &body).ok()["choices"][0]["text"], text);
}
