#![doc = include_str!("../README.md")]

pub mod cache;
mod error;
mod files;
pub mod folder;
pub mod generate;
mod images;
pub mod import;
pub mod info;
pub mod kind;
mod places;
pub mod runs;
mod session;
pub mod slice;
pub mod synthetic;
mod text;
pub mod train;
pub mod typed;

pub use error::{Cause, Error, Hinted, OrBadInput, Result, chain};
pub use files::Files;
pub use folder::ModelFolder;
pub use images::VitBatches;
pub use kind::{Against, Data, Facts, Kind, Part, Source};
pub use places::{check_is_data, run_file_of, starter};
pub use session::{Bar, Session, Watch};
pub use text::TextBatches;
