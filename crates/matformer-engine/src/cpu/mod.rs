//! Decoding on the CPU: weights packed, a step's tokens through one pass over them, threads that stay awake.

mod attend;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bandwidth;
mod cache;
mod decoder;
mod dot;
mod inputs;
mod levels;
mod load;
mod matrix;
mod panel;
mod ring;
mod rope;
mod team;
mod weights;

pub use bandwidth::bandwidth;
pub(crate) use decoder::{Decoder, Row};
pub(crate) use weights::Weights;

/// Threads of this machine.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
