//! `matformer report`

use crate::support::{Output, Place};

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
    for fact in ["training time", "measured (UTC)", "machine", "device", "version"] {
        assert!(page.contains(&format!("<dt>{fact}</dt><dd>")), "{fact}");
    }
    let elsewhere = place.matformer(&["report", "run", "--out", "pages/mine.html"]).ok();
    assert!(elsewhere.stdout.ends_with("\nreport: pages/mine.html\n"), "{elsewhere}");
    assert_eq!(place.read("pages/mine.html"), page);
    let said = place.refused(&["report", "run", "--out", "pages"]);
    assert!(said.starts_with("error: pages: a folder; expected a file\n"), "{said}");

    let measurements = place.read("run/measurements.jsonl");
    let second = place.matformer(&["report", "run"]).ok();
    let reused = "run/report/measured.json: measured before, reused\n";
    assert_eq!(second.stderr, reused);
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
    measured_snapshot!(found, @r"
    exit code 0
    --- standard output
    held-out: 3.7k tokens of 13 documents in windows of 32, data [hash]
     run  submodel  non-emb.  loss  bits/byte  loss above run
     run  S  12.4k  [number]  [number]
     run  M  18.6k  [number]  [number]
     run  L  30.9k  [number]  [number]
     run  XL  55.5k  [number]  [number]
     other  S  12.4k  [number]  [number]  [number]
     other  M  18.6k  [number]  [number]  [number]
     other  L  30.9k  [number]  [number]  [number]
     other  XL  55.5k  [number]  [number]  [number]
    ± one standard error over 13 documents; differences are paired
    report: run/report/run+other.html
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
        found.stderr.contains("note: measured on different held-out data, in other tokens or in"),
        "{found}"
    );
    assert_eq!(found.json()["same_data"], false);
    assert!(place.read("run/report/run+other.html").contains("in other tokens"));
    snapshot!(place.refused(&["report", "run", "./run"]), @"
    error: ./run: named twice
    hint: expected different runs; the first is what the others are compared with
    ");
}

/// As where the page's folder was full at the end, or the process was killed.
#[test]
fn what_was_measured_before_an_interruption_is_not_measured_again() {
    let place = Place::trained();
    place.write("run/report/measured.json/in the way", "");
    let failed = place.matformer(&["report", "run"]);
    assert_eq!(failed.code, Some(1), "{failed}");
    let kept = place.measured("run");
    let store = kept[0].rsplit_once('/').unwrap().0;
    place.remove("run/report/measured.json");

    let arguments = ["report", "run", "--json"];
    let first = place.matformer(&arguments).ok();
    let mut losses = place.measured("run");
    losses.retain(|file| file.starts_with(store));
    assert_eq!(losses, kept);
    let losses = |output: &Output| -> Vec<f64> {
        let json = output.json();
        let results = json["measured"]["results"]["results"].as_array().unwrap().clone();
        results.iter().map(|r| r["loss"].as_f64().unwrap()).collect()
    };
    place.remove("run/report/measured.json");
    place.remove("run/measured");
    let anew = place.matformer(&arguments).ok();
    for (a, b) in losses(&first).iter().zip(losses(&anew)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

/// Every walk through the model is a file of `measured/`.
#[test]
fn what_is_measured_once_is_never_measured_again() {
    let place = Place::trained();
    let (mut before, mut short): (Vec<String>, Vec<String>) = Default::default();
    for (arguments, is_new) in [
        (&["report", "run"][..], true),
        (&["eval", "run"], false),
        (&["eval", "run", "--submodels", "S,32x1+64x1"], false),
        (&["eval", "run", "--submodels", "32x1+256x1"], true),
        // What the report measured on all of the data is known on both halves.
        (&["search", "run", "--budget", "60%", "--method", "mix"], false),
        (&["report", "run"], false),
        (&["eval", "run", "--context", "16"], true),
        (&["search", "run", "--budget", "60%"], true),
        (&["search", "run", "--budget", "60%"], false),
    ] {
        place.matformer(arguments).ok();
        let now = place.measured("run");
        assert_eq!(now != before, is_new, "{arguments:?}");
        if arguments.contains(&"--context") {
            short = now.iter().filter(|file| !before.contains(file)).cloned().collect();
        }
        before = now;
    }
    // What `eval` says is in the summary, whatever measured it, once.
    let lines = place.read_lines("run/measurements.jsonl");
    let says = |label: &str| lines.iter().filter(|line| line["submodel"] == label).count();
    assert!(says("32x1+256x1") >= 2 && says("XL") == 4, "loss and bits per byte, in two contexts");
    // A damaged file is named, and costs what it held.
    let damaged = &short[0];
    place.write(damaged, "");
    let said = format!("note: {damaged} is damaged, or of another version: passed over\n");
    let again = place.matformer(&["eval", "run", "--submodels", "S,32x1+64x1"]).ok();
    let other = place.matformer(&["eval", "run", "--context", "16"]).ok();
    assert!(!again.stderr.contains(&said) && other.stderr.contains(&said), "{again} {other}");
}

#[cfg(unix)]
#[test]
fn a_report_that_is_interrupted_keeps_what_it_measured() {
    use std::{
        process::Command,
        time::{Duration, Instant},
    };

    let place = Place::trained();
    let text = place.read("text/story-00.txt").repeat(10);
    for i in 0..100 {
        place.write(format!("much/{i}.txt"), format!("{i}\n{text}"));
    }
    let sets = ["data.paths=[\"much\"]", "train.steps=1", "train.eval_tokens=100"];
    let sets: Vec<&str> = sets.into_iter().flat_map(|set| ["--set", set]).collect();
    place.matformer(&[&["train", "run.toml", "--out", "much-run"], &sets[..]].concat()).ok();
    let child = place.command(&["report", "much-run"]).spawn().unwrap();
    let began = Instant::now();
    while place.measured("much-run").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = Output::of(child.wait_with_output().unwrap());
    assert_eq!((output.code, output.stdout.as_str()), (Some(130), ""), "{output}");
    let said = "Ctrl-C: interrupted; what was measured is kept, and the same command goes on\n";
    assert!(output.stderr.ends_with(said), "{output}");
    let kept = place.measured("much-run");
    place.matformer(&["report", "much-run"]).ok();
    let all = place.measured("much-run");
    assert!(kept.iter().all(|file| all.contains(file)) && all.len() > kept.len(), "{all:?}");
}

#[test]
fn a_report_is_of_the_data_that_is_there() {
    let place = Place::trained();
    let report = || place.matformer(&["report", "run"]).ok();
    let before = report();
    assert!(report().stderr.contains("measured before, reused"));
    place.write("text/story-60.txt", "One more story, of a goat that counts coats.\n");
    let after = report();
    assert!(after.stderr.contains("measured again"), "{after}");
    assert!(
        after.stderr.contains("the model may have seen held-out documents in training"),
        "{after}"
    );
    assert_ne!(before.stdout, after.stdout);
    // Without the text, what was prepared of it last is used, and nothing is measured anew.
    place.remove("text");
    let measured = place.measured("run");
    let without = report();
    assert!(without.stderr.contains("what was prepared from it is used"), "{without}");
    assert!(without.stderr.contains("measured before, reused"), "{without}");
    assert_eq!(without.stdout, after.stdout);
    assert_eq!(place.measured("run"), measured);
}

#[test]
fn few_documents_judge_nothing() {
    let place = Place::trained();
    let said = |tokens: &str| place.matformer(&["report", "run", "--tokens", tokens]).ok().stdout;
    let few = said("40");
    assert!(few.contains(": too few to judge differences by, at least 5 are needed\n"), "{few}");
    assert!(!few.contains("two errors") && !few.contains("lie between"), "{few}");
    let many = said("4000");
    assert!(!many.contains("too few"), "{many}");
}

#[test]
fn runs_with_long_names_have_a_page() {
    let place = Place::trained();
    let names = ["a", "b"].map(|name| name.repeat(150));
    for name in &names {
        for (path, bytes) in place.tree() {
            if let Ok(file) = path.strip_prefix("run") {
                place.write(std::path::Path::new(name).join(file), bytes);
            }
        }
    }
    let json = place.matformer(&["report", &names[0], &names[1], "--json"]).ok().json();
    assert!(place.path(json["report"].as_str().unwrap()).exists(), "{json}");
}
