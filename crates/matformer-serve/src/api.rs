//! The endpoints.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, State as Shared},
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    answer::{Answer, Place},
    ask::Ask,
    chat, completions,
    error::{ApiError, json_response},
    page,
    reply::Reply,
    state::State,
    tokens,
};

type Reached = Shared<Arc<State>>;
type Answered = Result<Response<Body>, ApiError>;

/// Marks a response whose request is logged when its answer ends.
#[derive(Clone)]
struct Logged;

/// All endpoints.
pub(crate) fn router(state: Arc<State>) -> Router {
    let of_text =
        |state: Reached, request: Request<Body>| generate(state, request, completions::ask);
    let of_chat = |state: Reached, request: Request<Body>| generate(state, request, chat::ask);
    let tokenize = |state: Reached, request: Request<Body>| reads(state, request, tokens::tokenize);
    let detokenize =
        |state: Reached, request: Request<Body>| reads(state, request, tokens::detokenize);
    Router::new()
        .route("/v1/completions", post(of_text))
        .route("/v1/chat/completions", post(of_chat))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(&state), around))
        .with_state(state)
}

/// Checks the key, then counts and logs what comes of a request.
async fn around(Shared(state): Reached, request: Request<Body>, next: Next) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let endpoint = endpoint(&path);
    let open = ["/", "/page.css", "/page.js", "/health"].contains(&path.as_str());
    let mut response = if !open && !has_key(&state, &request) {
        ApiError::no_key().response()
    } else {
        next.run(request).await
    };
    let status = response.status().as_u16();
    state.metrics.request(endpoint, status);
    if response.extensions_mut().remove::<Logged>().is_none() {
        // Nothing of a path that is not ours: it may hold anything.
        (state.log)(&format!("{method} {endpoint} {status}"));
    }
    if state.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The endpoint as it is counted: without what clients put into it.
fn endpoint(path: &str) -> &'static str {
    const ALL: [&str; 12] = [
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/tokenizer_info",
        "/health",
        "/metrics",
        "/",
        "/page.css",
        "/page.js",
        "/v1/models/",
    ];
    let model = path.strip_prefix("/v1/models/").map(|_| "/v1/models/");
    ALL.into_iter().find(|known| *known == path).or(model).unwrap_or("other")
}

fn has_key(state: &State, request: &Request<Body>) -> bool {
    if state.api_keys.is_empty() {
        return true;
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let typed = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    typed.is_some_and(|typed| {
        // All are compared whole, so that the time tells nothing.
        state.api_keys.iter().fold(false, |found, key| found | is_same(typed.trim(), key))
    })
}

fn is_same(typed: &str, key: &str) -> bool {
    let differing = typed.bytes().zip(key.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    typed.len() == key.len() && differing == 0
}

/// `/v1/completions` and `/v1/chat/completions`.
async fn generate(
    Shared(state): Reached,
    request: Request<Body>,
    understand: fn(&[u8], &State) -> Result<Ask, ApiError>,
) -> Response<Body> {
    respond(answer(&state, request, understand).await)
}

async fn answer(
    state: &Arc<State>,
    request: Request<Body>,
    understand: fn(&[u8], &State) -> Result<Ask, ApiError>,
) -> Answered {
    // A slow sender takes nobody's place.
    let body = body(state, request).await?;
    let place = Place::take(state)?;
    let ask = blocking(state, move |state| understand(&body, state)).await?;
    let answer = Answer::start(state, &ask, place).await?;
    let reply = Reply::new(state, &ask);
    let mut response = if ask.stream { reply.stream(answer) } else { reply.whole(answer).await? };
    response.extensions_mut().insert(Logged);
    Ok(response)
}

/// An endpoint that reads a body and answers at once.
async fn reads(
    Shared(state): Reached,
    request: Request<Body>,
    what: fn(&[u8], &State) -> Result<Value, ApiError>,
) -> Response<Body> {
    let answered = async {
        let body = body(&state, request).await?;
        let _place = Place::take(&state)?;
        let value = blocking(&state, move |state| what(&body, state)).await?;
        Ok(json_response(&value))
    };
    respond(answered.await)
}

fn respond(answered: Answered) -> Response<Body> {
    answered.unwrap_or_else(|error| error.response())
}

/// The body of a request, within the limits.
async fn body(state: &State, request: Request<Body>) -> Result<Bytes, ApiError> {
    if state.is_stopping() {
        return Err(ApiError::stopping());
    }
    let limit = state.limits.body;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::too_large(limit));
    }
    match timeout(state.limits.read, to_bytes(request.into_body(), limit)).await {
        Err(_) => Err(ApiError::slow_sender(state.limits.read)),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            // The one error of the limit has no type of its own.
            let text = error.to_string();
            let over = text.contains("length limit exceeded");
            Err(if over {
                ApiError::too_large(limit)
            } else {
                ApiError::invalid(format!("the body broke off: {text}"))
            })
        }
    }
}

/// Work that takes time, such as encoding a long text, in a thread that nobody waits in.
async fn blocking<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&State) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let state = Arc::clone(state);
    let done = tokio::task::spawn_blocking(move || work(&state)).await;
    done.unwrap_or_else(|_| Err(ApiError::internal("the request could not be read")))
}

/// A model, as it is listed: by itself, or with one of its sizes.
fn listed(state: &State, name: &str, size: &str) -> Value {
    let at = state.model.sizes.iter().position(|known| known.name == size);
    let mut entry = at.map_or_else(
        || json!({}),
        |at| {
            let mut entry = json!(state.model.sizes[at]);
            entry["tokens_per_second"] = json!(state.worker.speeds.get(at));
            entry
        },
    );
    entry["id"] = json!(name);
    entry["size"] = json!(size);
    entry["object"] = json!("model");
    entry["created"] = json!(state.started);
    entry["owned_by"] = json!("matformer");
    entry["max_model_len"] = json!(state.context);
    entry["chat"] = json!(state.model.template.is_some());
    entry
}

/// All names with what is known of each: first the model itself, which stands for its default size.
fn all_models(state: &State) -> Vec<Value> {
    let name = &state.model.name;
    let own = listed(state, name, &state.label(&state.model.default));
    let of_size = |size: &crate::Size| listed(state, &format!("{name}@{}", size.name), &size.name);
    std::iter::once(own).chain(state.model.sizes.iter().map(of_size)).collect()
}

async fn models(Shared(state): Reached) -> Response<Body> {
    json_response(&json!({ "object": "list", "data": all_models(&state) }))
}

async fn model(Shared(state): Reached, Path(id): Path<String>) -> Response<Body> {
    match all_models(&state).into_iter().find(|model| model["id"] == *id) {
        Some(model) => json_response(&model),
        None => {
            let found = crate::error::short(&json!(id));
            let message = format!("found {found}, expected one that /v1/models lists");
            ApiError::no_model(message).response()
        }
    }
}

async fn tokenizer_info(Shared(state): Reached) -> Response<Body> {
    json_response(&tokens::info(&state))
}

async fn health(Shared(state): Reached) -> Response<Body> {
    if state.is_stopping() {
        return ApiError::stopping().response();
    }
    json_response(&json!({ "status": "ok" }))
}

async fn metrics(Shared(state): Reached) -> Response<Body> {
    let mut response = Response::new(Body::from(state.metrics.text(&state)));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

async fn no_path(request: Request<Body>) -> Response<Body> {
    let path: Cow<'_, str> = request.uri().path().chars().take(80).collect();
    ApiError::no_path(request.method().as_str(), &path).response()
}

async fn no_method(method: Method, request: Request<Body>) -> Response<Body> {
    let mut response = ApiError::method(method.as_str(), request.uri().path()).response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_whole() {
        assert!(is_same("secret", "secret"));
        for other in ["", "secre", "secrets", "Secret", "secret\0"] {
            assert!(!is_same(other, "secret"), "{other}");
        }
    }

    #[test]
    fn endpoints_are_few() {
        assert_eq!(endpoint("/v1/models/a@S"), "/v1/models/");
        assert_eq!(endpoint("/v1/models"), "/v1/models");
        assert_eq!(endpoint("/etc/passwd"), "other");
    }
}
