#![doc = include_str!("../README.md")]

mod config;
mod costs;
mod error;
mod families;
mod folder;
mod model;
mod options;
mod preset;
mod score;
mod special;

pub use config::MatLmConfig;
pub use costs::costs;
pub use error::{Error, Result};
pub use model::{LmTarget, MatLm, Tokens};
pub use options::{RopeScaling, Window};
pub use preset::{PAPER_TABLE, PaperModel, Preset};
pub use score::score;
pub use special::SpecialTokens;
