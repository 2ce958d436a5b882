//! Calibration: what the feed-forward neurons of a model do on training data.

use std::ops::Range;

use burn::module::Module;
use matformer_core::Plan;
use matformer_nn::{Activations, Elastic, State, Tap, walk};

use crate::{Batches, Error, Result};

/// Sums the activations of every feed-forward neuron over training batches, at full width: one entry
/// per layer. Give a model without gradients (`valid()`). `progress` gets the index behind each batch
/// that is done.
///
/// # Errors
/// When a batch cannot be read, or a layer of the model adds nothing to the tap.
pub fn calibrate<M: Elastic + Module>(
    model: &M,
    batches: &dyn Batches<M>,
    indices: Range<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Activations>> {
    let space = model.space();
    let plan = Plan::one(&space.largest());
    let mut sums = vec![Activations::default(); space.n_layers];
    for index in indices {
        let batch = batches.train(model, index).map_err(|source| Error::Batch { index, source })?;
        let mut state = State::with_tap(Tap::new());
        walk(model, &batch.input, &plan, &mut state)?;
        let found = state.into_tap().unwrap_or_default().read(space.n_layers)?;
        sums.iter_mut().zip(&found).for_each(|(sum, found)| sum.add(found));
        progress(index + 1);
    }
    Ok(sums)
}
