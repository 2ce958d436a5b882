#![doc = include_str!("../README.md")]

pub mod config;
mod config_file;
mod configured;
pub mod device;
mod elastic;
mod error;
pub mod folder;
pub mod init;
mod modules;
pub mod ops;
pub mod params;
mod state;
mod walk;
pub mod weights;

pub use config::ModelConfig;
pub use config_file::ConfigFile;
pub use configured::{converted, extract, with_config};
pub use device::DeviceSpec;
pub use elastic::{Elastic, Hidden, Output, Pass, RowLoss, sum_by_row};
pub use error::{Error, Result};
pub use folder::Folder;
pub use modules::{Activation, Attention, AttentionConfig, NestedFfn, NestedFfnConfig, project};
pub use params::nested_layer;
pub use state::{KvCache, Noise, State};
pub use walk::{Part, Walked, row_losses, walk, walk_through};
