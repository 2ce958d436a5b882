//! The engine beside the forward pass, and beside itself.

mod equalities;
mod spans;
