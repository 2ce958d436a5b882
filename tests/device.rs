//! The tests of the model and training crates that run on a device, as one program: `cargo xtask gpu pack` carries it.

#[path = "../crates/matformer-lm/tests/main.rs"]
mod lm;
#[path = "../crates/matformer-train/tests/main.rs"]
mod train;
#[path = "../crates/matformer-vit/tests/main.rs"]
mod vit;
