//! `matformer generate`

use std::{ops::ControlFlow, process::ExitCode};

use anyhow::Result;
use matformer::{
    data::TextStream,
    engine::{self, EngineModel, Finish, Format, Heard, Sampling},
    run::{
        Error, ModelFolder,
        generate::{Ask, Asker, Options, answer, engine, read},
        kind,
    },
    run_file::RunKind,
};

use super::{Context, print_json};
use crate::{
    args::GenerateArgs,
    failure::{Hinted, OrBadInput},
    input,
    logging::say,
    output::{self, out},
    progress::progress_bar,
};

pub fn run(args: &GenerateArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "generate")?;
    if args.logprobs.is_some() && args.prompts.is_none() && !context.json {
        return Err(Hinted {
            message: "--logprobs: text has no room for them".to_owned(),
            hint: "add --json, or give prompts as --prompts FILE".to_owned(),
        })
        .bad_input();
    }
    let rows = args.prompts.as_deref().map(read).transpose()?;
    let prompt = match (&args.prompt, &rows) {
        (Some(prompt), _) => prompt.clone(),
        (None, None) => input::piped("prompt", "--prompt TEXT or --prompts FILE")?,
        (None, Some(_)) => String::new(),
    };
    let dtype = args.dtype.unwrap_or_else(|| Format::default_on(&context.session.device));
    let (folder, model) = ModelFolder::open(&args.model, &context.session, dtype)?;
    let tokenizer = folder.tokenizer()?;
    let options = options(args);
    let asker = Asker::new(&folder, &tokenizer, &options)?;
    let Some(rows) = rows else {
        return one(&asker, asker.ask(&prompt)?, &model, context.json);
    };
    let bar = progress_bar("generating");
    bar.set_length(rows.len() as u64);
    let answered = answer(&asker, rows, (&model, args.slots), &mut |output| {
        bar.inc(1);
        let line = serde_json::to_string(output)?;
        bar.suspend(|| out!("{line}")).map_err(Error::failed)
    });
    bar.finish_and_clear();
    answered?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &GenerateArgs) -> Options {
    let s = &args.sampling;
    Options {
        submodel: args.submodel.clone(),
        draft: args.draft.clone(),
        draft_len: args.draft_len,
        draft_min_p: args.draft_min_p,
        policy: args.policy.clone(),
        sampling: Sampling {
            temperature: s.temperature,
            top_k: s.top_k,
            top_p: s.top_p,
            min_p: s.min_p,
            repetition_penalty: s.repetition_penalty,
            frequency_penalty: s.frequency_penalty,
            presence_penalty: s.presence_penalty,
            logit_bias: s.logit_bias.clone(),
            seed: s.seed,
        },
        max_new_tokens: args.max_tokens,
        stops: args.stop.clone(),
        logprobs: args.logprobs,
    }
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
