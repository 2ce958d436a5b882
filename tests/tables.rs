//! Every column of a table has the numbers that its head says: those of `--json`.

use std::collections::BTreeMap;

use image::{GrayImage, Luma};
use serde_json::Value;

use crate::{support::Place, vision};

/// `22.0k`, as tables have counts.
fn count(value: &Value) -> String {
    let n = value.as_f64().unwrap();
    if n >= 1e6 {
        format!("{:.2}M", n / 1e6)
    } else if n >= 1e3 {
        format!("{:.1}k", n / 1e3)
    } else {
        format!("{n:.0}")
    }
}

/// `3.0121 ± 0.0123`: a loss, or a difference of losses, with its standard error.
fn loss(value: &Value, stderr: &Value) -> String {
    format!("{:.4} ± {:.4}", value.as_f64().unwrap(), stderr.as_f64().unwrap())
}

/// `87.50 ± 1.25`: a share, or a difference of shares, in percent; nothing for null.
fn percent(estimate: &Value) -> String {
    let of = |key: &str| 100.0 * estimate[key].as_f64().unwrap();
    if estimate.is_null() {
        String::new()
    } else {
        format!("{:.2} ± {:.2}", of("value"), of("stderr"))
    }
}

/// The difference of two numbers of JSON, whose last digits may differ.
fn assert_is(found: &Value, expected: f64) {
    assert!((found.as_f64().unwrap() - expected).abs() < 1e-9, "{found}, not {expected}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn row<const N: usize>(cells: [(&str, String); N]) -> BTreeMap<String, String> {
    cells.map(|(name, cell)| (name.to_owned(), cell)).into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A row of the table of submodels of a language model.
fn of_text(r: &Value) -> BTreeMap<String, String> {
    let paired = &r["paired"];
    let above =
        if paired.is_null() { String::new() } else { loss(&paired["diff"], &paired["stderr"]) };
    row([
        ("submodel", text(&r["submodel"])),
        ("params", count(&r["params"]["total"])),
        ("non-emb.", count(&r["params"]["non_embedding"])),
        ("loss", loss(&r["loss"], &r["stderr"])),
        ("bits/byte", format!("{:.4}", number(&r["bits_per_byte"]))),
        ("loss above XL", above),
    ])
}

#[test]
fn language_models_and_their_baselines_at_both_budgets() {
    let place = Place::trained();
    let baselines = |budget: &str| {
        let command = ["baselines", "run", "--budget", budget, "--json"];
        place.matformer(&command).ok().json()
    };
    let (per_width, total) = (baselines("per-width"), baselines("total"));
    let command = ["baselines", "run", "--budget", "total"];
    let steps = |json: &Value| -> Vec<u64> {
        json["costs"].as_array().unwrap().iter().map(|c| c["steps"].as_u64().unwrap()).collect()
    };
    // One width a step: of 12 steps each width had three. Then each baseline sees as much as the run.
    assert_eq!(steps(&per_width), [12, 3, 3, 3, 3, 12]);
    assert_eq!(steps(&total), [12, 12, 12, 12, 12, 48]);
    let budgets = |json: &Value, budget: &str| {
        let of = |r: &&Value| r["budget"] == budget && r["metric"] == "loss";
        json["results"].as_array().unwrap().iter().filter(of).count()
    };
    assert_eq!((budgets(&per_width, "total"), budgets(&total, "total")), (0, 4));
    assert_eq!((budgets(&total, "per-width"), budgets(&total, "elastic")), (4, 7));

    let json = place.matformer(&["eval", "run", "--json"]).ok().json();
    let shown = place.matformer(&["eval", "run"]).ok();
    let results = json["results"].as_array().unwrap();
    assert_eq!(shown.table("submodel"), results.iter().map(of_text).collect::<Vec<_>>());
    let beside = |json: &Value| -> Vec<BTreeMap<String, String>> {
        let of = |alone: &Value| {
            let (r, above) = (&alone["result"], &alone["elastic_above"]);
            row([
                ("alone", text(&r["submodel"])),
                ("budget", text(&alone["budget"])),
                ("params", count(&r["params"]["total"])),
                ("loss", loss(&r["loss"], &r["stderr"])),
                ("bits/byte", format!("{:.4}", number(&r["bits_per_byte"]))),
                ("elastic loss above", loss(&above["value"], &above["stderr"])),
            ])
        };
        json["alone"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(beside(&json).len(), 8);
    assert_eq!(shown.table("alone"), beside(&json));
    // Each baseline is that of its folder, and the elastic size is compared with it, not it with the size.
    for alone in json["alone"].as_array().unwrap() {
        let (size, budget) = (text(&alone["result"]["submodel"]), text(&alone["budget"]));
        let dir = format!("run/baselines/{budget}/{size}");
        let own = place.matformer(&["eval", &dir, "--json"]).ok().json();
        assert_is(&alone["result"]["loss"], number(&own["results"][0]["loss"]));
        let elastic = results.iter().find(|r| r["submodel"] == size.as_str()).unwrap();
        let expected = number(&elastic["loss"]) - number(&alone["result"]["loss"]);
        assert_is(&alone["elastic_above"]["value"], expected);
    }

    let report = place.matformer(&["report", "run", "--json"]).ok().json();
    let curve = report["measured"]["results"]["results"].as_array().unwrap();
    for shown in [place.matformer(&["report", "run"]).ok(), place.matformer(&command).ok()] {
        assert_eq!(shown.table("submodel"), curve.iter().map(of_text).collect::<Vec<_>>());
        assert_eq!(shown.table("alone"), beside(&report));
        for above in report["alone"].as_array().unwrap() {
            let size = &above["result"]["submodel"];
            let elastic = curve.iter().find(|r| r["submodel"] == *size).unwrap();
            let expected = number(&elastic["loss"]) - number(&above["result"]["loss"]);
            assert_is(&above["elastic_above"]["value"], expected);
        }
    }
    let costs = place.matformer(&command).ok().table("steps");
    let found: Vec<_> = costs.iter().map(|c| (c[""].as_str(), c["steps"].as_str())).collect();
    let expected = ["elastic", "S alone", "M alone", "L alone", "XL alone", "all alone"];
    assert_eq!(
        found,
        expected.into_iter().zip(["12", "12", "12", "12", "12", "48"]).collect::<Vec<_>>()
    );
    for (shown, cost) in costs.iter().zip(total["costs"].as_array().unwrap()) {
        let flops = number(&cost["flops"]);
        assert_eq!(shown["FLOPs"], format!("{:.2}G", flops / 1e9), "{shown:?}");
    }
    // Gaps are those of the narrower size above the wider one.
    for gap in report["measured"]["gaps"].as_array().unwrap() {
        let of = |key: &str| {
            let found = curve.iter().find(|r| r["submodel"] == gap[key]).unwrap();
            number(&found["loss"])
        };
        assert_is(&gap["diff"], of("narrow") - of("wide"));
    }
}

#[test]
fn two_runs_beside_each_other() {
    let place = Place::trained();
    place.matformer(&["train", "run.toml", "--out", "other", "--set", "train.seed=5"]).ok();
    let json = place.matformer(&["report", "run", "other", "--json"]).ok().json();
    let shown = place.matformer(&["report", "run", "other"]).ok().table("run");
    let mut expected = Vec::new();
    for run in json["runs"].as_array().unwrap() {
        for r in run["results"]["results"].as_array().unwrap() {
            let size = text(&r["submodel"]);
            if !["S", "M", "L", "XL"].contains(&size.as_str()) {
                continue;
            }
            let above = &run["above_first"][&size];
            if !above.is_null() {
                let first = &json["runs"][0]["results"]["results"];
                let first =
                    first.as_array().unwrap().iter().find(|r| r["submodel"] == size.as_str());
                assert_is(&above["diff"], number(&r["loss"]) - number(&first.unwrap()["loss"]));
            }
            let above = if above.is_null() {
                String::new()
            } else {
                loss(&above["diff"], &above["stderr"])
            };
            expected.push(row([
                ("run", text(&run["name"])),
                ("submodel", size),
                ("non-emb.", count(&r["params"]["non_embedding"])),
                ("loss", loss(&r["loss"], &r["stderr"])),
                ("bits/byte", format!("{:.4}", number(&r["bits_per_byte"]))),
                ("loss above run", above),
            ]));
        }
    }
    assert_eq!(expected.len(), 8);
    assert_eq!(shown, expected);
}

/// A row of the table of submodels of a vision model.
fn of_images(r: &Value) -> BTreeMap<String, String> {
    row([
        ("submodel", text(&r["submodel"])),
        ("params", count(&r["params"]["total"])),
        ("non-emb.", count(&r["params"]["non_embedding"])),
        ("top-1 %", percent(&r["top1"])),
        ("top-5 %", percent(&r["top5"])),
        ("top-1 above XL", percent(&r["paired"]["top1"])),
    ])
}

#[test]
fn vision_models_and_what_they_find() {
    let (place, _) = vision::trained();
    let eval = ["eval", "run", "--submodels", "S,4x1+32x1,XL"];
    let json = place.matformer(&[&eval[..], &["--json"]].concat()).ok().json();
    let results = json["results"].as_array().unwrap();
    let shown = place.matformer(&eval).ok();
    assert_eq!(shown.table("submodel"), results.iter().map(of_images).collect::<Vec<_>>());
    assert!(shown.stdout.contains("± one standard error over 60 images"), "{shown}");

    let retrieve = ["retrieve", "run", "--submodels", "S,XL", "--symmetric"];
    let json = place.matformer(&[&retrieve[..], &["--json"]].concat()).ok().json();
    let shown = place.matformer(&retrieve).ok();
    // Four classes, each a quarter of the gallery.
    assert_is(&json["chance"], 0.25);
    assert!(shown.stdout.contains("1-NN by chance: 25.00 %"), "{shown}");
    assert_eq!(shown.table("query"), found(&json));
    differences_are_to_the_shared_gallery(&json);
}

/// The table of a search, by its JSON.
fn found(json: &Value) -> Vec<BTreeMap<String, String>> {
    let of = |r: &Value| {
        row([
            ("query", text(&r["query"])),
            ("gallery", text(&r["gallery"])),
            ("budget", r["alone"].as_str().unwrap_or_default().to_owned()),
            ("params", count(&r["query_params"])),
            ("FLOPs", count(&r["query_flops"])),
            ("1-NN %", percent(&r["nearest"])),
            ("of 5 %", percent(&r["recall_5"])),
            ("of 10 %", percent(&r["recall_10"])),
            ("mAP %", percent(&r["map"])),
            ("1-NN above", percent(&r["above"])),
        ])
    };
    json["results"].as_array().unwrap().iter().map(of).collect()
}

/// Rows are above the one whose query and gallery are the shared gallery's encoder.
fn differences_are_to_the_shared_gallery(json: &Value) {
    let results = json["results"].as_array().unwrap();
    let nearest = |r: &Value| number(&r["nearest"]["value"]);
    let own = results.iter().find(|r| r["query"] == "XL" && r["gallery"] == "XL").unwrap();
    assert_eq!(own["above"], Value::Null);
    let others: Vec<&Value> = results.iter().filter(|r| r["query"] == "S").collect();
    assert!(!others.is_empty());
    for other in others {
        assert_is(&other["above"]["value"], nearest(other) - nearest(own));
    }
}

#[test]
fn searches() {
    let place = Place::trained();
    let search = ["search", "run", "--budget", "60%", "--method", "mix,exhaustive,extremes"];
    let json = place.matformer(&[&search[..], &["--json"]].concat()).ok().json();
    let shown = place.matformer(&search).ok();
    let mut rows = shown.table("method");
    let judged = json["judged"]["results"].as_array().unwrap();
    let expected = json["found"].as_array().unwrap().iter().map(|f| {
        let r = judged.iter().find(|r| r["submodel"] == f["winner"]).unwrap();
        assert_eq!((&r["loss"], &r["stderr"]), (&f["b"]["value"], &f["b"]["stderr"]));
        let best = judged.iter().find(|r| r["submodel"] == json["best"]).unwrap();
        assert_is(&f["regret"], number(&r["loss"]) - number(&best["loss"]));
        row([
            ("method", text(&f["method"])),
            ("submodel", text(&f["winner"])),
            ("non_embedding", count(&f["non_embedding"])),
            ("loss", loss(&r["loss"], &r["stderr"])),
            ("above the best", loss(&f["regret"], &f["stderr"])),
            ("tried", f["tried"].as_array().unwrap().len().to_string()),
        ])
    });
    rows.iter_mut().for_each(|row| drop(row.remove("s")));
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

/// Each image of `vision`'s kind in two hands: a class per quarter that is light, the second hand darker.
fn two_hands() -> Place {
    let place = Place::new();
    for (hand, light) in [("one", 200_u8), ("two", 150)] {
        for class in 0..4_u32 {
            for i in 0..10_u32 {
                let image = GrayImage::from_fn(8, 8, |x, y| {
                    let noise = (i * 37 + (8 * y + x) * 101 + i * x * 13) % 50;
                    Luma([noise as u8 + if x / 4 + 2 * (y / 4) == class { light } else { 0 }])
                });
                let path = place.path(format!("{hand}/quarter-{class}/{i}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image.save(path).unwrap();
            }
        }
    }
    let run = vision::RUN_FILE
        .replace("path = \"images\"", "path = \"one\"\nalso = [\"two\"]\nheld_out = 0.4")
        .replace("steps = 120", "steps = 12")
        .replace("warmup = 5", "warmup = 2")
        .replace("eval_every = 60", "eval_every = 12")
        .replace("checkpoint_every = 60", "checkpoint_every = 12");
    place.write("vit.toml", run);
    place.matformer(&["train", "vit.toml", "--out", "run"]).ok();
    place
}

#[test]
fn two_drawings_of_one_thing_are_one_cluster_and_find_each_other() {
    let place = two_hands();
    let eval = place.matformer(&["eval", "run", "--json"]).ok().json();
    // Four of ten in each class, by both hands.
    assert_eq!((&eval["data"]["documents"], &eval["data"]["clusters"]), (&32.into(), &16.into()));
    let shown = place.matformer(&["eval", "run"]).ok();
    let said = "± one standard error over 16 clusters of 32 images; differences are paired";
    assert!(shown.stdout.contains(said), "{shown}");
    let results = eval["results"].as_array().unwrap();
    assert_eq!(shown.table("submodel"), results.iter().map(of_images).collect::<Vec<_>>());
    // It has learnt little, so that no column is another: of four classes one is always among five.
    assert!(results.iter().all(|r| number(&r["top1"]["value"]) < number(&r["top5"]["value"])));

    // By class both drawings of a thing are queries, which are not independent; across the hands one is.
    let retrieve = |more: &[&str]| {
        let command = [&["retrieve", "run", "--submodels", "S,XL"], more].concat();
        (
            place.matformer(&[&command[..], &["--json"]].concat()).ok().json(),
            place.matformer(&command).ok(),
        )
    };
    let (json, shown) = retrieve(&[]);
    assert_eq!((&json["queries"], &json["clusters"]), (&32.into(), &16.into()));
    assert!(
        shown.stdout.contains("± one standard error over 16 clusters of 32 queries"),
        "{shown}"
    );
    let (json, shown) = retrieve(&["--across"]);
    assert_eq!((&json["queries"], &json["gallery_images"]), (&16.into(), &16.into()));
    assert_eq!((text(&json["relevant"]), &json["clusters"]), ("name".to_owned(), &16.into()));
    assert_eq!(
        text(&json["searched"]),
        "16 held-out images of other folders as queries into 16 of `one`"
    );
    // One of sixteen is right.
    assert_is(&json["chance"], 1.0 / 16.0);
    assert_eq!(shown.table("query"), found(&json));
    differences_are_to_the_shared_gallery(&json);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.last().unwrap()["query"], "pixels");
    // Both hands draw the same noise: by its pixels each finds the other.
    assert_is(&results.last().unwrap()["nearest"]["value"], 1.0);

    // A search judges by things of which it has seen neither drawing.
    let search =
        ["search", "run", "--budget", "60%", "--method", "mix", "--per-document", "--json"];
    let json = place.matformer(&search).ok().json();
    let clusters: Vec<u64> =
        json["clusters"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).collect();
    assert_eq!((clusters.len(), &json["documents"]), (16, &16.into()));
    let twice = |cluster: &u64| clusters.iter().filter(|other| *other == cluster).count() == 2;
    assert!(clusters.iter().all(twice), "{clusters:?}");
    assert_eq!(json["judged"]["data"]["clusters"], 8);
}
