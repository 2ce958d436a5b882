//! The `matformer` binary from end to end: what it prints, writes, refuses and gives back.
//!
//! Snapshots hold what a person reads; `cargo insta review` goes through those that changed.

#[macro_use]
mod support;

mod bad_input;
mod eval;
mod generate;
mod help;
mod info;
mod report;
mod resume;
mod score;
mod slice;
mod train;
