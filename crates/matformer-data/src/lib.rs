#![doc = include_str!("../README.md")]

mod baselines;
mod batches;
mod config;
mod crates;
mod documents;
mod error;
mod hash;
mod held_out;
mod prepare;
mod shard;
mod tokenizer;

pub use baselines::{Baselines, ByteCounts, baselines};
pub use batches::{BatchShape, Batches, HostBatch};
pub use config::{CORPUS_MAX_FILE_BYTES, DataConfig, MIN_VOCAB_SIZE};
pub use documents::{Document, Documents, Dropped, TEXT_SUFFIXES};
pub use error::{Error, Result, ShardFault};
pub use hash::Hash;
pub use held_out::{HeldOut, Window};
pub use prepare::{Prepared, Progress, SplitSize, Stage, Summary, prepare};
pub use shard::{DocumentSpan, Shard};
pub use tokenizer::{
    END_OF_TEXT, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, TRAINING_SAMPLE_BYTES, TokenSpan, Tokenizer,
};
