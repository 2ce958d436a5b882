//! What both kinds of completions have in common: how many texts, how they are sampled, and which size answers.

use std::sync::atomic::Ordering;

use matformer_core::{Submodel, SubmodelSpec};
use matformer_engine::{Draft, DraftLen, DraftSpec, Policy, PolicySpec, Request, Sampling};
use serde_json::Value;

use crate::{choice::Shown, error::ApiError, fields::Fields, state::State};

/// Tokens that are drafted at a time, at most, where as many are as pay.
const MOST_DRAFTED: usize = 8;
/// Most likely tokens that are listed with each, at most.
pub(crate) const MOST_LOGPROBS: usize = 20;
/// Stop strings at most.
const MOST_STOPS: usize = 16;

/// A prompt in tokens, and as it was typed.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    pub(crate) typed: Option<String>,
}

/// Whether an answer is a text or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Chat,
}

/// A request for completions, understood.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) form: Form,
    pub(crate) prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub(crate) n: usize,
    /// What all texts have in common.
    pub(crate) common: Request,
    pub(crate) shown: Shown,
    /// The name of the size that answers.
    pub(crate) size: String,
    pub(crate) stream: bool,
    /// A stream ends with what was used.
    pub(crate) usage: bool,
}

impl Ask {
    /// The engine's requests: all answers to the first prompt, then those to the next.
    pub(crate) fn requests(&self) -> Vec<Request> {
        let one = |prompt: &Prompt, k: usize| {
            let mut request = Request { prompt: prompt.tokens.clone(), ..self.common.clone() };
            request.sampling.seed = request.sampling.seed.wrapping_add(k as u64);
            request
        };
        self.prompts.iter().flat_map(|p| (0..self.n).map(move |k| one(p, k))).collect()
    }
}

/// What is read before the prompt is known.
pub(crate) struct Common {
    pub(crate) request: Request,
    pub(crate) shown: Shown,
    pub(crate) n: usize,
    pub(crate) size: String,
    pub(crate) stream: bool,
    pub(crate) usage: bool,
}

/// Reads the fields that both kinds have.
pub(crate) fn common(fields: &mut Fields, state: &State) -> Result<Common, ApiError> {
    let policy = policy(fields, state)?;
    let draft = draft_spec(fields)?;
    let may_narrow = policy == Policy::Fixed && draft.is_none();
    let submodel = submodel(fields, state, may_narrow)?;
    let draft = draft.map(|asked| asked.resolve(state, &submodel)).transpose()?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let usage = usage(fields, stream)?;
    let shown = Shown {
        stops: fields.strings("stop", MOST_STOPS)?,
        drafts: draft.is_some(),
        ..Shown::default()
    };
    let n = fields.whole("n", 1..=state.limits.texts)?.unwrap_or(1);
    let request = Request {
        policy,
        draft,
        sampling: sampling(fields, state)?,
        stop: state.model.ends.clone(),
        ..Request::new(Vec::new(), submodel.clone(), 0)
    };
    let size = state.label(&submodel);
    Ok(Common { request, shown, n, size, stream, usage })
}

fn sampling(fields: &mut Fields, state: &State) -> Result<Sampling, ApiError> {
    let any = || state.counter.load(Ordering::Relaxed) ^ state.started;
    let defaults = Sampling::default();
    let mut number = |name, default| Ok(fields.number(name)?.unwrap_or(default));
    let sampling = Sampling {
        temperature: number("temperature", 1.0)?,
        top_p: number("top_p", defaults.top_p)?,
        min_p: number("min_p", defaults.min_p)?,
        repetition_penalty: number("repetition_penalty", defaults.repetition_penalty)?,
        frequency_penalty: number("frequency_penalty", defaults.frequency_penalty)?,
        presence_penalty: number("presence_penalty", defaults.presence_penalty)?,
        ..defaults
    };
    Ok(Sampling {
        top_k: fields.whole("top_k", 0..=usize::MAX)?.unwrap_or(0),
        logit_bias: fields.biases("logit_bias")?,
        seed: fields.seed("seed")?.unwrap_or_else(any),
        ..sampling
    })
}

/// `stream_options`, which has one option.
fn usage(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(value) = fields.take("stream_options") else { return Ok(false) };
    let wrong = || {
        ApiError::field(
            "stream_options",
            &value,
            "{\"include_usage\": true}, with \"stream\": true",
        )
    };
    let options = value.as_object().filter(|_| stream).ok_or_else(wrong)?;
    let known = |key: &String| ["include_usage", "include_obfuscation"].contains(&key.as_str());
    if !options.keys().all(known) {
        return Err(wrong());
    }
    match options.get("include_usage") {
        None => Ok(false),
        Some(include) => include.as_bool().ok_or_else(wrong),
    }
}

/// Which size answers: `model` names the model, and behind an `@` the size.
fn submodel(fields: &mut Fields, state: &State, may_narrow: bool) -> Result<Submodel, ApiError> {
    let name = &state.model.name;
    let typed = fields.string("model")?.unwrap_or_else(|| name.clone());
    match typed.strip_prefix(name.as_str()) {
        Some("") if may_narrow => Ok(state.narrowed()),
        Some("") => Ok(state.model.default.clone()),
        Some(rest) if rest.starts_with('@') => size(state, "model", &rest[1..]),
        _ => {
            let found = crate::error::short(&Value::String(typed));
            Err(ApiError::no_model(format!(
                "`model`: found {found}, expected `{name}`, or with a size `{name}@SIZE`: /v1/models lists those \
                 that have names"
            )))
        }
    }
}

/// A size as typed: `S`, `60%`, `256x4,512x8`, `8ms`, `best@60%`.
fn size(state: &State, param: &str, typed: &str) -> Result<Submodel, ApiError> {
    let wrong = |error: String| {
        let found = crate::error::short(&Value::String(typed.to_owned()));
        ApiError::no_model(format!("`{param}`: found the size {found}: {error}")).about(param)
    };
    let spec: SubmodelSpec = typed
        .replace(',', "+")
        .parse()
        .map_err(|error: matformer_core::Error| wrong(error.to_string()))?;
    (state.model.resolve)(&spec).map_err(wrong)
}

fn policy(fields: &mut Fields, state: &State) -> Result<Policy, ApiError> {
    let Some(typed) = fields.string("policy")? else { return Ok(Policy::Fixed) };
    let found = Value::String(typed.clone());
    let spec: PolicySpec = typed.parse().map_err(|error: String| {
        ApiError::invalid(format!("`policy`: found {found}: {error}")).about("policy")
    })?;
    spec.resolve(|spec| size(state, "policy", &spec.to_string()))
}

/// `draft` as typed: `"S"`, `"auto"` or `{"size": "S", "len": 4, "min_p": 0.3}`.
struct AskedDraft {
    spec: DraftSpec,
    typed: Value,
    len: DraftLen,
    confidence: f64,
}

fn draft_spec(fields: &mut Fields) -> Result<Option<AskedDraft>, ApiError> {
    let Some(typed) = fields.take("draft") else { return Ok(None) };
    let wrong = || {
        let expected = "a size such as \"S\", \"auto\", or {\"size\": \"S\", \"len\": 4, \"min_p\": 0.3} with `len` from 1 \
                        to 15 and `min_p` from 0 to below 1";
        ApiError::field("draft", &typed, expected)
    };
    let (size, len, min_p) = match &typed {
        Value::String(size) => (size.as_str(), None, None),
        Value::Object(object) => {
            let known = |key: &String| ["size", "len", "min_p"].contains(&key.as_str());
            let size = object.get("size").and_then(Value::as_str).ok_or_else(wrong)?;
            if !object.keys().all(known) {
                return Err(wrong());
            }
            (size, object.get("len"), object.get("min_p"))
        }
        _ => return Err(wrong()),
    };
    let spec = size.replace(',', "+").parse().map_err(|_| wrong())?;
    let len = match len.map(Value::as_u64) {
        None => DraftLen::Auto { most: MOST_DRAFTED },
        Some(Some(len)) if (1..=DraftLen::MOST as u64).contains(&len) => {
            DraftLen::Fixed(len as usize)
        }
        Some(_) => return Err(wrong()),
    };
    let confidence = min_p.map_or(Some(0.0), Value::as_f64).ok_or_else(wrong)?;
    Ok(Some(AskedDraft { spec, len, confidence, typed }))
}

impl AskedDraft {
    fn resolve(self, state: &State, verifier: &Submodel) -> Result<Draft, ApiError> {
        let trained = state.model.trained.iter().cloned();
        let find = |spec: &SubmodelSpec| size(state, "draft", &spec.to_string());
        let submodels = self.spec.resolve(trained, verifier, find)?;
        if submodels.is_empty() {
            let label = state.label(verifier);
            let expected = format!("no draft: no trained size is narrower than `{label}`");
            return Err(ApiError::field("draft", &self.typed, &expected));
        }
        let first = Draft::new(verifier.clone(), self.len);
        Ok(Draft { submodels, confidence: self.confidence, ..first })
    }
}
