//! `matformer report`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Submodel, curve, fs, mix},
    data::Baselines,
    eval::{
        EvalResults, Evaluation,
        report::{HeldOutPoint, ReportData, Sample, TrainPoint, curve as curve_svg, render},
        stats,
    },
    lm::{GenerateOptions, generate},
    train::{MetricsLine, MetricsLog},
};
use serde::{Deserialize, Serialize};

use super::{Context, count, eval, print_json};
use crate::{
    args::ReportArgs, failure::OrBadInput, folder::ModelFolder, logging::say, output::out,
};

/// What the page is made of, kept beside it: measured once for the same weights and tokens.
#[derive(Serialize, Deserialize)]
struct Measured {
    weights: String,
    tokens_asked: Option<usize>,
    results: EvalResults,
    gaps: Vec<Gap>,
    /// In-between submodels that lie outside the two granularities that they mix by more than
    /// two paired standard errors.
    outside: Vec<String>,
    in_between: usize,
    baselines: Baselines,
}

/// Loss of a granularity above that of the next wider one, paired by document.
#[derive(Serialize, Deserialize)]
struct Gap {
    narrow: String,
    wide: String,
    diff: f64,
    stderr: Option<f64>,
}

impl Gap {
    fn exceeds_two_errors(&self) -> bool {
        self.stderr.is_some_and(|stderr| self.diff > 2.0 * stderr)
    }
}

const PROMPT: &str = "fn main() {";

/// What to do with a folder that names no data.
const DATA_HINT: &str = "report needs the folder of a run; `matformer eval` measures any model \
                         folder, with the data that --data names";

pub fn run(args: &ReportArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::load(&args.run, &context.device)?;
    let dir = args.run.join("report");
    let kept = dir.join("measured.json");
    let page = dir.join("index.html");
    let measured = match reusable(&kept, &folder, args.tokens) {
        Some(measured) => {
            say!("{}: measured before, reused", kept.display());
            measured
        }
        None => measure(&folder, args.tokens)?,
    };
    let data = report_data(&folder, &measured)?;
    let (html, curve) = (render(&data)?, curve_svg(&data)?);
    fs::create_dir_all(&dir)?;
    fs::write_atomic(&kept, serde_json::to_string_pretty(&measured)?.as_bytes())?;
    fs::write_atomic(&page, html.as_bytes())?;
    fs::write_atomic(dir.join("curve.svg"), curve.as_bytes())?;
    if context.json {
        return print_json(&serde_json::json!({ "report": page, "measured": measured }));
    }
    print(&measured, &page)?;
    Ok(ExitCode::SUCCESS)
}

fn reusable(kept: &PathBuf, folder: &ModelFolder, tokens: Option<usize>) -> Option<Measured> {
    let measured: Measured = serde_json::from_slice(&fs::read(kept).ok()?).ok()?;
    let same =
        measured.weights == folder.manifest.weights_sha256 && measured.tokens_asked == tokens;
    same.then_some(measured)
}

/// The whole Mix'n'Match curve on held-out text.
fn measure(folder: &ModelFolder, tokens: Option<usize>) -> Result<Measured> {
    let prepared = folder.own_data(DATA_HINT)?;
    let space = folder.space();
    let evaluation = eval::measure(folder, &prepared, &curve(space), tokens)?;
    let results = EvalResults::new(
        &folder.dir.display().to_string(),
        &prepared.data_hash().to_string(),
        &evaluation,
        space,
        &folder.costs,
        Some(&space.largest()),
    )?;
    let uniforms = space.uniforms();
    let gaps = uniforms
        .windows(2)
        .map(|pair| {
            let difference =
                stats::difference(evaluation.losses(&pair[0])?, evaluation.losses(&pair[1])?)?;
            Ok(Gap {
                narrow: space.label(&pair[0]),
                wide: space.label(&pair[1]),
                diff: difference.value,
                stderr: difference.stderr,
            })
        })
        .collect::<Result<_>>()?;
    let in_between = mix::in_between(space);
    let mut outside = Vec::new();
    for submodel in &in_between {
        if !lies_between(&evaluation, space, submodel)? {
            outside.push(space.label(submodel));
        }
    }
    let held_out = prepared.held_out().bad_input()?;
    let held_out = match tokens {
        Some(tokens) => held_out.take(tokens),
        None => held_out,
    };
    Ok(Measured {
        weights: folder.manifest.weights_sha256.clone(),
        tokens_asked: tokens,
        results,
        gaps,
        outside,
        in_between: in_between.len(),
        baselines: prepared.baselines(&held_out)?,
    })
}

/// Whether a submodel's loss is between those of the granularities that it mixes, within two
/// paired standard errors.
fn lies_between(
    evaluation: &Evaluation,
    space: &matformer::core::Space,
    submodel: &Submodel,
) -> Result<bool> {
    let Some((narrow, wide)) = mix::neighbours(space, submodel) else {
        return Ok(true);
    };
    let ours = evaluation.losses(submodel)?;
    let above_wide = stats::difference(ours, evaluation.losses(&wide)?)?;
    let below_narrow = stats::difference(evaluation.losses(&narrow)?, ours)?;
    // A single document gives no error to judge by.
    let fits = |d: &stats::Estimate| d.stderr.is_none_or(|stderr| d.value > -2.0 * stderr);
    Ok(fits(&above_wide) && fits(&below_narrow))
}

fn report_data(folder: &ModelFolder, measured: &Measured) -> Result<ReportData> {
    let (c, manifest) = (folder.model.config(), &folder.manifest);
    let facts = [
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
    ];
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    let lines = match folder.dir.join(MetricsLog::FILE).exists() {
        true => MetricsLog::read(&folder.dir).bad_input()?,
        false => Vec::new(),
    };
    for line in lines {
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
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        results: measured.results.clone(),
        granularities: folder
            .space()
            .granularities
            .names()
            .iter()
            .map(|n| (*n).to_owned())
            .collect(),
        train,
        held_out,
        baselines: Some(measured.baselines),
        sample: Some(sample(folder)?),
    })
}

fn sample(folder: &ModelFolder) -> Result<Sample> {
    let (tokenizer, largest) = (folder.tokenizer()?, folder.space().largest());
    let mut prompt = vec![tokenizer.bos()];
    prompt.extend(tokenizer.encode(PROMPT)?);
    let options =
        GenerateOptions { max_new_tokens: 64, stop: Some(tokenizer.eos()), ..Default::default() };
    let results =
        generate(&folder.model, &[prompt], std::slice::from_ref(&largest), &options, |_, _| {})?;
    let tokens = results.into_iter().next().unwrap_or_default().tokens;
    Ok(Sample {
        submodel: folder.space().label(&largest),
        prompt: PROMPT.to_owned(),
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
    out!("gaps: {}", gaps.join(", "))?;
    match &measured.outside[..] {
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
