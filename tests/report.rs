//! `matformer report`

use crate::support::Place;

#[test]
fn the_page_is_one_file_and_is_measured_once() {
    let place = Place::trained();
    let first = place.matformer(&["report", "run"]).ok();
    assert!(first.stdout.ends_with("\nreport: run/report/index.html\n"), "{first}");
    for text in ["\ngaps: S − M ", "\nbits per byte of the same text: byte unigram ", "gzip -9"] {
        assert!(first.stdout.contains(text), "{first}");
    }
    let page = place.read("run/report/index.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(page.matches("<svg").count() >= 2, "plots");
    for label in ["S", "32x1+64x1", "128x1+256x1", "XL"] {
        assert!(page.contains(label), "{label}");
    }
    // Nothing that a browser would fetch.
    for outside in ["src=", "<link", "@import", "url(", "href=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme"), "light and dark");

    let measurements = place.read("run/measurements.jsonl");
    let second = place.matformer(&["report", "run"]).ok();
    assert_eq!(second.stderr, "run/report/measured.json: measured before, reused\n");
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(place.read("run/report/index.html"), page);
    assert_eq!(place.read("run/measurements.jsonl"), measurements);
    // Other tokens are another measurement.
    let part = place.matformer(&["report", "run", "--tokens", "300"]).ok();
    assert!(!part.stderr.contains("reused"), "{part}");
    // Neither displaces the other.
    for arguments in [&["report", "run"][..], &["report", "run", "--tokens", "300"]] {
        assert!(place.matformer(arguments).ok().stderr.contains("reused"));
    }
}

#[test]
fn a_folder_that_cannot_be_written_into_costs_no_measurement() {
    let place = Place::trained();
    place.write("run/report", "in the way");
    let before = place.tree();
    let output = place.matformer(&["report", "run"]);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.starts_with("error: cannot create `run/report`: "), "{output}");
    assert_eq!(place.tree(), before);
}

#[test]
fn json_has_the_curve() {
    let place = Place::trained();
    let json = place.matformer(&["report", "run", "--json"]).ok().json();
    assert_eq!(json["report"], "run/report/index.html");
    let results = json["measured"]["results"]["results"].as_array().unwrap();
    let labels: Vec<&str> = results.iter().map(|r| r["submodel"].as_str().unwrap()).collect();
    assert_eq!(labels, ["S", "32x1+64x1", "M", "64x1+128x1", "L", "128x1+256x1", "XL"]);
    assert_eq!(json["measured"]["gaps"].as_array().unwrap().len(), 3);
    for baseline in ["byte_unigram", "gzip"] {
        assert!(json["measured"]["baselines"][baseline].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn two_runs_lie_over_each_other_on_one_page() {
    let place = Place::trained();
    let other = ["train", "run.toml", "--out", "other", "--set", "train.draw=joint"];
    place.matformer(&other).ok();
    let found = place.matformer(&["report", "run", "other"]).ok();
    measured_snapshot!(found, @"
    exit code 0
    --- standard output
    held-out: 4.1k tokens of 15 documents, data [hash]
     run  submodel  non-emb.  loss  bits/byte  loss above run
     run  S  12.4k  [number]  [number]
     run  M  18.6k  [number]  [number]
     run  L  30.9k  [number]  [number]
     run  XL  55.5k  [number]  [number]
     other  S  12.4k  [number]  [number]  [number]
     other  M  18.6k  [number]  [number]  [number]
     other  L  30.9k  [number]  [number]  [number]
     other  XL  55.5k  [number]  [number]  [number]
    ± one standard error over 15 documents; differences are paired
    report: run/report/run+other.html
    --- standard error
    reading documents
    reading documents
    ");
    let page = place.read("run/report/run+other.html");
    assert_eq!(page.matches("<svg").count(), 2, "curves and training");
    for run in ["run", "other"] {
        assert!(page.contains(&format!("</span>{run}\n")), "{run}");
    }
    assert!(!page.contains("in other tokens"));
    // Both are measured once; the page of one run is not touched.
    let json = place.matformer(&["report", "other", "run", "--json"]).ok();
    assert_eq!(json.stderr.matches("measured before, reused").count(), 2, "{json}");
    let json = json.json();
    assert_eq!(json["report"], "other/report/other+run.html");
    assert_eq!(json["same_data"], true);
    assert!(json["runs"][0]["above_first"].as_object().unwrap().is_empty());
    let above = json["runs"][1]["above_first"].as_object().unwrap();
    assert_eq!(above.keys().collect::<Vec<_>>(), ["S", "M", "L", "XL"]);
    let difference =
        |run: usize, i: usize| json["runs"][run]["results"]["results"][i]["loss"].as_f64().unwrap();
    let found = above["S"]["diff"].as_f64().unwrap();
    assert!((found - (difference(1, 0) - difference(0, 0))).abs() < 1e-9, "{json}");
    assert!(above["S"]["stderr"].as_f64().unwrap() > 0.0);
    assert!(!place.tree().keys().any(|path| path.ends_with("report/index.html")));
}

#[test]
fn other_text_is_said_to_be_no_comparison() {
    let place = Place::trained();
    place.matformer(&["report", "run", "--tokens", "300"]).ok();
    let other = ["train", "run.toml", "--out", "other", "--set", "data.seed=7"];
    place.matformer(&other).ok();
    let found = place.matformer(&["report", "run", "other", "--json"]).ok();
    assert!(
        found.stderr.contains("note: measured on different held-out data, or in other tokens"),
        "{found}"
    );
    assert_eq!(found.json()["same_data"], false);
    assert!(place.read("run/report/run+other.html").contains("in other tokens"));
    snapshot!(place.refused(&["report", "run", "./run"]), @"
    error: ./run: named twice
    hint: expected different runs; the first is what the others are compared with
    ");
}
