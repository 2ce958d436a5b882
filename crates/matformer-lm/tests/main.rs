//! MatLM on whichever device `MATFORMER_DEVICE` names (default: the best there is).

#[path = "../../matformer-nn/tests/compare.rs"]
mod compare;
mod equalities;
mod families;
mod folders;
mod golden;
mod spans;
mod support;
