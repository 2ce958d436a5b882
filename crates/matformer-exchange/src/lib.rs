#![doc = include_str!("../README.md")]

mod error;
mod exchange;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;

pub use error::{Error, Result};
pub use exchange::{Exchange, Fact, Transport};
pub use launch::{Launch, Launcher};
pub use threads::threads;
