//! `/v1/chat/completions`: conversations that are answered.

use serde_json::{Value, json};

use crate::{
    ask::{Ask, Common, Form, MOST_LOGPROBS, Prompt, common},
    error::ApiError,
    fields::Fields,
    state::State,
};

/// Understands the body of a request.
pub(crate) fn ask(body: &[u8], state: &State) -> Result<Ask, ApiError> {
    let mut fields = Fields::parse(body)?;
    refuse_unsupported(&mut fields)?;
    let Common { request, mut shown, n, size, stream, usage } = common(&mut fields, state)?;
    let listed = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs", 0..=MOST_LOGPROBS)?;
    if let (Some(top), false) = (top, listed) {
        return Err(ApiError::field("top_logprobs", &top.into(), "\"logprobs\": true with it"));
    }
    let most = state.most_tokens();
    let max_tokens = fields.whole("max_completion_tokens", 1..=most)?;
    let max_tokens = fields.whole("max_tokens", 1..=most)?.or(max_tokens);
    let messages = fields.take("messages").unwrap_or_default();
    fields.finish()?;
    let prompt = prompt(&messages, state)?;
    let mut common = request;
    common.max_new_tokens = max_tokens.unwrap_or(most);
    common.logprobs = listed.then_some(top.unwrap_or(0));
    shown.logprobs = common.logprobs;
    Ok(Ask { form: Form::Chat, prompts: vec![prompt], n, common, shown, size, stream, usage })
}

/// Fields of OpenAI's interface that ask for more than text.
fn refuse_unsupported(fields: &mut Fields) -> Result<(), ApiError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.only("tools", "no tools", empty)?;
    fields.only("functions", "no functions", empty)?;
    for name in ["tool_choice", "function_call"] {
        fields.only(name, "\"none\"", |value| value == "none")?;
    }
    fields.only("parallel_tool_calls", "no tools", Value::is_boolean)?;
    fields.only("response_format", "{\"type\": \"text\"}", |value| {
        *value == json!({ "type": "text" })
    })?;
    fields.only("modalities", "[\"text\"]", |value| *value == json!(["text"]))?;
    for name in ["audio", "prediction", "web_search_options", "reasoning_effort", "verbosity"] {
        fields.only(name, "nothing", |_| false)?;
    }
    Ok(())
}

/// The conversation in tokens, up to where the answer begins.
pub(crate) fn prompt(messages: &Value, state: &State) -> Result<Prompt, ApiError> {
    let Some(template) = &state.model.template else {
        let message = "the model has no chat template: /v1/completions continues texts with it";
        return Err(ApiError::invalid(message).about("messages"));
    };
    let about =
        |error: matformer_data::Error| ApiError::invalid(error.to_string()).about("messages");
    let messages = understood(messages)?;
    let tokens = template.encode(&state.tokenizer, &messages, true).map_err(about)?;
    if tokens.is_empty() {
        return Err(ApiError::invalid("the chat template makes an empty prompt of the messages")
            .about("messages"));
    }
    Ok(Prompt { tokens, typed: None })
}

/// Messages as templates take them: `role`, `content` as one string, and `name`.
fn understood(messages: &Value) -> Result<Vec<Value>, ApiError> {
    let expected = "a list of messages such as {\"role\": \"user\", \"content\": \"Hi\"}";
    let all = messages.as_array().filter(|all| !all.is_empty());
    let all = all.ok_or_else(|| ApiError::field("messages", messages, expected))?;
    let one = |(i, message): (usize, &Value)| {
        let at = |key: &str| format!("messages[{i}].{key}");
        let wrong = |key: &str, expected: &str| {
            Err(ApiError::field(&at(key), message.get(key).unwrap_or(&Value::Null), expected))
        };
        let Some(object) = message.as_object() else {
            return Err(ApiError::field(&format!("messages[{i}]"), message, "a message"));
        };
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        if !["system", "developer", "user", "assistant"].contains(&role) {
            return wrong("role", "system, developer, user or assistant");
        }
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "role" | "content" | "reasoning_content" | "name" => {}
                "tool_calls" | "function_call" | "tool_call_id" | "audio" => {
                    return Err(ApiError::unsupported(&at(key), value, "nothing"));
                }
                _ => return wrong(key, "role, content, name or reasoning_content in a message"),
            }
        }
        let mut object = object.clone();
        object.insert("content".to_owned(), content(message.get("content"), &at("content"))?);
        Ok(Value::Object(object))
    };
    all.iter().enumerate().map(one).collect()
}

/// A message's text: a string, or parts of text.
fn content(value: Option<&Value>, at: &str) -> Result<Value, ApiError> {
    let value = value.unwrap_or(&Value::Null);
    let Value::Array(parts) = value else {
        return match value {
            Value::String(_) => Ok(value.clone()),
            _ => Err(ApiError::field(at, value, "a string, or a list of parts of type `text`")),
        };
    };
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(more)) => text += more,
            _ => {
                let found = part.get("type").unwrap_or(part);
                return Err(ApiError::unsupported(
                    &format!("{at}[{i}]"),
                    found,
                    "parts of type `text`",
                ));
            }
        }
    }
    Ok(Value::String(text))
}
