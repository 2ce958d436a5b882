//! Training on whichever device `MATFORMER_DEVICE` names (default: the best there is).

#[cfg(feature = "flex")]
mod backends;
mod checkpoints;
#[path = "../examples/custom_model.rs"]
#[allow(dead_code)]
mod custom_model;
mod distill;
mod guard;
mod muon;
mod optimizer;
mod overfit;
mod ranks;
mod rounds;
mod runs;
mod support;

/// The model of the example is of neither kind.
#[test]
fn a_model_that_is_defined_elsewhere_trains() {
    custom_model::main().unwrap();
}
