#![doc = include_str!("../README.md")]

mod cpu;
mod drafting;
mod engine;
mod error;
mod format;
mod generate;
mod model;
mod request;
mod running;
mod sampling;
mod spec;
mod stepper;

pub use cpu::bandwidth;
pub use engine::{Engine, EngineOptions};
pub use error::{Error, Result};
pub use format::Format;
pub use generate::{Answer, Heard, generate};
pub use model::{EngineModel, Opened};
pub use request::{
    Draft, DraftCache, DraftLen, Drafted, Event, Finish, Logprobs, Policy, Request, RequestId,
};
pub use sampling::Sampling;
pub use spec::{DraftSpec, PolicySpec};
