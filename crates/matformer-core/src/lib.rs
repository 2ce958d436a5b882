#![doc = include_str!("../README.md")]

mod cost;
mod draw;
mod error;
pub mod fs;
mod granularity;
mod guard;
mod manifest;
mod measurement;
pub mod mix;
mod named;
mod plan;
pub mod rng;
mod space;
mod span;
mod spec;
mod submodel;
pub mod units;

pub use cost::{CostTable, Costs, Resource};
pub use draw::{Draw, StepDraw};
pub use error::{Error, Result};
pub use granularity::{Granularities, Granularity};
pub use guard::{guarded, quiet_guarded};
pub use manifest::{Dtype, Manifest, Provenance, SliceFacts};
pub use measurement::{Key, Measurement, Measurements};
pub use mix::{curve, in_between, mix_n_match, neighbours};
pub use named::{Named, Names};
pub use plan::{Block, Plan, Unit, rings};
pub use space::{DEFAULT_MULTIPLE, Space};
pub use span::{Span, Spans};
pub use spec::{Budget, SubmodelSpec};
pub use submodel::Submodel;
