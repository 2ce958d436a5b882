//! The paper's Table 7: elastic or plain in pretraining, and elastic or plain in fine-tuning.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, SEEDS, matvit,
    page::{list, percent, points, table, text},
};

const PRETRAIN: &str = "configs/vit/emoji-pretrain.toml";
const TUNE: &str = "configs/vit/fashion-mnist-tune.toml";
const SIZES: [&str; 4] = ["S", "M", "L", "XL"];
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
    for size in [None].into_iter().chain(SIZES.map(Some)) {
        let arguments = ["--set", &seed, "--set", &draw(size)];
        binary.train(PRETRAIN, &pretrained(size), &arguments)?;
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
            binary.train(TUNE, &out, &arguments)?;
            tuned.push((way, out));
        }
    }
    let mut arguments = vec!["report"];
    arguments.extend(tuned.iter().map(|(_, out)| out.as_str()));
    let report = binary.json(&arguments)?;
    let mut ways = vec![Vec::new(); WAYS.len()];
    for ((way, _), run) in tuned.iter().zip(list(&report["runs"])) {
        ways[*way].extend(sizes_of(run));
    }
    let converted = converted(binary, &folder, number, &seed)?;
    Ok(
        json!({ "seed": number, "converted": converted, "ways": WAYS.iter().zip(ways).map(|(way, sizes)| json!({
        "pretraining": way[0], "tuning": way[1], "sizes": sizes,
    })).collect::<Vec<_>>() }),
    )
}

/// An ordinary model made elastic on the data that it was trained on: XL of the accuracy page, trained alone
/// (1,000 steps), seen narrower before and after fine-tuning.
fn converted(binary: &Binary, folder: &str, number: u64, seed: &str) -> Result<Value> {
    let plain = format!("{}/baselines/per-width/XL", matvit::folder(number));
    let before = binary.json(&["eval", &plain, "--submodels", &SIZES.join(",")])?;
    let out = format!("{folder}/converted");
    binary.train(TUNE, &out, &["--set", seed, "--init", &plain])?;
    let after = binary.json(&["eval", &out])?;
    Ok(json!({ "before": before["results"], "after": after["results"] }))
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
        "Pretraining on emoji → fine-tuning on Fashion-MNIST, top-1 % (above elastic → elastic).\n\n{}\n\
         Fashion-MNIST's XL trained alone, seen narrower, and the same after elastic fine-tuning: top-1 %.\n\n{}",
        ways(document),
        conversion(document)
    )
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
