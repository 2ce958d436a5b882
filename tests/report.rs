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
