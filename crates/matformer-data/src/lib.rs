#![doc = include_str!("../README.md")]

mod ahead;
mod arrow;
mod augment;
mod baselines;
mod batches;
mod blocks;
mod cache;
mod census;
mod chat;
mod config;
mod conversation;
mod counts;
mod encode;
mod error;
mod format;
mod hash;
mod held_out;
mod hub;
pub mod images;
mod inputs;
mod json;
mod lost;
mod parquet;
mod parquet_rows;
mod paths;
mod permutation;
mod pieces;
mod prepare;
mod prepared;
mod progress;
mod record;
mod records;
mod rows;
mod shard;
mod source;
mod special;
mod splits;
mod survey;
mod table;
mod text_stream;
mod tokenizer;
mod tokenizer_source;
mod tokens;
mod walk;
mod words;

pub use ahead::Ahead;
pub use augment::{Augment, AugmentConfig, RandAugment};
pub use baselines::{Baselines, ByteCounts, baselines};
pub use batches::{BatchShape, Batches, HostBatch};
pub use chat::{CHAT_TEMPLATE_FILE, ChatTemplate, Conversation, LaidOut};
pub use config::{DataConfig, MIN_VOCAB_SIZE, WeightedSource};
pub use counts::{BadRow, Dropped};
pub use error::{Error, Result};
pub use format::TEXT_SUFFIXES;
pub use hash::{Hash, Hasher};
pub use held_out::{Half, HeldOut, Window};
pub use hub::{HubFile, hub_files};
pub use images::{
    Copies, ImageBatch, ImageBatches, ImageConfig, ImageLayout, ImagePair, ImageSet, ImageShape,
    ImageSummary, MAX_IMAGE_PIXELS, MAX_IMAGE_SIZE, PixelSizes, PreparedImages, Resized, Skipped,
    SkippedImage, SplitImages, Unended, UnreadFolder, composed, find_prepared_images,
    prepare_images, spread, survey_images,
};
pub use lost::Lost;
pub use prepare::{find_prepared, find_prepared_for, prepare, prepare_for};
pub use prepared::{Prepared, SourceSize, SplitSize, Summary};
pub use progress::{Progress, Stage};
pub use records::{Record, first_records, records};
pub use shard::{DocumentSpan, Shard, ShardWriter};
pub use source::{Folder, HubName, Source};
pub use special::{END_OF_TEXT, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
pub use survey::{ImageSurvey, TextSurvey, holds_images, survey_text};
pub use text_stream::TextStream;
pub use tokenizer::{TRAINING_SAMPLE_BYTES, TokenSpan, Tokenizer};
pub use walk::PassedOver;
