#![doc = include_str!("../README.md")]

mod cpu;
mod engine;
mod error;
mod generate;
mod request;
mod sampling;
mod stepper;

pub use engine::{Engine, EngineOptions};
pub use error::{Error, Result};
pub use generate::{Answer, generate};
pub use request::{Draft, DraftLen, Drafted, Event, Finish, Logprobs, Policy, Request, RequestId};
pub use sampling::Sampling;

/// How the matrices of a model are held while it decodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// Blocks of 32 values, each a scale and signed bytes (GGML's `q8_0`); the inputs of products are rounded in the
    /// same way.
    Q8_0,
}
