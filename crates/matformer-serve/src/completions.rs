//! `/v1/completions`: texts that are continued.

use matformer_data::Tokenizer;
use serde_json::Value;

use crate::{
    ask::{Ask, Common, Form, MOST_LOGPROBS, Prompt, common},
    error::ApiError,
    fields::Fields,
    state::State,
};

/// New tokens where nothing is said, as in OpenAI's interface.
const TOKENS: usize = 16;

/// Understands the body of a request.
pub(crate) fn ask(body: &[u8], state: &State) -> Result<Ask, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.only("suffix", "no text behind the completion", |v| v.as_str() == Some(""))?;
    let Common { request, mut shown, n, size, stream, usage } = common(&mut fields, state)?;
    fields.only("best_of", "no more than `n`", |v| v.as_u64().is_some_and(|of| of <= n as u64))?;
    let logprobs = fields.whole("logprobs", 0..=MOST_LOGPROBS)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    if echo && n > 1 {
        return Err(ApiError::unsupported("n", &Value::from(n), "1 with `echo`"));
    }
    let max_tokens = fields.whole("max_tokens", 0..=state.most_tokens())?;
    let most = state.limits.texts / n;
    let prompts = match fields.take("prompt") {
        Some(value) => prompts(&value, &state.tokenizer, most)?,
        None => {
            let expected = "a string, a list of strings, a list of tokens or a list of such lists";
            return Err(ApiError::field("prompt", &Value::Null, expected));
        }
    };
    fields.finish()?;
    let mut common = request;
    common.max_new_tokens = max_tokens.unwrap_or(TOKENS);
    common.logprobs = logprobs;
    common.prompt_logprobs = logprobs.filter(|_| echo);
    shown.echo = echo;
    shown.logprobs = logprobs;
    if common.prompt_logprobs.is_some() {
        // Clients of scores count on an entry for each new token, also for one that ends the text.
        shown.ends = std::mem::take(&mut common.stop);
    }
    Ok(Ask { form: Form::Text, prompts, n, common, shown, size, stream, usage })
}

/// One prompt or several, as text or as tokens. A text has the token that begins one in front of it.
fn prompts(value: &Value, tokenizer: &Tokenizer, most: usize) -> Result<Vec<Prompt>, ApiError> {
    let wrong = |found: &Value| {
        let expected = "a string, a list of strings, a list of tokens or a list of such lists";
        ApiError::field("prompt", found, expected)
    };
    let of_text = |text: &str| {
        let encoded = tokenizer.encode(text);
        let encoded =
            encoded.map_err(|error| ApiError::invalid(error.to_string()).about("prompt"))?;
        let tokens = [vec![tokenizer.bos()], encoded].concat();
        Ok(Prompt { tokens, typed: Some(text.to_owned()) })
    };
    let of_tokens = |tokens: &Vec<Value>| {
        let read: Option<Vec<u32>> = tokens.iter().map(token).collect();
        match read {
            Some(tokens) if !tokens.is_empty() => Ok(Prompt { tokens, typed: None }),
            _ => Err(wrong(value)),
        }
    };
    let prompts: Vec<Prompt> = match value {
        Value::String(text) => vec![of_text(text)?],
        Value::Array(all) if all.first().is_some_and(Value::is_number) => vec![of_tokens(all)?],
        Value::Array(all) if !all.is_empty() => {
            let one = |one: &Value| match one {
                Value::String(text) if all[0].is_string() => of_text(text),
                Value::Array(tokens) if all[0].is_array() => of_tokens(tokens),
                _ => Err(wrong(value)),
            };
            if all.len() > most {
                let found =
                    format!("`prompt`: found {} prompts, expected at most {most}", all.len());
                return Err(ApiError::invalid(found).about("prompt"));
            }
            all.iter().map(one).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong(value)),
    };
    Ok(prompts)
}

/// A token's number.
pub(crate) fn token(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
