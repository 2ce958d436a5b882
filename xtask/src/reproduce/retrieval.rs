//! Adaptive retrieval: one gallery, queries by every size.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, SEEDS, matvit,
    page::{list, per_seed, percent, points, table, text},
};

/// The emoji are few, and one seed takes 25 minutes.
const EMOJI_SEEDS: [u64; 1] = [0];
const EMOJI: &str = "configs/vit/emoji.toml";
/// Granularities, and half of the layers of one with half of the next.
const QUERIES: &str = "S,48x3+96x3,M,96x3+192x3,L,192x3+384x3,XL";
const ACROSS: &str = "S,96x3+192x3,M,192x3+384x3,L,384x3+768x3,XL";

/// Fashion-MNIST with the runs and baselines of the page on accuracy; emoji across styles.
pub fn document(binary: &Binary) -> Result<Value> {
    let (mut fashion, mut emoji) = (Vec::new(), Vec::new());
    for seed in SEEDS {
        let run = matvit::folder(seed);
        let arguments = ["retrieve", &run, "--submodels", QUERIES, "--symmetric"];
        fashion.push(binary.kept(&run, "reproduced-retrieval.json", &arguments, || Ok(()))?);
    }
    for seed in EMOJI_SEEDS {
        let run = format!("runs/emoji-{seed}");
        binary.train(EMOJI, &run, &["--set", &format!("train.seed={seed}")])?;
        let arguments = ["retrieve", &run, "--submodels", ACROSS, "--symmetric", "--across"];
        emoji.push(binary.kept(&run, "reproduced-retrieval.json", &arguments, || Ok(()))?);
    }
    Ok(json!({
        "fashion_mnist": { "config": matvit::CONFIG, "seeds": SEEDS, "runs": fashion },
        "emoji": { "config": EMOJI, "seeds": EMOJI_SEEDS, "runs": emoji },
    }))
}

pub fn tables(document: &Value) -> String {
    let part = |title: &str, name: &str, seeds: &[u64]| {
        let runs = list(&document[name]["runs"]);
        let first = runs.first().unwrap_or(&Value::Null);
        let chance = 100.0 * first["chance"].as_f64().unwrap_or_default();
        let searched = text(&first["searched"]);
        format!("{title}: {searched}; by chance {chance:.2} %.\n\n{}\n", pairs(seeds, runs))
    };
    let fashion = part("Fashion-MNIST", "fashion_mnist", &SEEDS);
    fashion + &part("Emoji across styles", "emoji", &EMOJI_SEEDS)
}

/// A row per pair of encoders.
fn pairs(seeds: &[u64], runs: &[Value]) -> String {
    let columns = ["1-NN %", "above", "mAP %"];
    let head = per_seed(seeds, &["queries by", "gallery by", "query parameters"], &columns);
    let first = list(&runs[0]["results"]);
    let row = |(i, result): (usize, &Value)| {
        let mut row = ["query", "gallery", "query_params"].map(|key| text(&result[key])).to_vec();
        for run in runs {
            let result = &run["results"][i];
            row.push(percent(&result["nearest"]));
            row.push(points(&result["above"]));
            row.push(percent(&result["map"]));
        }
        row
    };
    table(&head, first.iter().enumerate().map(row).collect())
}
