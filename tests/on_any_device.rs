//! What holds on whichever device `MATFORMER_DEVICE` names to the tests (default: `flex`).

use std::process::Command;

use serde_json::Value;

use crate::support::{Output, Place};

/// The binary in here, on the device of the tests.
fn on_device(place: &Place, arguments: &[&str]) -> Output {
    let device = std::env::var("MATFORMER_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    let mut command: Command = place.command(arguments);
    command.env("MATFORMER_DEVICE", device);
    Output::of(command.output().unwrap()).ok()
}

fn logprobs(json: &Value) -> Vec<f64> {
    json["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

#[test]
fn trains_describes_scores_and_slices() {
    let place = Place::new();
    on_device(&place, &["train", "run.toml", "--out", "run"]);
    let losses: Vec<f64> = place
        .read_lines("run/metrics.jsonl")
        .iter()
        .filter_map(|line| line["held_out"]["XL"].as_f64())
        .collect();
    assert!(losses[2] < losses[0], "{losses:?}");

    let info = on_device(&place, &["info", "run", "--json"]).json();
    assert_eq!(info["granularities"].as_array().map(Vec::len), Some(4), "{info}");

    let text = "The fox finds the old key.\n";
    let score = |submodel| {
        on_device(&place, &["score", "run", "--submodel", submodel, "--text", text, "--json"])
            .json()
    };
    for submodel in ["S", "XL", "32x1+256x1"] {
        let of_text = logprobs(&score(submodel));
        let mean = of_text.iter().sum::<f64>() / of_text.len() as f64;
        assert!(mean < 0.0 && mean > -(300_f64.ln()), "{submodel}: {mean}");
    }
    // A slice is the same numbers in a folder of its own.
    on_device(&place, &["slice", "run", "--submodel", "S", "--out", "slim"]);
    let slice = on_device(&place, &["score", "slim", "--text", text, "--json"]).json();
    for (a, b) in logprobs(&slice).iter().zip(logprobs(&score("S"))) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    // What `auto` picks is there.
    let auto = ["score", "run", "--text", text, "--device", "auto", "--json"];
    assert_eq!(logprobs(&place.matformer(&auto).ok().json()).len(), logprobs(&score("XL")).len());
}
