#![doc = include_str!("../README.md")]

mod config;
mod costs;
mod error;
mod folder;
mod model;

pub use config::{MatVitConfig, Pooling};
pub use costs::costs;
pub use error::{Error, Result};
pub use model::{Images, MatVit, VitTarget};
