#![doc = include_str!("../README.md")]

mod card;
mod checkpoint;
mod companions;
mod describe;
mod gemma3n;
#[cfg(feature = "gguf")]
pub mod gguf;
mod import;
mod import_lm;
mod names;
mod preprocessor;
mod timm;
mod widths;

pub use card::{CARD, inherited, license};
pub use checkpoint::{Checkpoint, HfFolder, TensorFacts, files_of};
pub use companions::companions;
pub use gemma3n::{
    Gemma3nPlan, Gemma3nWidths, Run as Gemma3nRun, SlicedGemma3n, is_gemma3n, slice_gemma3n,
};
pub use import::{ImportedVit, import_vit};
pub use import_lm::{LeftOut, LmImport};
pub use matformer_nn::{Error, Result};
pub use preprocessor::{PREPROCESSOR_FILE, Preprocessor};
pub use timm::{NORM_EPS, save_timm, save_timm_as};
pub use widths::default_widths;

/// How the numbers of a pixel become a model's input: `(value − mean) / std`, per channel, of values
/// from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel.
    pub std: Vec<f64>,
}
