//! The performance-critical operations of an elastic transformer.
//!
//! Each is a function over [`Tensor`](burn::tensor::Tensor)s that calls a method of
//! [`NnBackend`], whose default body is composed of the backend's own operations and serves as
//! the reference. A backend overrides a method where a kernel of its own is faster. Gradients
//! are handwritten once for all backends, with the methods of [`NnKernels`].

mod activation;
mod adamw;
mod attention;
#[cfg(test)]
mod attention_tests;
mod attention_tiles;
mod autodiff;
mod backend;
mod cross_entropy;
// One backend for wgpu and CUDA: the device selects which.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod distillation;
mod divergence;
#[cfg(test)]
mod divergence_tests;
#[cfg(test)]
mod ffn_tests;
#[cfg(feature = "flex")]
mod flex;
mod groups;
mod head;
mod layer_norm;
mod linear;
mod nested_ffn;
mod precision;
mod rms_norm;
mod rope;
mod rows;
mod softmax;
#[cfg(test)]
mod tests;

pub use activation::Gate;
pub(crate) use activation::gated;
pub use adamw::{AdamWStep, adamw, sum_of_squares};
pub use attention::{AttentionSpec, Mask, attention};
pub use backend::{NnBackend, NnKernels, StepBackend};
pub use cross_entropy::{CrossEntropySaved, cross_entropy};
pub use distillation::{DistillationWeights, Distilled, distillation};
pub use divergence::{
    Direction, Divergence, DivergenceTensors, Headed, divergence, divergence_of_logits,
};
pub use head::{Head, HeadGradients};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use nested_ffn::{
    FfnGradients, FfnSaved, FfnSpec, FfnTensors, FfnWeights, nested_ffn, stack_rows,
};
pub use rms_norm::rms_norm;
pub use rope::{RopeRule, RopeTable};
pub use rows::RowBackend;
