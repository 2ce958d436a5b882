//! How far the making of a corpus is.

use std::fmt;

/// What [`prepare`](crate::prepare) is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Downloading what has a name instead of a path.
    Download,
    /// Reading the documents.
    Read,
    /// Training the tokenizer.
    Tokenizer,
    /// Encoding the documents.
    Encode,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "downloading",
            Self::Read => "reading documents",
            Self::Tokenizer => "training the tokenizer",
            Self::Encode => "encoding documents",
        })
    }
}

/// How far [`prepare`](crate::prepare) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes that are done: of files while they are downloaded and read, of text after that.
    pub done: usize,
    /// Bytes in all; 0 while that is unknown.
    pub total: usize,
}
