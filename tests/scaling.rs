//! `matformer scaling`: laws of runs and their baselines.

use crate::{
    support::{Place, keys},
    vision,
};

#[test]
fn runs_and_their_baselines_are_fitted_apart() {
    let place = Place::trained();
    let sets = ["--set", "train.steps=24", "--set", "model.lm.d_model=64"];
    place.matformer(&[&["train", "run.toml", "--out", "other"][..], &sets].concat()).ok();
    place.matformer(&["baselines", "run"]).ok();
    place.matformer(&["report", "run", "other"]).ok();
    let json =
        place.matformer(&["scaling", "run", "other", "--resamples", "20", "--json"]).ok().json();
    assert_eq!(keys(&json), ["data", "elastic", "alone"]);
    let points = json["elastic"]["points"].as_array().unwrap();
    let sizes: Vec<&str> = points.iter().map(|point| point["size"].as_str().unwrap()).collect();
    assert_eq!(sizes, ["S", "M", "L", "XL", "S", "M", "L", "XL"]);
    // A width of four gets a quarter of the tokens, and so does a baseline.
    assert_eq!((&points[0]["tokens"], &points[4]["tokens"]), (&768.0.into(), &1536.0.into()));
    let alone = json["alone"]["points"].as_array().unwrap();
    assert_eq!(alone.len(), 4);
    for (alone, elastic) in alone.iter().zip(points) {
        assert_eq!((&alone["size"], &alone["params"]), (&elastic["size"], &elastic["params"]));
        assert_eq!(alone["tokens"], elastic["tokens"]);
        assert_ne!(alone["loss"], elastic["loss"]);
    }
    let curve = place.matformer(&["eval", "run", "--json"]).ok().json();
    for (result, point) in curve["results"].as_array().unwrap().iter().zip(points) {
        assert_eq!(result["loss"], point["loss"]);
        assert_eq!(result["params"]["non_embedding"].as_f64(), point["params"].as_f64());
    }
    let output = place.matformer(&["scaling", "run", "other", "--resamples", "20"]).ok();
    assert!(output.stdout.contains("loss = a·(N·D)^b + c"), "{output}");
    // Four points have no intervals.
    let fit = &json["alone"]["fit"];
    assert!(fit.is_null() || fit["intervals"].is_null(), "{fit}");
}

#[test]
fn what_was_not_measured_alike_is_refused() {
    let place = Place::trained();
    let said = place.refused(&["scaling", "run"]);
    let expected = "error: run: no held-out loss of its trained sizes; `report` measures them, and those of its \
                    baselines\n";
    assert_eq!(said, expected);
    let said = place.refused(&["scaling", "text"]);
    assert!(said.starts_with("error: text: neither a run nor a model"), "{said}");
    let (images, _) = vision::trained();
    let run = images.path("run").display().to_string();
    let said = place.refused(&["scaling", &run]);
    assert!(said.contains("not the run of a language model"), "{said}");
    place.matformer(&["train", "run.toml", "--out", "other", "--set", "train.seed=1"]).ok();
    place.matformer(&["eval", "run"]).ok();
    place.matformer(&["eval", "other", "--tokens", "200"]).ok();
    let said = place.refused(&["scaling", "run", "other"]);
    assert!(said.contains("expected the same held-out data"), "{said}");
    place.matformer(&["eval", "other"]).ok();
    // Two runs of one shape have four different N·D.
    let json =
        place.matformer(&["scaling", "run", "other", "--resamples", "2", "--json"]).ok().json();
    assert_eq!(json["elastic"]["points"].as_array().unwrap().len(), 8);
}
