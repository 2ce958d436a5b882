//! What can go wrong.

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of range.
    #[error("`{option}` is {found}, expected {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A prompt has no tokens.
    #[error("the prompt is empty, expected at least one token")]
    Empty,
    /// A prompt leaves no room for an answer.
    #[error("the prompt has {found} tokens, expected fewer than the context of {context}")]
    PromptTooLong {
        /// Tokens of the prompt.
        found: usize,
        /// Tokens that a request may have.
        context: usize,
    },
    /// A token is not in the vocabulary.
    #[error(
        "token {token} at position {position} of the prompt, expected one below {vocab_size}, the size of the vocabulary"
    )]
    Token {
        /// The token.
        token: u32,
        /// Its place in the prompt.
        position: usize,
        /// Tokens of the vocabulary.
        vocab_size: usize,
    },
    /// A submodel that must be narrow is wider than the request's.
    #[error(
        "`{option}`: found width {found} in layer {layer}, expected at most {most}, the width of the wider submodel there"
    )]
    Wider {
        /// Name of the option.
        option: &'static str,
        /// The layer.
        layer: usize,
        /// Its width.
        found: usize,
        /// The other submodel's.
        most: usize,
    },
    /// Both at once.
    #[error(
        "`draft` and a policy that escalates cannot be combined: both choose the size for the next token"
    )]
    DraftAndEscalate,
    /// Packed weights on a device that has no products for them.
    #[error("weights in {format} need the CPU, expected f32 on other devices")]
    Packed {
        /// The format.
        format: crate::Format,
    },
    /// Weights do not fit in memory.
    #[error("{bytes} bytes of memory")]
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
        /// Why there are none.
        #[source]
        error: std::io::Error,
    },
    /// Logits are NaN.
    #[error("the logits of request {request} are NaN")]
    NotFinite {
        /// Its place in the list.
        request: usize,
    },
    /// The model lacks a parameter, or it has another shape.
    #[error("parameter `{path}`: {found}")]
    Parameter {
        /// Its path.
        path: String,
        /// What was found.
        found: String,
    },
    /// A submodel does not fit the model.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// The model, or its device.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// The model's tokens.
    #[error(transparent)]
    Lm(#[from] matformer_lm::Error),
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(e) => e.hint(),
            Self::Nn(e) => e.hint(),
            Self::Lm(e) => e.hint(),
            _ => None,
        }
    }

    pub(crate) fn parameter(path: &str, found: impl std::fmt::Display) -> Self {
        Self::Parameter { path: path.to_owned(), found: found.to_string() }
    }
}

/// A result of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
