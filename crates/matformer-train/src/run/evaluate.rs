//! Evaluation during training.

use burn::tensor::Tensor;
use matformer_core::{Plan, Submodel};
use matformer_nn::{Folder, State, row_losses, walk};

use super::Loop;
use crate::{Error, HeldOut, Interrupter, MetricsLine, Result};

impl<M: Folder + 'static> Loop<M> {
    /// Measures the held-out loss of every granularity, with one forward pass per batch. If `interrupter`
    /// stops it, nothing is recorded.
    pub(super) fn evaluate(&mut self, interrupter: Option<&Interrupter>) -> Result<()> {
        let model = self.trainer.evaluated();
        let space = model.space();
        let names = space.granularities.names();
        let submodels =
            names.iter().map(|name| space.uniform(name)).collect::<Result<Vec<Submodel>, _>>()?;
        let plan = Plan::merged(&submodels)?;
        self.observer.evaluation_starts(self.batches.held_out_len());
        let sums = self.held_out_sums(&model, &plan, interrupter);
        let sums = self.agree(sums)?;
        let exchange = &self.options.exchange;
        if exchange.any(sums.is_none()) {
            return Ok(());
        }
        let mut sums = sums.unwrap_or_default();
        exchange.sum_f64(&mut sums.nats);
        exchange.sum_f64(&mut sums.counts);
        let losses = sums.losses(0, &names);
        let step = self.trainer.steps_done();
        if let Some((_, value)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            let error = Error::NonFinite {
                what: "held-out loss",
                value: *value,
                step,
                checkpoint: "none".to_owned(),
                suspects: self.options.config.suspects(),
            };
            // The same on all ranks.
            return self.agree(Err(self.with_checkpoint(error)));
        }
        let of = |source: usize| sums.losses(1 + source, &names).into_iter().collect();
        let sources = (0..self.held_out_sources()).map(of).collect();
        let held_out = HeldOut { step, held_out: losses.into_iter().collect(), sources };
        self.observer.evaluation_ends(&held_out);
        self.held_out_mean = Some(held_out.mean());
        self.push(MetricsLine::HeldOut(held_out.clone()));
        self.held_out = Some(held_out);
        Ok(())
    }

    /// How many sources the held-out batches are of, where the data has several.
    fn held_out_sources(&self) -> usize {
        let batches = 0..self.batches.held_out_len();
        let of = |index| Some(self.batches.held_out_source(index)? + 1);
        batches.filter_map(of).max().unwrap_or_default()
    }

    /// The sums of this rank's share of the held-out batches: every so many of them. `None` if
    /// `interrupter` has stopped it.
    fn held_out_sums(
        &mut self,
        model: &M,
        plan: &Plan,
        interrupter: Option<&Interrupter>,
    ) -> Result<Option<Sums>> {
        let (rank, world) = (self.options.exchange.rank(), self.options.exchange.world());
        let n = plan.submodels().len();
        let names = model.space().granularities.names();
        let zeros = vec![0.0; n * (1 + self.held_out_sources())];
        let mut sums = Sums { nats: zeros.clone(), counts: zeros };
        let len = self.batches.held_out_len();
        for index in (rank..len).step_by(world) {
            if interrupter.is_some_and(Interrupter::should_stop) {
                return Ok(None);
            }
            let batch = self
                .batches
                .held_out(model, index)
                .map_err(|source| Error::Batch { index: index as u64, source })?;
            let walked = walk(model, &batch.input, plan, &mut State::new())?;
            let source = self.batches.held_out_source(index);
            for (i, loss) in row_losses(model, &walked, &batch.target).into_iter().enumerate() {
                let (nats, count) = (sum(loss.nats)?, loss.counts.iter().sum::<usize>() as f64);
                for part in [Some(0), source.map(|source| 1 + source)].into_iter().flatten() {
                    sums.nats[part * n + i] += nats;
                    sums.counts[part * n + i] += count;
                }
            }
            // The others are about as far.
            let done = (index - rank + world).min(len);
            self.observer.evaluation_progress(done, &sums.losses(0, &names));
        }
        Ok(Some(sums))
    }
}

/// Of each granularity: on all held-out batches, then on those of each source.
#[derive(Default)]
struct Sums {
    nats: Vec<f64>,
    counts: Vec<f64>,
}

impl Sums {
    /// Nats per target by granularity, of those that were measured: of all batches (part 0), or of a source.
    fn losses(&self, part: usize, names: &[&str]) -> Vec<(String, f64)> {
        let sums = self.nats.iter().zip(&self.counts).skip(part * names.len());
        let sums = names.iter().zip(sums).map(|(name, (nats, count))| ((name, nats), count));
        let measured = sums.filter(|(_, count)| **count > 0.0);
        measured.map(|((name, nats), count)| ((*name).to_owned(), nats / count)).collect()
    }
}

fn sum(nats: Tensor<1>) -> Result<f64> {
    let rows: Vec<f32> =
        nats.try_into_vec_as().map_err(|e| matformer_nn::Error::read("held-out loss", e))?;
    Ok(rows.into_iter().map(f64::from).sum())
}
