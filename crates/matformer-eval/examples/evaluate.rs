//! Measures every size of an untrained model on a few texts, prints the results as JSON, and writes
//! the report: `cargo run -p matformer-eval --example evaluate -- page.html`

use burn::tensor::Device;
use matformer_core::{fs, mix};
use matformer_data::{DataConfig, prepare};
use matformer_eval::{
    EvalResults, WINDOWS, evaluate,
    report::{ReportData, compare, render},
};
use matformer_lm::{MatLm, MatLmConfig, costs};
use matformer_nn::Elastic;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let page = std::env::args_os().nth(1).ok_or("usage: evaluate PAGE.html")?;
    let folder = tempfile::tempdir()?;
    for chapter in 0..40 {
        let text = format!("Chapter {chapter}. It was a bright cold day in April. ").repeat(20);
        std::fs::write(folder.path().join(format!("{chapter}.txt")), text)?;
    }
    let data = DataConfig {
        paths: vec![folder.path().into()],
        vocab_size: 300,
        held_out: 0.25,
        ..DataConfig::default()
    };
    let prepared = prepare(&data, &folder.path().join(".cache"), &mut |_| {})?;
    let held_out = prepared.held_out()?;

    let config = MatLmConfig {
        vocab_size: 300,
        d_model: 64,
        d_ff: 256,
        n_layers: 3,
        context: 64,
        ..MatLmConfig::default()
    };
    let model = MatLm::new(&config, 0, &Device::flex())?;
    let space = model.space();
    let mut progress = |done, total| eprint!("\r{done} of {total} tokens");
    let curve = mix::curve(space);
    let evaluation =
        evaluate(&model, &held_out, model.config().context, &curve, WINDOWS, &mut progress)?;
    eprintln!();

    let hash = prepared.data_hash().to_string();
    let largest = space.largest();
    let results =
        EvalResults::new("untrained", &hash, &evaluation, space, &costs(&config), Some(&largest))?;
    println!("{}", serde_json::to_string_pretty(&results)?);

    let floor = compare(&prepared.baselines(&held_out)?, &results);
    let report = ReportData {
        title: "An untrained model".into(),
        facts: vec![("Training".into(), "none".into())],
        results,
        granularities: space.granularities.names().into_iter().map(String::from).collect(),
        train: Vec::new(),
        held_out: Vec::new(),
        floor: Some(floor),
        alone: Vec::new(),
        retrieval: Vec::new(),
        found: Vec::new(),
        stages: None,
        consistency: None,
        sample: None,
    };
    fs::write_atomic(page, render(&report)?.as_bytes())?;
    Ok(())
}
