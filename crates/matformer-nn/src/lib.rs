#![doc = include_str!("../README.md")]

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

pub use device::DeviceSpec;
pub use elastic::{Elastic, Hidden, RowLoss};
pub use error::{Error, Result};
pub use folder::Folder;
pub use modules::{Activation, Attention, AttentionConfig, NestedFfn, NestedFfnConfig, Positions};
pub use params::nested_layer;
pub use state::{KvCache, State};
pub use walk::{Walked, row_losses, walk};
