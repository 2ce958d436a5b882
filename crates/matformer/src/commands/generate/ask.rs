//! What a person asks for, as the engine takes it.

use anyhow::Result;
use matformer::{
    core::{Submodel, SubmodelSpec},
    data::Tokenizer,
    engine::{Draft, DraftLen, DraftSpec, Request, Sampling},
    run_file::Lm,
};

use crate::{
    args::GenerateArgs,
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::ends,
};

/// Tokens that are drafted at a time, at most, where as many are as pay.
const MOST_DRAFTED: usize = 8;

/// A prompt, and what is asked of the engine for it.
pub(super) struct Ask {
    pub(super) prompt: String,
    pub(super) request: Request,
    /// Strings that end the answer.
    pub(super) stops: Vec<String>,
}

/// Makes requests from the options of the command.
pub(super) struct Asker<'a> {
    pub(super) folder: &'a ModelFolder<Lm>,
    pub(super) tokenizer: &'a Tokenizer,
    args: &'a GenerateArgs,
    /// What all prompts have in common.
    common: Request,
}

impl<'a> Asker<'a> {
    pub(super) fn new(
        folder: &'a ModelFolder<Lm>,
        tokenizer: &'a Tokenizer,
        args: &'a GenerateArgs,
    ) -> Result<Self> {
        let s = &args.sampling;
        let submodel = folder.submodel(args.submodel.as_ref())?;
        let common = Request {
            policy: args.policy.resolve(|spec| folder.submodel(Some(spec)))?,
            draft: args.draft.as_ref().map(|d| draft(folder, args, d, &submodel)).transpose()?,
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
            stop: ends(&folder.model, tokenizer),
            logprobs: args.logprobs,
            ..Request::new(Vec::new(), submodel, args.max_tokens)
        };
        Ok(Self { folder, tokenizer, args, common })
    }

    /// A request with the options of the command.
    pub(super) fn ask(&self, prompt: &str) -> Result<Ask> {
        let typed = self.tokenizer.encode(prompt)?;
        let context = self.folder.model.config().context;
        // The separator in front, and at least one new token.
        let room = context.saturating_sub(2);
        if typed.len() > room {
            return Err(Hinted {
                message: format!(
                    "--prompt: {} tokens, expected at most {room}: the context holds {context}",
                    typed.len()
                ),
                hint: "with the separator in front of the prompt and a first new token".to_owned(),
            })
            .bad_input();
        }
        let tokens = [vec![self.tokenizer.bos()], typed].concat();
        Ok(Ask {
            prompt: prompt.to_owned(),
            request: Request { prompt: tokens, ..self.common.clone() },
            stops: self.args.stop.clone(),
        })
    }

    /// The same at another size: what drafts for it may be another, too.
    pub(super) fn resized(&self, request: Request, spec: &SubmodelSpec) -> Result<Request> {
        let submodel = self.folder.submodel(Some(spec))?;
        let drafts = self.args.draft.as_ref();
        let draft = drafts.map(|d| draft(self.folder, self.args, d, &submodel)).transpose()?;
        Ok(Request { draft, submodel, ..request })
    }
}

fn draft(
    folder: &ModelFolder<Lm>,
    args: &GenerateArgs,
    spec: &DraftSpec,
    verifier: &Submodel,
) -> Result<Draft> {
    let submodels = spec.resolve(folder.trained(), verifier, |spec| folder.submodel(Some(spec)))?;
    if submodels.is_empty() {
        let label = folder.space().label(verifier);
        return Err(Hinted {
            message: format!("--draft auto: no trained size is narrower than `{label}`"),
            hint: "leave --draft out, or choose a wider --submodel".to_owned(),
        })
        .bad_input();
    }
    let len = args.draft_len.map_or(DraftLen::Auto { most: MOST_DRAFTED }, DraftLen::Fixed);
    let first = Draft::new(verifier.clone(), len);
    Ok(Draft { submodels, confidence: args.draft_min_p, ..first })
}
