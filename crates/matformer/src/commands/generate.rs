//! `matformer generate`

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use matformer::lm::{self, GenerateOptions};
use serde::Serialize;

use super::{Context, print_json};
use crate::{args::GenerateArgs, failure::OrBadInput, folder::ModelFolder};

/// `generate --json`.
#[derive(Serialize)]
struct Output {
    submodel: String,
    prompt: String,
    /// What was generated, without the prompt.
    text: String,
    tokens: Vec<u32>,
    /// `stop` (end of text) or `length`.
    finish_reason: &'static str,
}

pub fn run(args: &GenerateArgs, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::load(&args.model, &context.device)?;
    let submodel = folder.submodel(args.submodel.as_ref())?;
    let tokenizer = folder.tokenizer()?;
    let mut prompt = vec![tokenizer.bos()];
    prompt.extend(tokenizer.encode(&args.prompt)?);
    let options = GenerateOptions {
        max_new_tokens: args.max_tokens,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
        stop: Some(tokenizer.eos()),
    };
    // Prompt and text come out as soon as they are whole: a character may take several tokens.
    let mut shown = String::new();
    let mut so_far: Vec<u32> = Vec::new();
    let stream = !context.json;
    let results = lm::generate(
        &folder.model,
        &[prompt],
        std::slice::from_ref(&submodel),
        &options,
        |_, token| {
            so_far.push(token);
            let Ok(text) = tokenizer.decode(&so_far) else { return };
            let text = args.prompt.clone() + &text;
            if !stream || text.ends_with('\u{fffd}') || !text.starts_with(&shown) {
                return;
            }
            print!("{}", &text[shown.len()..]);
            // A reader that has gone away is noticed at the next line.
            let _ = std::io::stdout().flush();
            shown = text;
        },
    )
    .bad_input()?;
    let generated = results.into_iter().next().unwrap_or_default();
    let text = tokenizer.decode(&generated.tokens)?;
    if context.json {
        return print_json(&Output {
            submodel: folder.space().label(&submodel),
            prompt: args.prompt.clone(),
            text,
            tokens: generated.tokens,
            finish_reason: if generated.stopped { "stop" } else { "length" },
        });
    }
    println!("{}", (args.prompt.clone() + &text).strip_prefix(&shown).unwrap_or(""));
    Ok(ExitCode::SUCCESS)
}
