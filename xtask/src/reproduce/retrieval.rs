//! Adaptive retrieval: one gallery, queries by every size.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, SEEDS, matvit,
    page::{list, per_seed, percent, points, table, text},
    stamp,
};

/// The emoji are few, and one seed takes 25 minutes.
const EMOJI_SEEDS: [u64; 1] = [0];
const EMOJI: &str = "configs/vit/emoji.toml";
/// Granularities, and half of the layers of one with half of the next.
const QUERIES: &str = "S,48x3+96x3,M,96x3+192x3,L,192x3+384x3,XL";
const ACROSS: &str = "S,96x3+192x3,M,192x3+384x3,L,384x3+768x3,XL";

/// Fashion-MNIST with the runs and baselines of the page on accuracy; emoji across styles.
pub fn document(binary: &Binary) -> Result<Value> {
    let (mut fashion, mut emoji, mut emoji_trained) = (Vec::new(), Vec::new(), Vec::new());
    for seed in SEEDS {
        let run = matvit::folder(seed);
        let arguments = ["retrieve", &run, "--submodels", QUERIES, "--symmetric"];
        fashion.push(binary.kept(&[&run], "reproduced-retrieval.json", &arguments, || Ok(()))?);
    }
    for seed in EMOJI_SEEDS {
        let run = format!("runs/emoji-{seed}");
        let trained = binary.train(EMOJI, &run, &["--set", &format!("train.seed={seed}")])?;
        let arguments = ["retrieve", &run, "--submodels", ACROSS, "--symmetric", "--across"];
        let kept = binary.kept(&[&run], "reproduced-retrieval.json", &arguments, || Ok(()))?;
        emoji.push(kept);
        emoji_trained.push(trained);
    }
    Ok(json!({
        "fashion_mnist": { "config": matvit::CONFIG, "seeds": SEEDS, "runs": fashion },
        "emoji": { "config": EMOJI, "seeds": EMOJI_SEEDS, "runs": emoji,
                   "trained_stamps": emoji_trained },
    }))
}

pub fn tables(document: &Value) -> String {
    let part = |title: &str, name: &str, seeds: &[u64]| {
        let runs = list(&document[name]["runs"]);
        let first = runs.first().unwrap_or(&Value::Null);
        let chance = 100.0 * first["chance"].as_f64().unwrap_or_default();
        let searched = text(&first["searched"]);
        let of_seeds = |what: &str, stamps: Vec<&Value>| {
            stamp::line(what, seeds.iter().map(|seed| format!("seed {seed}")).zip(stamps))
        };
        let measured = of_seeds("Measured", runs.iter().map(|run| &run["stamp"]).collect());
        let trained = of_seeds("Trained", list(&document[name]["trained_stamps"]).iter().collect());
        let table = pairs(seeds, runs);
        format!("{title}: {searched}; by chance {chance:.2} %.\n\n{table}\n{measured}{trained}\n")
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
