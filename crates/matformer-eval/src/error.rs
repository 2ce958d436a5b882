//! What can go wrong in this crate.

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between held-out text and a page about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From submodels, costs or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// From the held-out data.
    #[error(transparent)]
    Data(#[from] matformer_data::Error),
    /// From the forward pass.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// From the language model.
    #[error(transparent)]
    Lm(#[from] matformer_lm::Error),
    /// From the vision model.
    #[error(transparent)]
    Vit(#[from] matformer_vit::Error),
    /// From the engine that generates text.
    #[error(transparent)]
    Engine(#[from] matformer_engine::Error),
    /// Another rank has failed.
    #[error(transparent)]
    Exchange(#[from] matformer_exchange::Error),
    /// An option that must not be zero.
    #[error("`{option}` is 0, expected: at least 1")]
    Zero {
        /// The option.
        option: &'static str,
    },
    /// A mean over nothing.
    #[error("{unit} in the held-out documents: none, expected at least one")]
    Nothing {
        /// What would be counted: `tokens`, `bytes`.
        unit: &'static str,
    },
    /// Two submodels that were not measured on the same documents.
    #[error(
        "paired difference: {found} documents with {found_tokens} tokens, expected the other \
         submodel's {expected} with {expected_tokens}, one by one"
    )]
    Unpaired {
        /// Documents of the one.
        found: usize,
        /// Tokens of the one.
        found_tokens: usize,
        /// Documents of the other.
        expected: usize,
        /// Tokens of the other.
        expected_tokens: usize,
    },
    /// A submodel that was asked for and not measured.
    #[error("submodel `{submodel}` was not evaluated, expected one of {}", evaluated.join(", "))]
    NotEvaluated {
        /// What was asked for.
        submodel: String,
        /// The submodels that were, in backticks.
        evaluated: Vec<String>,
    },
    /// A loss that is no number.
    #[error(
        "loss of submodel `{submodel}` on document `{document}`: {found}, expected a finite number"
    )]
    NotFinite {
        /// The submodel's text form.
        submodel: String,
        /// The document's name.
        document: String,
        /// NaN or infinite.
        found: f64,
    },
    /// A measurement could not be written to a file.
    #[error("measurements: {message}")]
    Store {
        /// Why.
        message: String,
    },
    /// An embedding that has no direction.
    #[error("embedding {index} has length {length}, expected: a number above 0")]
    Embedding {
        /// Which, from 0.
        index: usize,
        /// Its length.
        length: f64,
    },
    /// Vectors of another size than a gallery's.
    #[error("queries of {found} values; the gallery's vectors have {expected}")]
    Dimensions {
        /// Size of the queries.
        found: usize,
        /// Size of the gallery's.
        expected: usize,
    },
    /// A search of nothing.
    #[error("{what}: none, expected at least one")]
    Empty {
        /// What there is none of: `vectors`, `queries`.
        what: &'static str,
    },
    /// A query that nothing is relevant for.
    #[error("query {query} has a label that nothing in the gallery has")]
    Relevant {
        /// Which, from 0.
        query: usize,
    },
    /// A number that no scaling law is fitted to.
    #[error("scaling law: {what} is {found}, expected a finite number above 0")]
    ScalingPoint {
        /// `N`, `D` or `loss`.
        what: &'static str,
        /// The number.
        found: f64,
    },
    /// Too few points for a scaling law.
    #[error("scaling law: {found} different products N·D, expected at least {expected}")]
    ScalingPoints {
        /// Products that differ.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// Losses to which no falling law fits.
    #[error("scaling law: the losses do not fall as N·D grows")]
    NotFalling,
    /// A plot that could not be drawn.
    #[error("cannot draw the plot `{plot}`: {message}")]
    Plot {
        /// Its name.
        plot: &'static str,
        /// What the plotting library said.
        message: String,
    },
    /// The page could not be put together; the source says why.
    #[error("cannot put the report together")]
    Page(#[from] askama::Error),
}

impl Error {
    /// What to do about it, where there is something to do: a sentence without a full stop.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Core(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Nn(error) => error.hint(),
            Self::Lm(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Vit(error) => error.hint(),
            Self::ScalingPoints { .. } | Self::NotFalling => {
                Some("give more runs, of models that differ in size and in training tokens".into())
            }
            Self::Nothing { .. } => Some("give more text, or a larger share held out".into()),
            Self::NotEvaluated { .. } => Some("add it to the list of submodels".into()),
            Self::NotFinite { .. } => Some(
                "the weights hold numbers that are not finite or overflow: go back to an earlier \
                 checkpoint"
                    .into(),
            ),
            _ => None,
        }
    }
}
