//! `matformer generate`

mod ask;
mod rows;

use std::{ops::ControlFlow, process::ExitCode};

use anyhow::Result;
use matformer::{
    data::TextStream,
    engine::{
        self, Answer, Drafted, Engine, EngineModel, EngineOptions, Finish, Format, Heard, Logprobs,
        Request,
    },
    run::{ModelFolder, kind},
    run_file::RunKind,
};
use serde::Serialize;

use super::{Context, print_json};
use crate::{
    args::GenerateArgs,
    failure::OrBadInput,
    input,
    logging::say,
    output::{self, out},
    progress::progress_bar,
};
use ask::{Ask, Asker};

/// An answer as `--json` and `--prompts` print it.
#[derive(Serialize)]
struct Output {
    submodel: String,
    prompt: String,
    /// What was generated, without the prompt, control tokens and the stop string.
    text: String,
    tokens: Vec<u32>,
    /// `stop` (end of text, or a stop string) or `length`.
    finish_reason: &'static str,
    /// Of each token, with --logprobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Logprobs>,
    /// What drafting came to, with --draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    drafted: Option<Drafted>,
}

pub fn run(args: &GenerateArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "generate")?;
    let rows = args.prompts.as_deref().map(rows::read).transpose()?;
    let prompt = match (&args.prompt, &rows) {
        (Some(prompt), _) => prompt.clone(),
        (None, None) => input::piped("prompt", "--prompt TEXT or --prompts FILE")?,
        (None, Some(_)) => String::new(),
    };
    let dtype = args.dtype.unwrap_or_else(|| Format::default_on(&context.session.device));
    let (folder, model) = ModelFolder::open(&args.model, &context.session, dtype)?;
    let tokenizer = folder.tokenizer()?;
    let asker = Asker::new(&folder, &tokenizer, args)?;
    match rows {
        Some(rows) => rows::run(&asker, rows, &model, args.slots),
        None => one(&asker, asker.ask(&prompt)?, &model, context.json),
    }
}

/// An engine with room for requests, so many at a time.
fn engine(model: &EngineModel, requests: &[Request], slots: usize) -> Result<Engine> {
    let tokens =
        |request: &Request| request.prompt.len().saturating_add(request.max_new_tokens.max(1));
    let options = EngineOptions {
        slots: slots.min(requests.len()).max(1),
        capacity: requests.iter().map(tokens).max(),
        ..EngineOptions::default()
    };
    Engine::new(model, &options).bad_input()
}

fn one(asker: &Asker<'_>, ask: Ask, model: &EngineModel, json: bool) -> Result<ExitCode> {
    let Ask { prompt, request, stops } = ask;
    let requests = [request];
    let mut engine = engine(model, &requests, 1)?;
    let [request] = &requests;
    // Before anything is printed.
    engine.check(request).bad_input()?;
    let mut stream = TextStream::new(asker.tokenizer, &request.prompt, &stops);
    let mut text = String::new();
    let mut printed = if json { Ok(()) } else { output::text(&prompt) };
    let answers = engine::generate(&mut engine, &requests, |_, heard| {
        let Heard::Token(token) = heard else { return ControlFlow::Continue(()) };
        let piece = stream.push(token).map_err(anyhow::Error::from);
        printed = std::mem::replace(&mut printed, Ok(())).and(piece).and_then(|piece| {
            text += &piece;
            if json { Ok(()) } else { output::text(&piece) }
        });
        if stream.is_stopped() || printed.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .bad_input()?;
    printed?;
    let rest = stream.finish()?;
    text += &rest;
    let Some(answer) = answers.into_iter().next() else { unreachable!("one request, one answer") };
    let reason = answer.reason;
    let tokens = answer.tokens.len();
    if json {
        return print_json(&asker.output(prompt, request, text, answer));
    }
    out!("{rest}")?;
    if reason == Finish::Context {
        say!(
            "note: {tokens} of {} tokens: the context, which holds {}, is full",
            request.max_new_tokens,
            model.config().context
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Asker<'_> {
    fn output(&self, prompt: String, request: &Request, text: String, answer: Answer) -> Output {
        Output {
            submodel: self.folder.space().label(&request.submodel),
            prompt,
            text,
            tokens: answer.tokens,
            finish_reason: if answer.reason == Finish::Stop { "stop" } else { "length" },
            logprobs: answer.logprobs,
            drafted: request.draft.is_some().then_some(answer.drafted),
        }
    }
}
