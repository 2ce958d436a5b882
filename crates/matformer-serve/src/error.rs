//! What can go wrong: in the server, and with a request.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use matformer_engine as engine;
use serde_json::{Value, json};

/// An error of the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The system refuses threads or sockets.
    #[error("cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The thread of the engine has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            _ => None,
        }
    }
}

/// A result of the server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request is refused or fails, as OpenAI's interface says it.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: String,
    /// The class of the error.
    kind: &'static str,
    /// The field that is wrong.
    pub(crate) param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message, kind, param: None, code: None, retry_after: None }
    }

    fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same, about a field.
    pub(crate) fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// A request that will be refused again.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    /// A field that is not as it must be.
    pub(crate) fn field(param: &str, found: &Value, expected: &str) -> Self {
        Self::invalid(format!("`{param}`: found {}, expected {expected}", short(found)))
            .about(param)
    }

    /// A field that asks for what there is not.
    pub(crate) fn unsupported(param: &str, found: &Value, expected: &str) -> Self {
        Self::field(param, found, &format!("{expected}: this server supports nothing else"))
            .with_code("unsupported_value")
    }

    /// A model or size that there is not.
    pub(crate) fn no_model(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, message)
            .about("model")
            .with_code("model_not_found")
    }

    pub(crate) fn no_path(method: &str, path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            INVALID,
            format!("{method} {path}: no such endpoint, expected one of {ENDPOINTS}"),
        )
    }

    pub(crate) fn method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not support the method {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
    }

    pub(crate) fn no_key() -> Self {
        let message = "expected one of the server's API keys as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
            .with_code("invalid_api_key")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes, the limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message)
    }

    pub(crate) fn slow_sender(limit: Duration) -> Self {
        let message = format!("the body took more than {} s to arrive", limit.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message)
    }

    pub(crate) fn busy(queue: usize) -> Self {
        let message = format!("{queue} requests are waiting already, expected fewer: try again");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { retry_after: Some(Duration::from_secs(1)), ..error }.with_code("rate_limit_exceeded")
    }

    pub(crate) fn stopping() -> Self {
        let message = "the server is shutting down";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message);
        Self { retry_after: Some(Duration::from_secs(5)), ..error }.with_code("shutting_down")
    }

    pub(crate) fn too_long(limit: Duration) -> Self {
        let message = format!(
            "the answer took more than {} s, the server's limit: ask for fewer tokens",
            limit.as_secs()
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, message).with_code("timeout")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
    }

    /// What the engine has against a request.
    pub(crate) fn engine(error: &engine::Error) -> Self {
        use engine::Error::{Core, DraftAndEscalate, Empty, Option, PromptTooLong, Token, Wider};
        let param = match error {
            Option { option, .. } | Wider { option, .. } => option,
            Empty | Token { .. } | PromptTooLong { .. } => "prompt",
            DraftAndEscalate => "policy",
            Core(_) => "model",
            _ => return Self::internal(error.to_string()),
        };
        let invalid = Self::invalid(error.to_string()).about(param);
        match error {
            PromptTooLong { .. } => invalid.with_code("context_length_exceeded"),
            _ => invalid,
        }
    }

    /// As the client reads it.
    pub(crate) fn json(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = json_response(&self.json());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // What is left of a body that was not read is no request.
        if matches!(
            self.status,
            StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A response of JSON.
pub(crate) fn json_response(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A value as an error shows it.
pub(crate) fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const ENDPOINTS: &str = "/v1/completions, /v1/chat/completions, /v1/models, /tokenize, /detokenize, /tokenizer_info, \
                         /health, /metrics and the page /";
