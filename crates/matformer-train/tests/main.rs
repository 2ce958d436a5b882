//! Training on whichever device `MATFORMER_DEVICE` names (default: the best there is).

#[cfg(all(feature = "flex", any(feature = "wgpu", feature = "cuda")))]
mod backends;
mod checkpoints;
mod distill;
mod guard;
mod optimizer;
mod overfit;
mod runs;
mod support;
