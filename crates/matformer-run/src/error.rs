//! What can go wrong with a run, told apart by what a person can do about it.

use std::{error::Error as StdError, io::ErrorKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of another crate.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// What can go wrong with a run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given cannot be worked with. Nothing was written, and the same call will fail again.
    #[error(transparent)]
    Input(#[from] Hinted),
    /// The same, found by another crate.
    #[error(transparent)]
    Refused(Cause),
    /// Something failed on the way: a disk, a device, a network. The same call may succeed.
    #[error(transparent)]
    Failed(Cause),
    /// One of these, and the key or place that it is about.
    #[error("{place}")]
    At {
        /// The key or place.
        place: String,
        /// What is wrong there.
        source: Box<Error>,
    },
}

/// What is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Error {
    /// An error of another crate about what was given.
    pub fn refused(cause: impl Into<Cause>) -> Self {
        Self::Refused(cause.into())
    }

    /// An error of another crate that is not about what was given.
    pub fn failed(cause: impl Into<Cause>) -> Self {
        Self::Failed(cause.into())
    }

    /// The same error at a key or place.
    pub fn at(self, place: impl Into<String>) -> Self {
        Self::At { place: place.into(), source: Box::new(self) }
    }

    /// Whether what was given is wrong.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Input(_) | Self::Refused(_) => true,
            Self::Failed(_) => false,
            Self::At { source, .. } => source.is_input(),
        }
    }

    /// The error of another crate that this one passes on.
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Input(hinted) => Some(hinted),
            Self::Refused(cause) | Self::Failed(cause) => Some(&**cause),
            Self::At { .. } => None,
        }
    }

    /// Whether a file or folder that is not there is the cause.
    pub fn is_nothing_there(&self) -> bool {
        if let Self::At { source, .. } = self {
            return source.is_nothing_there();
        }
        let mut next = self.cause();
        while let Some(cause) = next {
            let error = cause.downcast_ref::<std::io::Error>();
            if error.is_some_and(|error| error.kind() == ErrorKind::NotFound) {
                return true;
            }
            next = cause.source();
        }
        false
    }

    /// What to do about it, where there is something to do and it is known here.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Input(hinted) => Some(&hinted.hint),
            Self::At { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// The error and its causes in one line, each said once: some errors say their cause themselves.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Errors of other crates that say all there is to say.
macro_rules! failed {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for $crate::error::Error {
            fn from(error: $error) -> Self {
                Self::Failed(Box::new(error))
            }
        })*
    };
}
pub(crate) use failed;

failed!(
    matformer_core::Error,
    matformer_data::Error,
    matformer_engine::Error,
    matformer_eval::Error,
    matformer_exchange::Error,
    matformer_nn::Error,
    matformer_runfile::Error,
    matformer_sources::Error,
    matformer_train::Error,
    serde_json::Error,
    std::fmt::Error,
    std::io::Error,
    toml::ser::Error,
);

/// Marks the errors of a result as errors about what was given.
pub trait OrBadInput<T> {
    /// The same result, with [`Error::Refused`] in the place of [`Error::Failed`].
    ///
    /// # Errors
    /// Those of the result.
    fn bad_input(self) -> Result<T>;
}

impl<T, E: Into<Error>> OrBadInput<T> for Result<T, E> {
    fn bad_input(self) -> Result<T> {
        self.map_err(|error| refused(error.into()))
    }
}

fn refused(error: Error) -> Error {
    match error {
        Error::Failed(cause) => Error::Refused(cause),
        Error::At { place, source } => refused(*source).at(place),
        other => other,
    }
}
