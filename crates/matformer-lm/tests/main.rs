//! MatLM on whichever device `MATFORMER_DEVICE` names (default: the best there is).

#[path = "../../matformer-nn/tests/compare.rs"]
mod compare;
mod equalities;
mod families;
mod family_keys;
mod folders;
mod golden;
mod importance;
mod spans;
mod support;
