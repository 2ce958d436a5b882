#![doc = include_str!("../README.md")]

mod cpu;
mod engine;
mod error;
mod format;
mod generate;
mod request;
mod sampling;
mod stepper;

pub use engine::{Engine, EngineOptions};
pub use error::{Error, Result};
pub use format::Format;
pub use generate::{Answer, generate};
pub use request::{Draft, DraftLen, Drafted, Event, Finish, Logprobs, Policy, Request, RequestId};
pub use sampling::Sampling;
