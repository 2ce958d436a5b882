//! What can go wrong in this crate.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a language model's configuration or input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the ops, the forward pass or a folder.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// From granularities, submodels or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// A preset that does not exist.
    #[error("unknown preset `{found}`; there are: {known}")]
    Preset {
        /// What was asked for.
        found: String,
        /// The presets that exist.
        known: String,
    },
    /// A token that is not in the vocabulary.
    #[error("token {token} at position {position}; the vocabulary has {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// Where it stands.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// Tokens, or flags of a mask, that are more or fewer than the rows of a batch have.
    #[error("{what} of a batch: {found}; its rows have {expected} tokens")]
    Rows {
        /// What was counted: `token ids`, `mask`.
        what: &'static str,
        /// How many were given.
        found: usize,
        /// Tokens of all rows.
        expected: usize,
    },
    /// Tokens that do not form a batch.
    #[error("{found} tokens do not form {rows} rows of equal length")]
    Batch {
        /// How many tokens were given.
        found: usize,
        /// How many rows they should form.
        rows: usize,
    },
    /// No tokens where some are needed.
    #[error("no tokens: at least one is needed")]
    Empty,
}

impl Error {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nn(e) => e.hint(),
            Self::Core(e) => e.hint(),
            _ => None,
        }
    }
}
