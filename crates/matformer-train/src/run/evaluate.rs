//! Evaluation during training.

use burn::tensor::Tensor;
use matformer_core::{Plan, Submodel};
use matformer_nn::{Folder, State, row_losses, walk};

use super::Loop;
use crate::{Error, HeldOut, Interrupter, MetricsLine, Result};

impl<M: Folder + 'static> Loop<M> {
    /// Measures the held-out loss of every granularity, with one walk per batch. If `interrupter`
    /// stops it, nothing is recorded.
    pub(super) fn evaluate(&mut self, interrupter: Option<&Interrupter>) -> Result<()> {
        let model = self.trainer.evaluated();
        let space = model.space();
        let names = space.granularities.names();
        let submodels =
            names.iter().map(|name| space.uniform(name)).collect::<Result<Vec<Submodel>, _>>()?;
        let plan = Plan::merged(&submodels)?;
        let (mut nats, mut counts) = (vec![0.0; names.len()], vec![0; names.len()]);
        let mut losses = Vec::new();
        self.observer.evaluation_starts(self.batches.held_out_len());
        for index in 0..self.batches.held_out_len() {
            if interrupter.is_some_and(Interrupter::should_stop) {
                return Ok(());
            }
            let batch = self
                .batches
                .held_out(&model, index)
                .map_err(|source| Error::Batch { index: index as u64, source })?;
            let walked = walk(&model, &batch.input, &plan, &mut State::new())?;
            for (i, loss) in row_losses(&model, &walked, &batch.target).into_iter().enumerate() {
                nats[i] += sum(loss.nats)?;
                counts[i] += loss.counts.iter().sum::<usize>();
            }
            let so_far = |i: usize| nats[i] / counts[i].max(1) as f64;
            losses = names.iter().enumerate().map(|(i, n)| ((*n).to_owned(), so_far(i))).collect();
            self.observer.evaluation_progress(index + 1, &losses);
        }
        let step = self.trainer.steps_done();
        if let Some((_, value)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            let error = Error::NonFinite {
                what: "held-out loss",
                value: *value,
                step,
                checkpoint: "none".to_owned(),
                suspects: self.options.config.suspects(),
            };
            return Err(self.with_checkpoint(error));
        }
        let held_out = HeldOut { step, held_out: losses.into_iter().collect() };
        self.observer.evaluation_ends(&held_out);
        self.held_out_mean = Some(held_out.mean());
        self.log.push(MetricsLine::HeldOut(held_out.clone()));
        self.held_out = Some(held_out);
        Ok(())
    }
}

fn sum(nats: Tensor<1>) -> Result<f64> {
    let rows: Vec<f32> =
        nats.try_into_vec_as().map_err(|e| matformer_nn::Error::read("held-out loss", e))?;
    Ok(rows.into_iter().map(f64::from).sum())
}
