//! Tokenizers: between the metadata of a GGUF file and the files of Hugging Face.

mod merges;
mod pre;
mod read;
mod special;
mod tokens;
mod vocabulary;
mod write;

pub(super) use read::{TokenizerFiles, files};
pub(super) use tokens::Sources;
pub(super) use write::metadata;

/// What a token is, as `tokenizer.ggml.token_type` numbers it.
mod token_type {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const UNUSED: i64 = 5;
    pub(super) const BYTE: i64 = 6;
}

/// How SentencePiece writes a space.
const SPACE: &str = "▁";
