//! `matformer bench`

use crate::{
    support::{Output, Place, keys},
    vision,
};

const LAYERS: [&str; 7] = ["bench", "layers", "run", "--rounds", "2", "--rows", "2"];

#[test]
fn milliseconds_are_a_budget_once_they_were_measured() {
    let place = Place::trained();
    let json = place.matformer(&[&LAYERS[..], &["--json"]].concat()).ok().json();
    assert_eq!(keys(&json), ["machine", "device", "config", "workloads"]);
    assert_eq!(place.read_json("run/latency.json"), json);
    assert_eq!(keys(&json["workloads"]), ["decode", "forward", "train"]);
    for (name, times) in json["workloads"].as_object().unwrap() {
        assert_eq!(keys(times), ["what", "constant", "widths", "layers", "additivity"]);
        let layers = times["layers"].as_array().unwrap();
        assert_eq!((layers.len(), times["widths"].as_array().unwrap().len()), (2, 4), "{name}");
        let positive = |ms: &serde_json::Value| ms.as_f64().unwrap() > 0.0;
        assert!(layers.iter().all(|row| row.as_array().unwrap().iter().all(positive)), "{name}");
        let additivity = &times["additivity"];
        assert_eq!(keys(additivity), ["submodels", "mean_percent", "worst_percent"]);
        assert!(!additivity["submodels"].as_object().unwrap().is_empty());
    }
    let resolved = |budget: &str| {
        let json = place.matformer(&["eval", "run", "--submodels", budget, "--json"]).ok().json();
        json["results"][0]["submodel"].as_str().unwrap().to_owned()
    };
    assert_eq!((resolved("60000ms"), resolved("1000%ms")), ("XL".into(), "XL".into()));
    let search = ["search", "run", "--budget", "60000ms", "--method", "mix,exact"];
    let shown = place.matformer(&search).ok();
    assert!(shown.stdout.starts_with("within 60000 ms: "), "{shown}");
    // Times of another machine are none of this one.
    let other = place.read("run/latency.json").replace("threads", "threads of another");
    place.write("run/latency.json", other);
    let refused = place.refused(&["eval", "run", "--submodels", "60000ms"]);
    assert!(refused.contains("latency.json: measured for the machine"), "{refused}");
}

#[test]
fn times_are_those_of_as_many_threads() {
    let place = Place::trained();
    let run = |arguments: &[&str], threads: &str| {
        let mut command = place.command(arguments);
        Output::of(command.env("RAYON_NUM_THREADS", threads).output().unwrap())
    };
    let one = run(&[&LAYERS[..], &["--json"]].concat(), "1").ok().json();
    assert!(one["machine"].as_str().unwrap().ends_with(", 1 thread"), "{one}");
    let eval = ["eval", "run", "--submodels", "60000ms"];
    run(&eval, "1").ok();
    let refused = run(&eval, "2");
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains(", 1 thread`, here is `"), "{refused}");
}

#[test]
fn a_size_alone_is_measured_too() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    let layers = ["bench", "layers", "slim", "--rounds", "1", "--rows", "1", "--json"];
    let json = place.matformer(&layers).ok().json();
    assert_eq!(json["workloads"]["decode"]["layers"][0].as_array().unwrap().len(), 1);
}

#[test]
fn layers_of_a_vision_model_are_measured_by_the_image() {
    let (place, _) = vision::trained();
    let shown = place.matformer(&LAYERS).ok().stdout;
    assert!(shown.contains("forward: one image (beside its layers "), "{shown}");
    assert!(shown.contains("train: a step on 2 images"), "{shown}");
    assert!(shown.ends_with("budgets in ms are of `forward` from now on\n"), "{shown}");
}

#[test]
fn generation_is_measured_in_every_format() {
    let place = Place::trained();
    place.write(
        "held.txt",
        "The fox counts dry leaves at home. The stag reads of the hare. ".repeat(20),
    );
    let options = ["bench", "decode", "run", "--tokens", "8", "--rounds", "1", "--batch", "1,3"];
    let more = ["--text", "held.txt", "--prompts", "2", "--dtype", "f32,q8_0", "--json"];
    let json = place.matformer(&[&options[..], &more].concat()).ok().json();
    assert_eq!(
        keys(&json),
        [
            "machine",
            "device",
            "bandwidth_gb_s",
            "tokens",
            "rows",
            "prefill",
            "mixed",
            "loss",
            "speculation",
            "verify"
        ]
    );
    let list = |key: &str| json[key].as_array().unwrap().clone();
    assert_eq!(list("rows").len(), 2 * 4 * 2, "formats, sizes, batches");
    for row in list("rows") {
        assert!(row["tokens_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["percent_of_bandwidth"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!((list("prefill").len(), list("verify").len(), list("mixed").len()), (8, 8, 2));
    for verify in list("verify") {
        assert_eq!(verify["v"][0], 1.0);
        assert_eq!(verify["v"].as_array().unwrap().len(), 16);
    }
    // The loss is that of `score`, and hardly another in other formats.
    for loss in list("loss") {
        let (tokens, difference) = (loss["tokens"].as_u64(), loss["difference"].as_f64().unwrap());
        assert_eq!(tokens, list("loss")[0]["tokens"].as_u64());
        assert!(difference.abs() < 0.05 && (loss["dtype"] != "f32" || difference == 0.0), "{loss}");
    }
    assert_eq!(list("speculation").len(), 3 * 5 * 2, "drafts, lengths, caches");
    for row in list("speculation") {
        let acceptance = row["acceptance"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&acceptance), "{row}");
        assert_eq!(row["k"].is_null(), row["predicted"].is_null(), "{row}");
    }
    let printed =
        place.matformer(&[&options[..], &["--submodel", "S", "--dtype", "q8_0"]].concat()).ok();
    assert!(printed.stdout.contains("submodel  format  texts  tokens/s"), "{printed}");
    assert!(!printed.stdout.contains("bf16"), "{printed}");
    let refused = place.refused(&["bench", "decode", "run", "--text", "none.txt"]);
    assert!(refused.contains("none.txt"), "{refused}");
    let refused = place.refused(&["bench", "decode", "run", "--dtype", "q4"]);
    assert!(refused.contains("expected f32, bf16 or q8_0"), "{refused}");
}
