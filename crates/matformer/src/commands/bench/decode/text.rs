//! The loss of each format on a text.

use std::{ops::ControlFlow, path::Path};

use anyhow::Result;
use matformer::{
    core::{Submodel, fs},
    engine::{self, Engine, EngineOptions, Request},
    run_file::Lm,
};
use serde::Serialize;

use super::Bench;
use crate::{
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
};

/// Tokens of the text that count, at most.
const TOKENS: usize = 8192;
/// Tokens of a window, at most.
const WINDOW: usize = 512;
/// Tokens of a pass: as many as go through the products of decoding.
const PASS: usize = 16;

/// Nats per token of a text.
#[derive(Serialize)]
pub(super) struct Loss {
    pub(super) submodel: String,
    pub(super) dtype: String,
    pub(super) tokens: usize,
    pub(super) nats: f64,
    /// Above the first format.
    pub(super) difference: f64,
}

/// A text as the model reads it: windows of tokens, each behind the separator.
pub(super) struct Text {
    pub(super) windows: Vec<Vec<u32>>,
}

impl Text {
    pub(super) fn read(path: &Path, folder: &ModelFolder<Lm>) -> Result<Self> {
        let text = fs::read_to_string(path).bad_input()?;
        let tokenizer = folder.tokenizer()?;
        let mut ids = tokenizer.encode(&text)?;
        ids.truncate(TOKENS);
        let window = WINDOW.min(folder.model.config().context) - 1;
        let windows = ids.chunks(window).filter(|window| window.len() > 1);
        let windows: Vec<Vec<u32>> =
            windows.map(|window| [&[tokenizer.bos()], window].concat()).collect();
        if windows.is_empty() {
            return Err(Hinted {
                message: format!("--text: {}: {} tokens", path.display(), ids.len()),
                hint: "expected 2 or more".to_owned(),
            })
            .bad_input();
        }
        Ok(Self { windows })
    }
}

pub(super) fn losses(bench: &Bench<'_>, text: &Text) -> Result<Vec<Loss>> {
    bench.sizes.iter().map(|submodel| loss(bench, submodel, text)).collect()
}

fn loss(bench: &Bench<'_>, submodel: &Submodel, text: &Text) -> Result<Loss> {
    let options = EngineOptions {
        capacity: text.windows.iter().map(Vec::len).max(),
        threads: bench.args.threads,
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
        submodel: bench.label(submodel),
        dtype: bench.format.to_string(),
        tokens: nats.len(),
        nats: nats.iter().sum::<f64>() / nats.len() as f64,
        difference: 0.0,
    })
}

/// Sets the differences from the first format of each size.
pub(super) fn compare(losses: &mut [Loss]) {
    let firsts: Vec<(String, f64)> = {
        let mut firsts: Vec<(String, f64)> = Vec::new();
        for loss in losses.iter() {
            if firsts.iter().all(|(submodel, _)| *submodel != loss.submodel) {
                firsts.push((loss.submodel.clone(), loss.nats));
            }
        }
        firsts
    };
    for loss in losses {
        let first = firsts.iter().find(|(submodel, _)| *submodel == loss.submodel);
        loss.difference = loss.nats - first.map_or(loss.nats, |(_, nats)| *nats);
    }
}
