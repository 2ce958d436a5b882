//! `matformer report`

mod measured;
mod overlay;

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::fs,
    eval::report::{HeldOutPoint, ReportData, Sample, TrainPoint, curve as curve_svg, render},
    lm::{GenerateOptions, generate},
    train::{MetricsLine, MetricsLog},
};

use super::{Context, count, eval, print_json};
use crate::{args::ReportArgs, failure::OrBadInput, folder::ModelFolder, output::out};
use measured::{Measured, measured};

pub fn run(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let [run] = &args.runs[..] else {
        return overlay::run(args, context);
    };
    let folder = ModelFolder::load(run, &context.device)?;
    let measured = measured(&folder, args.tokens)?;
    let data = report_data(&folder, &measured)?;
    let (html, curve) = (render(&data)?, curve_svg(&data)?);
    let dir = run.join("report");
    let page = dir.join("index.html");
    fs::write_atomic(&page, html.as_bytes())?;
    fs::write_atomic(dir.join("curve.svg"), curve.as_bytes())?;
    if context.json {
        let mut measured = serde_json::to_value(&measured)?;
        if let Some(fields) = measured.as_object_mut() {
            // Another report's business, and long.
            fields.remove("documents");
        }
        return print_json(
            &serde_json::json!({ "report": page.display().to_string(), "measured": measured }),
        );
    }
    print(&measured, &page)?;
    Ok(ExitCode::SUCCESS)
}

fn report_data(folder: &ModelFolder, measured: &Measured) -> Result<ReportData> {
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for line in metrics(folder)? {
        match line {
            MetricsLine::Train(t) => {
                let point = |(label, loss)| TrainPoint { step: t.step, label, loss };
                train.extend(t.loss.into_iter().map(point));
            }
            MetricsLine::HeldOut(h) => {
                let point = |(name, loss)| HeldOutPoint { step: h.step, name, loss };
                held_out.extend(h.held_out.into_iter().map(point));
            }
            MetricsLine::Skipped(_) => {}
        }
    }
    Ok(ReportData {
        title: format!("{}: accuracy against cost", folder.dir.display()),
        facts: facts(folder),
        results: measured.results.clone(),
        granularities: granularities(folder),
        train,
        held_out,
        baselines: Some(measured.baselines),
        sample: Some(sample(folder, &measured.prompt)?),
    })
}

/// What a run is, by name.
fn facts(folder: &ModelFolder) -> Vec<(String, String)> {
    let (c, manifest) = (folder.model.config(), &folder.manifest);
    [
        (
            "shape",
            format!(
                "d_model {}, {} layers, {} heads, d_ff {}, vocabulary {}, context {}",
                c.d_model, c.n_layers, c.n_heads, c.d_ff, c.vocab_size, c.context
            ),
        ),
        ("steps", manifest.provenance.steps.to_string()),
        ("training tokens", count(manifest.provenance.tokens as f64)),
        ("draw", manifest.objective.to_string()),
        ("weights", manifest.weights_sha256.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn granularities(folder: &ModelFolder) -> Vec<String> {
    folder.space().granularities.names().iter().map(|name| (*name).to_owned()).collect()
}

/// What the run logged; nothing for a folder without a log.
fn metrics(folder: &ModelFolder) -> Result<Vec<MetricsLine>> {
    match folder.dir.join(MetricsLog::FILE).exists() {
        true => MetricsLog::read(&folder.dir).bad_input(),
        false => Ok(Vec::new()),
    }
}

fn sample(folder: &ModelFolder, begin: &str) -> Result<Sample> {
    let (tokenizer, largest) = (folder.tokenizer()?, folder.submodel(None)?);
    let mut typed = tokenizer.encode(begin)?;
    // A short context keeps room for what is generated.
    typed.truncate(folder.model.config().context / 2);
    let prompt = [&[tokenizer.bos()], &typed[..]].concat();
    let options =
        GenerateOptions { max_new_tokens: 64, stop: Some(tokenizer.eos()), ..Default::default() };
    let results =
        generate(&folder.model, &[prompt], std::slice::from_ref(&largest), &options, |_, _| {})?;
    let tokens = results.into_iter().next().unwrap_or_default().tokens;
    Ok(Sample {
        submodel: folder.space().label(&largest),
        prompt: tokenizer.decode(&typed)?,
        text: tokenizer.decode(&tokens)?,
    })
}

fn print(measured: &Measured, page: &std::path::Path) -> Result<()> {
    eval::print(&measured.results, &[])?;
    let gaps: Vec<String> = measured
        .gaps
        .iter()
        .map(|g| {
            let stderr = g.stderr.map_or(String::new(), |s| format!(" ± {s:.4}"));
            let verdict = match g.stderr.is_none() || g.exceeds_two_errors() {
                true => "",
                false => " (not above two errors)",
            };
            format!("{} − {} {:.4}{stderr}{verdict}", g.narrow, g.wide, g.diff)
        })
        .collect();
    if !gaps.is_empty() {
        out!("gaps: {}", gaps.join(", "))?;
    }
    match &measured.outside[..] {
        _ if measured.in_between == 0 => {}
        _ if measured.gaps.iter().any(|g| g.stderr.is_none()) => {
            out!("one document gives no standard error: nothing is compared")?;
        }
        [] => out!(
            "all {} in-between submodels lie between the granularities that they mix",
            measured.in_between
        )?,
        outside => out!(
            "outside the granularities that they mix by more than two errors: {}",
            outside.join(", ")
        )?,
    }
    let b = &measured.baselines;
    let best = measured.results.results.iter().map(|r| r.bits_per_byte).fold(f64::MAX, f64::min);
    out!(
        "bits per byte of the same text: byte unigram {:.3}, gzip -9 per file {:.3}, best submodel {best:.3}{}",
        b.byte_unigram,
        b.gzip,
        if b.gzip < best { ": gzip wins" } else { "" }
    )?;
    out!("report: {}", page.display())
}
