//! What can be wrong with a recipe, or with the buffers it is given.

/// What can be wrong with a recipe, or with the buffers it is given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// A field of [`AugmentConfig`](crate::AugmentConfig) has an impossible value.
    #[error("`data.augment.{field}` is {found}, expected: {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// An image of no pixels, or of too many.
    #[error("`{what}` is {found}, expected: from 1 to {most}")]
    Size {
        /// `from`, `to` or `channels`.
        what: &'static str,
        /// What was asked for.
        found: usize,
        /// The largest.
        most: usize,
    },
    /// A buffer is not as long as its shape says.
    #[error("`{what}` has {found} values, expected: {expected}")]
    Length {
        /// The buffer.
        what: &'static str,
        /// Its values.
        found: usize,
        /// The product of its shape.
        expected: usize,
    },
    /// An image cannot be resized.
    #[error("an image cannot be resized: {reason}")]
    Resize {
        /// What is wrong.
        reason: String,
    },
    /// A label names no class.
    #[error("row {row} has label {found}, expected: below {classes}")]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its label.
        found: usize,
        /// How many classes there are.
        classes: usize,
    },
}
