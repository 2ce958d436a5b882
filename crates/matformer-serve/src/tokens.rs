//! `/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them.

use serde_json::{Value, json};

use crate::{completions::token, error::ApiError, fields::Fields, state::State};

/// The tokens of a text or a conversation.
pub(crate) fn tokenize(body: &[u8], state: &State) -> Result<Value, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.take("model");
    let special = fields.boolean("add_special_tokens")?.unwrap_or(true);
    let spelt = fields.boolean("return_token_strs")?.unwrap_or(false);
    let messages = fields.take("messages");
    let prompt = fields.string("prompt")?;
    fields.finish()?;
    let tokens = match (prompt, messages) {
        (Some(text), None) => {
            let encoded = state.tokenizer.encode_with_control(&text);
            let encoded =
                encoded.map_err(|error| ApiError::invalid(error.to_string()).about("prompt"))?;
            if special { [vec![state.tokenizer.bos()], encoded].concat() } else { encoded }
        }
        (None, Some(messages)) => crate::chat::prompt(&messages, state)?.tokens,
        _ => {
            let message = "expected either `prompt`, a string, or `messages`, a list";
            return Err(ApiError::invalid(message).about("prompt"));
        }
    };
    let spell = |id: &u32| state.tokenizer.token(*id);
    let strings: Vec<_> = tokens.iter().map(spell).collect();
    Ok(json!({
        "count": tokens.len(),
        "max_model_len": state.context,
        "tokens": tokens,
        "token_strs": spelt.then_some(strings),
    }))
}

/// The text of tokens, in which control tokens are spelt out.
pub(crate) fn detokenize(body: &[u8], state: &State) -> Result<Value, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.take("model");
    let value = fields.take("tokens").unwrap_or_default();
    fields.finish()?;
    let size = state.vocab_size;
    let known = |value: &Value| token(value).filter(|id| (*id as usize) < size);
    let tokens: Option<Vec<u32>> = value.as_array().and_then(|all| all.iter().map(known).collect());
    let expected = format!("a list of tokens, each below {size}");
    let tokens = tokens.ok_or_else(|| ApiError::field("tokens", &value, &expected))?;
    let text = state.tokenizer.decode(&tokens);
    let text = text.map_err(|error| ApiError::invalid(error.to_string()).about("tokens"))?;
    Ok(json!({ "prompt": text }))
}

/// What the tokenizer's configuration says, with its special tokens as plain strings.
pub(crate) fn info(state: &State) -> Value {
    let tokenizer = &state.tokenizer;
    let mut info: Value = serde_json::from_str(tokenizer.config()).unwrap_or_else(|_| json!({}));
    let spell = |id: u32| tokenizer.token(id);
    info["bos_token"] = json!(spell(tokenizer.bos()));
    info["eos_token"] = json!(spell(tokenizer.eos()));
    info["pad_token"] = json!(tokenizer.pad().and_then(spell));
    info["chat_template"] = json!(state.model.template.as_ref().map(|template| template.source()));
    info["vocab_size"] = json!(state.vocab_size);
    info["model_max_length"] = json!(state.context);
    info
}
