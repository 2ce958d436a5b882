//! `matformer generate`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    engine::{self, Draft, DraftLen, Drafted, EngineOptions, Finish, Request, Sampling},
    run_file::{Lm, RunKind},
};
use serde::Serialize;

use super::{Context, print_json};
use crate::{
    args::GenerateArgs,
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, ends},
    logging::say,
    output::{self, out},
};

/// Tokens that are drafted at a time, at most, where as many are as pay.
const MOST_DRAFTED: usize = 8;

/// `generate --json`.
#[derive(Serialize)]
struct Output {
    submodel: String,
    prompt: String,
    /// What was generated, without the prompt and without control tokens.
    text: String,
    tokens: Vec<u32>,
    /// `stop` (end of text) or `length`.
    finish_reason: &'static str,
    /// What drafting came to, with --draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    drafted: Option<Drafted>,
}

pub fn run(args: &GenerateArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "generate")?;
    let folder = ModelFolder::<Lm>::load(&args.model, &context.device)?;
    let submodel = folder.submodel(args.submodel.as_ref())?;
    let tokenizer = folder.tokenizer()?;
    let typed = tokenizer.encode(&args.prompt)?;
    let context_len = folder.model.config().context;
    // The separator in front, and at least one new token.
    let room = context_len.saturating_sub(2);
    if typed.len() > room {
        return Err(Hinted {
            message: format!(
                "--prompt: {} tokens, expected at most {room}: the context holds {context_len}",
                typed.len()
            ),
            hint: "with the separator in front of the prompt and a first new token".to_owned(),
        })
        .bad_input();
    }
    let prompt = [vec![tokenizer.bos()], typed].concat();
    let request = Request {
        sampling: Sampling {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            seed: args.seed,
            ..Sampling::default()
        },
        stop: ends(&folder.model, &tokenizer),
        draft: draft(args, &folder)?,
        ..Request::new(prompt.clone(), submodel.clone(), args.max_tokens)
    };
    let options = EngineOptions { format: args.dtype, ..EngineOptions::default() };
    // Prompt and text come out as soon as they are whole: a character may take several tokens.
    let mut shown = String::new();
    let mut so_far: Vec<u32> = Vec::new();
    let mut printed = Ok(());
    let stream = !context.json;
    let answers = engine::generate(&folder.model, &[request], &options, |_, token| {
        so_far.push(token);
        let Ok(text) = tokenizer.continuation(&prompt, &so_far) else { return };
        let text = args.prompt.clone() + &text;
        if !stream || text.ends_with('\u{fffd}') || printed.is_err() {
            return;
        }
        printed = output::text(added(&shown, &text));
        shown = text;
    })
    .bad_input()?;
    printed?;
    let Some(answer) = answers.into_iter().next() else { unreachable!("one request, one answer") };
    let text = tokenizer.continuation(&prompt, &answer.tokens)?;
    if context.json {
        return print_json(&Output {
            submodel: folder.space().label(&submodel),
            prompt: args.prompt.clone(),
            text,
            tokens: answer.tokens,
            finish_reason: if answer.reason == Finish::Stop { "stop" } else { "length" },
            drafted: args.draft.is_some().then_some(answer.drafted),
        });
    }
    out!("{}", added(&shown, &(args.prompt.clone() + &text)))?;
    if answer.reason == Finish::Context {
        say!(
            "note: {} of {} tokens: the context, which holds {context_len}, is full",
            answer.tokens.len(),
            args.max_tokens
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What drafts, if anything does.
fn draft(args: &GenerateArgs, folder: &ModelFolder<Lm>) -> Result<Option<Draft>> {
    let Some(spec) = &args.draft else { return Ok(None) };
    let submodel = folder.submodel(Some(spec))?;
    let len = args.draft_len.map_or(DraftLen::Auto { most: MOST_DRAFTED }, DraftLen::Fixed);
    Ok(Some(Draft { submodel, len, confidence: 0.0 }))
}

/// What `text` has behind what it shares with `shown`. A later token may change what earlier ones stand
/// for: bytes that turn out to be no characters.
fn added<'a>(shown: &str, text: &'a str) -> &'a str {
    let same = shown.chars().zip(text.chars()).take_while(|(a, b)| a == b);
    let at: usize = same.map(|(c, _)| c.len_utf8()).sum();
    &text[at..]
}

#[cfg(test)]
mod tests {
    use super::added;

    #[test]
    fn what_was_not_shown_is_shown_whatever_was_before() {
        assert_eq!(added("one", "one two"), " two");
        assert_eq!(added("", "é"), "é");
        assert_eq!(added("a мир", "a \u{fffd}\u{fffd} café"), "\u{fffd}\u{fffd} café");
        assert_eq!(added("a \u{43c}", "a \u{43c}"), "");
    }
}
