//! How far the preparation of data is.

use std::fmt;

/// What [`prepare`](crate::prepare) or [`prepare_images`](crate::prepare_images) is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Downloading what has a name instead of a path.
    Download,
    /// Waiting for another process that prepares the same data.
    Wait,
    /// Reading the documents.
    Read,
    /// Training the tokenizer.
    Tokenizer,
    /// Encoding the documents.
    Encode,
    /// Finding and decoding the images.
    Images,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "downloading",
            Self::Wait => "waiting for another process that prepares the same data",
            Self::Read => "reading documents",
            Self::Tokenizer => "training the tokenizer",
            Self::Encode => "encoding documents",
            Self::Images => "decoding images",
        })
    }
}

/// How far [`prepare`](crate::prepare) or [`prepare_images`](crate::prepare_images) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes that are done: of files while they are downloaded, read, or decoded as images, of text
    /// after that.
    pub done: usize,
    /// Bytes in all; 0 while that is unknown.
    pub total: usize,
}
