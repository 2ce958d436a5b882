//! `matformer bench decode`: how fast a model generates, at each size, in each format, for one text and for several;
//! what a format costs in loss; what speculation gives.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::Result;
use matformer::{
    bench::decode::{Found, PROMPT, Question, measure},
    run::kind,
    run_file::RunKind,
};

use crate::{
    args::DecodeArgs,
    commands::{Context, show},
    output::out,
};

pub(super) fn run(args: &DecodeArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "bench decode")?;
    let question = Question {
        model: args.model.clone(),
        submodels: args.submodels.clone(),
        formats: args.dtype.clone(),
        batch: args.batch.clone(),
        tokens: args.tokens,
        prefill: args.prefill,
        text: args.text.clone(),
        prompts: args.prompts,
        rounds: args.rounds,
        threads: args.threads,
    };
    let found = measure(&question, &context.session)?;
    show(context.json, &found, print)
}

fn print(found: &Found) -> Result<()> {
    out!("{}, {}", found.device, found.machine)?;
    if let Some(rate) = found.bandwidth_gb_s {
        out!("memory is read at {rate:.1} GB/s")?;
    }
    out!(
        "{} new tokens behind {PROMPT} of prompt, of several texts also fewer behind more; medians",
        found.tokens
    )?;
    out!("submodel  format  texts  tokens/s  of bandwidth  first token")?;
    for row in &found.rows {
        let share = row.percent_of_bandwidth.map_or("-".to_owned(), |p| format!("{p:.0} %"));
        out!(
            "{:8}  {:6}  {:5}  {:8.1}  {:>12}  {:8.1} ms",
            row.submodel,
            row.dtype,
            row.batch,
            row.tokens_per_second,
            share,
            row.first_token_ms
        )?;
    }
    out!("\nsubmodel  format  prompt  tokens/s read  a pass of 2, 4, 8, 16 tokens over one of 1")?;
    for (row, verify) in found.prefill.iter().zip(&found.verify) {
        let v = [2, 4, 8, 16].iter().filter_map(|k| verify.v.get(k - 1));
        let v: String = v.map(|v| format!("  {v:.2}")).collect();
        out!(
            "{:8}  {:6}  {:6}  {:13.1}{v}",
            row.submodel,
            row.dtype,
            row.tokens,
            row.tokens_per_second
        )?;
    }
    for row in &found.mixed {
        out!(
            "\n{}: a step of {} texts of {} sizes: {:.2} ms, {:.2} of what steps of one size predict; \
             another size: {:.1} µs",
            row.dtype,
            row.submodels.len(),
            distinct(&row.submodels),
            row.step_ms,
            row.ratio,
            row.resize_us
        )?;
    }
    if !found.loss.is_empty() {
        out!("\nsubmodel  format  tokens  nats per token  above the first format  text")?;
    }
    for row in &found.loss {
        out!(
            "{:8}  {:6}  {:6}  {:14.4}  {:+22.4}  {}",
            row.submodel,
            row.dtype,
            row.tokens,
            row.nats,
            row.difference,
            row.text
        )?;
    }
    if !found.speculation.is_empty() {
        out!("\nverifier  draft  format  cache   drafted  kept  speed-up  by the formula  text")?;
    }
    for row in &found.speculation {
        out!(
            "{:8}  {:5}  {:6}  {:6}  {:>7}  {:3.0} %  {:8.2}  {:>14}  {}",
            row.verifier,
            row.draft,
            row.dtype,
            row.cache,
            row.k.map_or("auto".to_owned(), |k| k.to_string()),
            100.0 * row.acceptance,
            row.measured,
            row.predicted.map_or("-".to_owned(), |p| format!("{p:.2}")),
            row.text
        )?;
    }
    Ok(())
}

fn distinct(labels: &[String]) -> usize {
    labels.iter().collect::<BTreeSet<_>>().len()
}
