//! What can go wrong in this crate.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a vision model's configuration or input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the ops, the forward pass or a folder.
    #[error(transparent)]
    Nn(#[from] matformer_nn::Error),
    /// From granularities, submodels or files.
    #[error(transparent)]
    Core(#[from] matformer_core::Error),
    /// Pixels that do not form a batch.
    #[error("{found} pixel values; {rows} images of the model's size have {expected}")]
    Pixels {
        /// How many values were given.
        found: usize,
        /// How many images they should form.
        rows: usize,
        /// How many values those have.
        expected: usize,
    },
    /// A label that the model does not know.
    #[error("label {found} of image {image}; the model has {classes} classes")]
    Label {
        /// The label.
        found: usize,
        /// Which image of the batch, from 0.
        image: usize,
        /// Classes of the model.
        classes: usize,
    },
    /// Soft labels that do not form a batch.
    #[error("{found} label weights do not form rows of {classes} classes")]
    SoftLabels {
        /// How many weights were given.
        found: usize,
        /// Classes of the model.
        classes: usize,
    },
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
