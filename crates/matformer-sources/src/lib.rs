#![doc = include_str!("../README.md")]

mod archive;
mod client;
mod decode;
mod error;
mod fetch;
mod files;
mod https;
mod part;
mod record;
mod resolve;
mod table;

pub use decode::{Content, Decoder};
pub use error::{Error, Result};
pub use fetch::{Fetched, Progress, fetch};
pub use files::Files;
pub use part::Attempt;
pub use record::{PartRecord, Record};
pub use resolve::{fetch_text, is_cached, locate_text, model, model_file, resolve_images, sets};
pub use table::{Part, Source, Sources};
