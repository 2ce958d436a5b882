#![doc = include_str!("../README.md")]

mod adapt;
mod config;
mod costs;
mod error;
mod folder;
mod model;
mod preset;

pub use adapt::adapted;
pub use config::{MatVitConfig, Pooling};
pub use costs::costs;
pub use error::{Error, Result};
pub use model::{Images, MatVit, Stem, VitTarget};
pub use preset::{PRESETS, preset};
