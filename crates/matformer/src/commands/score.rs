//! `matformer score`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    data::Tokenizer,
    lm,
    run::{ModelFolder, kind},
    run_file::{Lm, RunKind},
};
use serde::Serialize;

use super::{Context, show};
use crate::{args::ScoreArgs, failure::OrBadInput, input, output::out};

/// `score --json`: stable.
#[derive(Serialize)]
struct Scored {
    submodel: String,
    /// `<|endoftext|>`, then the text.
    tokens: Vec<u32>,
    /// Natural log-probability of each token given the ones before it; null for the first.
    logprobs: Vec<Option<f32>>,
}

pub fn run(args: &ScoreArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "score")?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => input::piped("text", "--text TEXT")?,
    };
    let folder = ModelFolder::<Lm>::load(&args.model, &context.session)?;
    let submodel = folder.submodel(args.submodel.as_ref())?;
    let tokenizer = folder.tokenizer()?;
    let mut tokens = vec![tokenizer.bos()];
    tokens.extend(tokenizer.encode(&text)?);
    let logprobs = lm::score(&folder.model, &submodel, &tokens).bad_input()?;
    let scored = Scored { submodel: folder.space().label(&submodel), tokens, logprobs };
    show(context.json, &scored, |scored| print(scored, &tokenizer, &text))
}

fn print(found: &Scored, tokenizer: &Tokenizer, text: &str) -> Result<()> {
    let Scored { submodel: label, tokens, logprobs } = found;
    out!("{:>10}  token", "logprob")?;
    for (i, logprob) in logprobs.iter().enumerate() {
        let logprob = logprob.map_or("-".to_owned(), |l| format!("{l:.4}"));
        out!("{logprob:>10}  {:?}", tokenizer.decode_one(tokens, i)?)?;
    }
    let nats = -logprobs.iter().flatten().copied().map(f64::from).sum::<f64>();
    let scored = logprobs.iter().flatten().count();
    out!("{label}: {scored} tokens, {nats:.3} nats")?;
    if !text.is_empty() {
        let bits = nats / std::f64::consts::LN_2 / text.len() as f64;
        out!("{:.4} nats per token, {bits:.4} bits per byte", nats / scored.max(1) as f64)?;
    }
    Ok(())
}
