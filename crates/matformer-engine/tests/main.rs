//! The engine beside the walk, and beside itself.

mod equalities;
mod spans;
