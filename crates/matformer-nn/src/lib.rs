#![doc = include_str!("../README.md")]

pub mod agreement;
pub mod config;
mod config_file;
mod convert;
pub mod device;
mod elastic;
mod error;
#[cfg(test)]
mod family_tests;
pub mod folder;
pub mod hardware;
pub mod importance;
pub mod init;
pub mod machine;
pub mod math;
pub mod memory;
mod modules;
pub mod ops;
pub mod packed;
pub mod params;
mod slice;
mod state;
mod walk;
mod weight;
pub mod weights;

pub use config::ModelConfig;
pub use config_file::ConfigFile;
pub use convert::{converted, extract, standalone, with_config};
pub use device::DeviceSpec;
pub use elastic::{
    Elastic, Hidden, Output, Pass, RowLoss, Taught, TaughtLoss, likeliest, residual, sum_by_row,
};
pub use error::{Error, Result};
pub use folder::Folder;
pub use importance::{Activations, Importance, Tap};
pub use modules::{
    Activation, Attention, AttentionConfig, Linear, NestedFfn, NestedFfnConfig, project,
};
pub use packed::{Packed, PackedFormat};
pub use params::{layer_of, nested_axis, nested_layer};
pub use slice::{Slice, SliceOptions, slice};
pub use state::{BatchPart, KvCache, Noise, State};
pub use walk::{Part, Walked, row_losses, walk, walk_through};
pub use weight::Weight;
