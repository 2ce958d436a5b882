//! The loss of each format on a text.

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use matformer_core::{Submodel, fs};
use matformer_engine::{self as engine, Engine, EngineOptions, Request};
use matformer_runfile::Lm;
use serde::{Deserialize, Serialize};

use super::Bench;
use matformer_run::{Hinted, ModelFolder, OrBadInput, Result};

/// Tokens of the text that count, at most.
const TOKENS: usize = 8192;
/// Tokens of a window, at most.
const WINDOW: usize = 512;
/// Tokens of a prompt that is continued, at most.
pub(super) const PROMPT: usize = 64;
/// Tokens of a pass: as many as go through the products of decoding.
const PASS: usize = 16;

/// Nats per token of a text.
#[derive(Debug, Serialize)]
pub struct Loss {
    /// The text.
    pub text: String,
    /// The size.
    pub submodel: String,
    /// The format of the weights.
    pub dtype: String,
    /// Tokens that were scored.
    pub tokens: usize,
    /// Nats per token.
    pub nats: f64,
    /// Above the first format.
    pub difference: f64,
}

/// A row of a file of prompts; other keys are not read.
#[derive(Deserialize)]
struct Row {
    prompt: String,
}

/// A text as the model reads it.
pub(super) struct Text {
    pub(super) name: String,
    /// Parts of it, each behind the separator: windows of one text, or prompts.
    pub(super) windows: Vec<Vec<u32>>,
    /// What is continued.
    pub(super) prompts: Vec<Vec<u32>>,
}

impl Text {
    pub(super) fn read(path: &Path, folder: &ModelFolder<Lm>) -> Result<Self> {
        let wrong = |found: String, hint: &str| {
            let message = format!("--text: {}: {found}", path.display());
            Err(Hinted { message, hint: hint.to_owned() }).bad_input()
        };
        let text = fs::read_to_string(path).bad_input()?;
        let context = folder.model.config().context;
        let (window, prompt) = (WINDOW.min(context) - 1, PROMPT.min(context / 2).max(2) - 1);
        let tokenizer = folder.tokenizer()?;
        let whole = |ids: &[u32]| [&[tokenizer.bos()], ids].concat();
        let (mut windows, mut prompts) = (Vec::new(), Vec::new());
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            for (number, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
            {
                let row: Row = match serde_json::from_str(line) {
                    Ok(row) => row,
                    Err(error) => {
                        return wrong(
                            format!("line {}: {error}", number + 1),
                            "expected {\"prompt\": \"...\"}",
                        );
                    }
                };
                let ids = tokenizer.encode(&row.prompt)?;
                windows.push(whole(&ids[..ids.len().min(window)]));
                prompts.push(whole(&ids[ids.len().saturating_sub(prompt)..]));
            }
        } else {
            let ids = tokenizer.encode(&text)?;
            windows.extend(ids.chunks(window).map(whole));
            prompts.extend(ids.chunks_exact(prompt).map(whole));
        }
        windows.retain(|window| window.len() > 1);
        // As many as hold the tokens that count.
        let mut tokens = 0;
        let enough = |window: &Vec<u32>| {
            let more = tokens < TOKENS;
            tokens += window.len();
            more
        };
        let windows: Vec<Vec<u32>> = windows.into_iter().take_while(enough).collect();
        if windows.is_empty() || prompts.is_empty() {
            return wrong("too short".to_owned(), "expected a prompt or more");
        }
        let name = path.file_name().map_or_else(String::new, |name| name.display().to_string());
        Ok(Self { name, windows, prompts })
    }
}

pub(super) fn losses(bench: &Bench<'_>, text: &Text) -> Result<Vec<Loss>> {
    bench.sizes.iter().map(|submodel| loss(bench, submodel, text)).collect()
}

fn loss(bench: &Bench<'_>, submodel: &Submodel, text: &Text) -> Result<Loss> {
    let options = EngineOptions {
        capacity: text.windows.iter().map(Vec::len).max(),
        threads: bench.question.threads,
        prefill: PASS,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(&bench.model, &options).bad_input()?;
    let scored = |window: &Vec<u32>| Request {
        prompt_logprobs: Some(0),
        ..Request::new(window.clone(), submodel.clone(), 0)
    };
    let requests: Vec<Request> = text.windows.iter().map(scored).collect();
    let answers =
        engine::generate(&mut engine, &requests, |_, _| ControlFlow::Continue(())).bad_input()?;
    let all = answers.iter().flat_map(|answer| &answer.prompt_logprobs);
    let nats: Vec<f64> = all.map(|logprobs| -f64::from(logprobs.chosen)).collect();
    Ok(Loss {
        text: text.name.clone(),
        submodel: bench.label(submodel),
        dtype: bench.format.to_string(),
        tokens: nats.len(),
        nats: nats.iter().sum::<f64>() / nats.len() as f64,
        difference: 0.0,
    })
}

/// Sets the differences from the first format of each size on each text.
pub(super) fn compare(losses: &mut [Loss]) {
    let mut firsts: HashMap<(String, String), f64> = HashMap::new();
    for loss in losses {
        let of = (loss.text.clone(), loss.submodel.clone());
        loss.difference = loss.nats - *firsts.entry(of).or_insert(loss.nats);
    }
}
