#![doc = include_str!("../README.md")]

mod answer;
mod api;
mod ask;
mod chat;
mod choice;
mod completions;
mod connection;
mod error;
mod fields;
mod metrics;
mod model;
mod options;
mod page;
mod reply;
mod score;
mod server;
mod state;
mod tokens;
mod worker;

pub use error::{Error, Result};
pub use model::{Loss, Resolve, ServedModel, Size};
pub use options::{Limits, Log, ServeOptions};
pub use server::{Ended, Server, Stopper};
