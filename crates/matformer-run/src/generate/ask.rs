//! What a person asks for, as the engine takes it.

use matformer_core::{Submodel, SubmodelSpec};
use matformer_data::Tokenizer;
use matformer_engine::{Answer, Draft, DraftLen, DraftSpec, Finish, PolicySpec, Request, Sampling};
use matformer_runfile::Lm;

use super::Output;
use crate::{
    error::{Hinted, OrBadInput, Result},
    folder::ModelFolder,
    kind::ends,
};

/// How prompts are continued.
#[derive(Clone, Debug)]
pub struct Options {
    /// The size; the largest if none.
    pub submodel: Option<SubmodelSpec>,
    /// What drafts tokens, if anything does.
    pub draft: Option<DraftSpec>,
    /// Tokens that are drafted at a time; as many as pay if none.
    pub draft_len: Option<usize>,
    /// Probability below which drafting stops.
    pub draft_min_p: f64,
    /// Which size takes each token.
    pub policy: PolicySpec,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Strings that end the text.
    pub stops: Vec<String>,
    /// Number of the likeliest tokens whose log-probabilities are wanted.
    pub logprobs: Option<usize>,
}

/// Maximum number of drafted tokens when the draft length is adaptive.
const MOST_DRAFTED: usize = 8;

/// A prompt, and what is asked of the engine for it.
pub struct Ask {
    /// The prompt.
    pub prompt: String,
    /// What is asked.
    pub request: Request,
    /// Strings that end the answer.
    pub stops: Vec<String>,
}

/// Makes requests from the options of the command.
pub struct Asker<'a> {
    /// The model.
    pub folder: &'a ModelFolder<Lm>,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    options: &'a Options,
    /// What all prompts have in common.
    common: Request,
}

impl<'a> Asker<'a> {
    /// Resolves what the options name.
    ///
    /// # Errors
    /// When the model has no such submodel.
    pub fn new(
        folder: &'a ModelFolder<Lm>,
        tokenizer: &'a Tokenizer,
        options: &'a Options,
    ) -> Result<Self> {
        let submodel = folder.submodel(options.submodel.as_ref())?;
        let common = Request {
            policy: options.policy.resolve(|spec| folder.submodel(Some(spec)))?,
            draft: options
                .draft
                .as_ref()
                .map(|d| draft(folder, options, d, &submodel))
                .transpose()?,
            sampling: options.sampling.clone(),
            stop: ends(&folder.model, tokenizer),
            logprobs: options.logprobs,
            ..Request::new(Vec::new(), submodel, options.max_new_tokens)
        };
        Ok(Self { folder, tokenizer, options, common })
    }

    /// A request with the options of the command.
    ///
    /// # Errors
    /// When the prompt does not fit the context.
    pub fn ask(&self, prompt: &str) -> Result<Ask> {
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
                hint: "BOS and one new token must fit as well".to_owned(),
            })
            .bad_input();
        }
        let tokens = [vec![self.tokenizer.bos()], typed].concat();
        Ok(Ask {
            prompt: prompt.to_owned(),
            request: Request { prompt: tokens, ..self.common.clone() },
            stops: self.options.stops.clone(),
        })
    }

    /// The same at another size: what drafts for it may be another, too.
    ///
    /// # Errors
    /// When the model has no such submodel.
    pub fn resized(&self, request: Request, spec: &SubmodelSpec) -> Result<Request> {
        let submodel = self.folder.submodel(Some(spec))?;
        let drafts = self.options.draft.as_ref();
        let draft = drafts.map(|d| draft(self.folder, self.options, d, &submodel)).transpose()?;
        Ok(Request { draft, submodel, ..request })
    }
}

fn draft(
    folder: &ModelFolder<Lm>,
    options: &Options,
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
    let len = options.draft_len.map_or(DraftLen::Auto { most: MOST_DRAFTED }, DraftLen::Fixed);
    let first = Draft::new(verifier.clone(), len);
    Ok(Draft { submodels, confidence: options.draft_min_p, ..first })
}

impl Asker<'_> {
    /// An answer with its prompt and text.
    pub fn output(
        &self,
        prompt: String,
        request: &Request,
        text: String,
        answer: Answer,
    ) -> Output {
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
