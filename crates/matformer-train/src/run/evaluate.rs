//! Held-out losses while training.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use burn::{data::dataloader::Progress as BurnProgress, tensor::Tensor};
use burn_train::{
    EventProcessorTraining, Interrupter, LearnerEvent, SupervisedTrainingEventProcessor,
    TrainingItem,
};
use matformer_core::{Plan, Submodel};
use matformer_nn::{Folder, State, row_losses, walk};

use super::{Loop, say::say, strategy::loss_name};
use crate::{
    Error, HeldOut, MetricsLine, Result,
    dashboard::{Shell, Values},
};

/// A measurement that takes longer says how far it is.
const SAY_AFTER: Duration = Duration::from_secs(5);

impl<M: Folder + 'static> Loop<M> {
    /// Measures the held-out losses, with the dashboard looking on.
    pub(super) fn evaluate(
        &mut self,
        epoch: usize,
        events: &mut SupervisedTrainingEventProcessor<Shell>,
        interrupter: &Interrupter,
    ) -> Result<()> {
        let (total_items, finish) = (self.batches.held_out_len(), Interrupter::new());
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items };
        interrupter.fail_on_error(events.process_valid(start));
        // To its end, also when a stop was asked for: a resumed run would not come back to it.
        self.measure(&finish, |done, losses| {
            let values = losses.iter().map(|(name, loss)| (loss_name(name), *loss));
            let item = TrainingItem::new(
                Values(Arc::new(values.collect())),
                BurnProgress::new(done, total_items, Some("batches".to_owned())),
                Some(done),
                None,
            );
            interrupter.fail_on_error(events.process_valid(LearnerEvent::ProcessedItem(item)));
        })?;
        interrupter.fail_on_error(events.process_valid(LearnerEvent::EndSplit(epoch)));
        Ok(())
    }

    /// What the losses are before the first step, unless a stop is asked for meanwhile.
    pub(super) fn measure_before(&mut self) -> Result<()> {
        let (total, interrupter) = (self.batches.held_out_len(), self.options.interrupter.clone());
        let (progress, mut said) = (self.options.progress, Instant::now());
        self.measure(&interrupter, |done, _| {
            if said.elapsed() > SAY_AFTER && done < total {
                said = Instant::now();
                say(progress, format_args!("before the first step: {done} of {total} batches"));
            }
        })
    }

    /// Held-out loss of every granularity, in one walk per batch; `see` gets the batches done and
    /// the losses so far. Gives up, with nothing written down, when `interrupter` stops it.
    fn measure(
        &mut self,
        interrupter: &Interrupter,
        mut see: impl FnMut(usize, &[(String, f64)]),
    ) -> Result<()> {
        let model = self.trainer.evaluated();
        let space = model.space();
        let names = space.granularities.names();
        let submodels =
            names.iter().map(|name| space.uniform(name)).collect::<Result<Vec<Submodel>, _>>()?;
        let plan = Plan::merged(&submodels)?;
        let (mut nats, mut counts) = (vec![0.0; names.len()], vec![0; names.len()]);
        let mut losses = Vec::new();
        for index in 0..self.batches.held_out_len() {
            if interrupter.should_stop() {
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
            see(index + 1, &losses);
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
        self.say_held_out(&held_out);
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
