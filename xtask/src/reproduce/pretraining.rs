//! The paper's Table 7: elastic or plain in pretraining, and elastic or plain in fine-tuning.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, SEEDS, matvit,
    matvit::SIZES,
    page::{list, percent, points, table, text},
    stamp,
};

const PRETRAIN: &str = "configs/vit/emoji-pretrain.toml";
const TUNE: &str = "configs/vit/fashion-mnist-tune.toml";
/// Pretraining, then fine-tuning; the first is what the others are compared with.
const WAYS: [[&str; 2]; 4] =
    [["elastic", "elastic"], ["plain", "elastic"], ["elastic", "plain"], ["plain", "plain"]];

/// Every way with every seed.
pub fn document(binary: &Binary) -> Result<Value> {
    let runs = SEEDS.map(|seed| run(binary, seed)).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(json!({ "configs": [PRETRAIN, TUNE], "seeds": SEEDS, "runs": runs }))
}

/// Results of one seed, a list per way: of every size its accuracy, and how far it is above the first way.
fn run(binary: &Binary, number: u64) -> Result<Value> {
    let folder = format!("runs/pretraining-{number}");
    let seed = format!("train.seed={number}");
    let draw = |size: Option<&str>| match size {
        Some(size) => format!("train.draw=baseline:{size}"),
        None => "train.draw=joint".to_owned(),
    };
    let pretrained =
        |size: Option<&str>| format!("{folder}/pretrained-{}", size.unwrap_or("elastic"));
    let mut trained = serde_json::Map::new();
    for size in [None].into_iter().chain(SIZES.map(Some)) {
        let (arguments, out) = (["--set", &seed, "--set", &draw(size)], pretrained(size));
        let stamp = binary.train(PRETRAIN, &out, &arguments)?;
        trained.insert(out, stamp);
    }
    // Every run, with the way that it is of.
    let mut tuned = Vec::new();
    for (way, [pretraining, tuning]) in WAYS.iter().enumerate() {
        let sizes = match *tuning {
            "elastic" => vec![None],
            _ => SIZES.map(Some).to_vec(),
        };
        for size in sizes {
            // A plain model that becomes elastic is the widest one.
            let from = match *pretraining {
                "elastic" => pretrained(None),
                _ => pretrained(size.or(Some("XL"))),
            };
            let out = format!("{folder}/{pretraining}-{}", size.unwrap_or("elastic"));
            let arguments = ["--set", &seed, "--set", &draw(size), "--init", &from];
            let stamp = binary.train(TUNE, &out, &arguments)?;
            trained.insert(out.clone(), stamp);
            tuned.push((way, out));
        }
    }
    let runs: Vec<&str> = tuned.iter().map(|(_, out)| out.as_str()).collect();
    let arguments = [&["report"], &runs[..]].concat();
    let before = || binary.forget_reports(&runs);
    let report = binary.kept(&runs, "reproduced-report.json", &arguments, before)?;
    let mut ways = vec![Vec::new(); WAYS.len()];
    for ((way, _), run) in tuned.iter().zip(list(&report["runs"])) {
        ways[*way].extend(sizes_of(run));
    }
    let converted = converted(binary, &folder, number, &seed)?;
    let way = |([pretraining, tuning], sizes): (&[&str; 2], Vec<Value>)| json!({ "pretraining": pretraining, "tuning": tuning, "sizes": sizes });
    Ok(json!({
        "seed": number,
        "trained_stamps": trained,
        "measured_stamp": report["stamp"],
        "converted": converted,
        "ways": WAYS.iter().zip(ways).map(way).collect::<Vec<_>>(),
    }))
}

/// An ordinary model made elastic on the data that it was trained on: XL of the accuracy page, trained alone
/// (1,000 steps), seen narrower before and after fine-tuning.
fn converted(binary: &Binary, folder: &str, number: u64, seed: &str) -> Result<Value> {
    let plain = format!("{}/baselines/per-width/XL", matvit::folder(number));
    let eval = |run: &str, more: &[&str]| {
        let arguments = [&["eval", run], more].concat();
        binary.kept(&[run], "reproduced-eval.json", &arguments, || Ok(()))
    };
    let before = eval(&plain, &["--submodels", &SIZES.join(",")])?;
    let out = format!("{folder}/converted");
    let trained = binary.train(TUNE, &out, &["--set", seed, "--init", &plain])?;
    let after = eval(&out, &[])?;
    Ok(json!({
        "before": before["results"],
        "after": after["results"],
        "before_stamp": before["stamp"],
        "after_stamp": after["stamp"],
        "trained_stamp": trained,
    }))
}

/// Accuracies of the granularities that a run was trained at.
fn sizes_of(run: &Value) -> Vec<Value> {
    let named = |result: &&Value| SIZES.contains(&result["submodel"].as_str().unwrap_or_default());
    let of = |result: &Value| {
        let size = text(&result["submodel"]);
        let above = &run["above_first"][&size];
        json!({
            "size": size,
            "top1": result["top1"],
            "above_elastic_elastic": { "value": above["diff"], "stderr": above["stderr"] },
        })
    };
    list(&run["results"]["results"]).iter().filter(named).map(of).collect()
}

pub fn tables(document: &Value) -> String {
    format!(
        "Pretraining on emoji → fine-tuning on Fashion-MNIST, top-1 % (above elastic → elastic).\n\n{}\n{}\n\
         Fashion-MNIST's XL trained alone, seen narrower, and the same after elastic fine-tuning: top-1 %.\n\n{}\n{}",
        ways(document),
        ways_stamps(list(&document["runs"])),
        conversion(document),
        conversion_stamps(list(&document["runs"])),
    )
}

/// When and where the rows of [`ways`] were made.
fn ways_stamps(runs: &[Value]) -> String {
    let seed = |run: &Value| format!("seed {}", run["seed"]);
    let measured = runs.iter().map(|run| (seed(run), &run["measured_stamp"]));
    let all = runs.iter().filter_map(|run| run["trained_stamps"].as_object()).flatten();
    let trained = all.map(|(out, stamp)| (format!("`{out}`"), stamp));
    stamp::line("Measured", measured) + &stamp::line("Trained", trained)
}

/// When and where the rows of [`conversion`] were made.
fn conversion_stamps(runs: &[Value]) -> String {
    let of = |run: &Value, what: &str| format!("seed {}{what}", run["seed"]);
    let measured = runs.iter().flat_map(|run| {
        [("before", "before_stamp"), ("after", "after_stamp")]
            .map(|(when, key)| (of(run, &format!(", {when}")), &run["converted"][key]))
    });
    let trained = runs.iter().map(|run| (of(run, ""), &run["converted"]["trained_stamp"]));
    stamp::line("Measured", measured) + &stamp::line("Trained", trained)
}

fn conversion(document: &Value) -> String {
    let mut head = vec!["seed".to_owned(), String::new()];
    head.extend(SIZES.map(str::to_owned));
    let mut rows = Vec::new();
    for (seed, run) in SEEDS.iter().zip(list(&document["runs"])) {
        for when in ["before", "after"] {
            let cells = list(&run["converted"][when]).iter().map(|r| percent(&r["top1"]));
            rows.push([seed.to_string(), when.to_owned()].into_iter().chain(cells).collect());
        }
    }
    table(&head, rows)
}

/// A row per seed and size, a column per way.
fn ways(document: &Value) -> String {
    let mut head = vec!["seed".to_owned(), "size".to_owned()];
    head.extend(WAYS.iter().map(|[pretraining, tuning]| format!("{pretraining} → {tuning}")));
    let mut rows = Vec::new();
    for (seed, run) in SEEDS.iter().zip(list(&document["runs"])) {
        for size in SIZES {
            let cell = |way: &Value| {
                let found = list(&way["sizes"]).iter().find(|entry| entry["size"] == size);
                let found = found.unwrap_or(&Value::Null);
                match points(&found["above_elastic_elastic"]) {
                    above if above.is_empty() => percent(&found["top1"]),
                    above => format!("{} ({above})", percent(&found["top1"])),
                }
            };
            let cells = list(&run["ways"]).iter().map(cell);
            rows.push([seed.to_string(), size.to_owned()].into_iter().chain(cells).collect());
        }
    }
    table(&head, rows)
}
