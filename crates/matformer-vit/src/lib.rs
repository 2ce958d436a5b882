#![doc = include_str!("../README.md")]

mod adapt;
mod config;
mod costs;
mod error;
mod folder;
pub mod hugging_face;
mod model;
mod preset;
mod stem;

pub use adapt::adapted;
pub use config::{MatVitConfig, Pooling};
pub use costs::costs;
pub use error::{Error, Result};
pub use model::{Images, MatVit, VitTarget};
pub use preset::{PRESETS, preset};
pub use stem::Stem;
